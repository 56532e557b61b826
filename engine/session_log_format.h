// The rows of a session log as bytes. Each is versioned and carries an XXH3 checksum over its key,
// its sequence and its content, so that a row that is cut short, changed or in another's place is
// told from a good one, whatever its bytes are.
#pragma once

#include <compare>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/session_log.h"

namespace rasq {

// Where a row stands. Rows sort by key, then sequence. Sequence 0 is the session itself, n is its
// n-th entry.
struct LogRow {
  int64_t key = 0;
  int64_t sequence = 0;  // >= 0
  auto operator<=>(const LogRow&) const = default;
};
// In place of a session: row n says that the log's n-th write is on disk. A gap among these is a
// write that was lost, whose sessions may show no gap of their own.
inline constexpr int64_t kLogWrites = -1;
// One past the last row of a key.
inline LogRow EndOfLogRows(int64_t key) { return {key, std::numeric_limits<int64_t>::max()}; }

struct LogSessionRow {
  int64_t state_sequence = 0;
  std::string state_file;
  std::string record;
};

std::string EncodeLogRow(LogRow row);
std::optional<LogRow> DecodeLogRow(absl::string_view bytes);

// `content` begins with the version; here it gets its checksum. The encoders below end with it.
std::string SealLogRow(LogRow row, std::string content);
std::string EncodeLogSession(LogRow row, const LogSessionRow& session);
std::string EncodeLogEntry(LogRow row, const LogEntry& entry);
// Any bytes are fine. kDataLoss if they are not what was encoded for `row`; kFailedPrecondition if
// they are whole, but of a version of the program that is newer than this.
absl::StatusOr<LogSessionRow> DecodeLogSession(LogRow row, absl::string_view bytes);
absl::StatusOr<LogEntry> DecodeLogEntry(LogRow row, absl::string_view bytes);

}  // namespace rasq
