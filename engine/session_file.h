// A session in a file: its record and its slab. One format serves parked
// sessions, checkpoints of durable ones, and snapshots.
//
// The file: "RASQSESS", version (uint32), bytes of the header (uint32), bytes of the slab (uint64),
// XXH3-64 of the header, of the slab, and of the 40 bytes so far; then the header, which is
// the record, and the slab. Little endian. Written under another name, synced and
// renamed: a file of the right name is whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/session_record.h"

namespace rasq {

struct SessionFileHeader {
  SessionRecord record;
  int64_t state_bytes = 0;  // 0: a session without tokens in its slab
  int64_t file_bytes = 0;
};

// `where` stands for the path in errors, which may go to a client.

// kResourceExhausted if the disk is full, kUnavailable for its other faults; then no file of that
// name is new. `state` is in host memory.
absl::Status WriteSessionFile(const std::string& path, absl::string_view where,
                              const SessionRecord& record, absl::Span<const std::byte> state);
// How long that file is.
int64_t SessionFileBytes(const SessionRecord& record, int64_t state_bytes);
// kNotFound, or kDataLoss if the file is damaged, or kFailedPrecondition if it is of another
// version. The header alone is read and checked.
absl::StatusOr<SessionFileHeader> ReadSessionHeader(const std::string& path,
                                                    absl::string_view where);
// The slab alone. kDataLoss also if it is not as long as `state`.
absl::Status ReadSessionState(const std::string& path, absl::string_view where,
                              absl::Span<std::byte> state);
// Both, of one file, whatever takes its name meanwhile. `place` says where the slab of that header
// goes; it is not called if there is none.
absl::StatusOr<SessionRecord> ReadSessionFile(
    const std::string& path, absl::string_view where,
    const std::function<absl::StatusOr<absl::Span<std::byte>>(const SessionFileHeader&)>& place);

}  // namespace rasq
