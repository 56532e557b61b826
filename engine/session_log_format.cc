#include "engine/session_log_format.h"

#include <xxhash.h>

#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

// Of both kinds of rows. The first byte; a change of either layout is a new version.
constexpr uint8_t kVersion = 1;
constexpr size_t kChecksumBytes = sizeof(uint64_t);
constexpr uint64_t kSign = uint64_t{1} << 63;

uint64_t Checksum(LogRow row, absl::string_view bytes) {
  const std::string place = EncodeLogRow(row);
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), XXH3_64bits(place.data(), place.size()));
}

// Numbers stand as in memory: Rasq runs on little-endian machines only.
class Writer {
 public:
  Writer() { Number(kVersion); }

  template <typename T>
  void Number(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void Bytes(absl::string_view bytes) {
    Number<uint64_t>(bytes.size());
    bytes_.append(bytes.data(), bytes.size());
  }
  template <typename T>
  void Array(const std::vector<T>& values) {
    Number<uint64_t>(values.size());
    bytes_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  }
  std::string Finish(LogRow row) && { return SealLogRow(row, std::move(bytes_)); }

 private:
  std::string bytes_;
};

// Past the end, and for a size that the bytes left cannot hold, everything reads as zero or empty,
// and Finish says so.
class Reader {
 public:
  // Checks the frame; what stands in it is read by the rest.
  Reader(LogRow row, absl::string_view bytes) {
    if (bytes.size() <= kChecksumBytes) {
      status_ = absl::DataLossError("cut short");
      return;
    }
    left_ = bytes.substr(0, bytes.size() - kChecksumBytes);
    uint64_t checksum;
    std::memcpy(&checksum, bytes.data() + left_.size(), sizeof(checksum));
    if (checksum != Checksum(row, left_)) {
      status_ = absl::DataLossError("wrong checksum");
    } else if (const auto version = Number<uint8_t>(); version != kVersion) {
      status_ = absl::FailedPreconditionError(
          absl::StrCat("version=", version, " of the row is not ", kVersion,
                       ": a newer rasq-server wrote it; start that one"));
    }
  }

  template <typename T>
  T Number() {
    T value = 0;
    const absl::string_view bytes = Take(sizeof(value));
    if (!bytes.empty()) std::memcpy(&value, bytes.data(), sizeof(value));
    return value;
  }
  std::string Bytes() { return std::string(Take(Number<uint64_t>())); }
  template <typename T>
  std::vector<T> Array() {
    const auto size = Number<uint64_t>();
    if (size > left_.size() / sizeof(T)) {
      Fault();
      return {};
    }
    std::vector<T> values(size);
    const absl::string_view bytes = Take(size * sizeof(T));
    if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
  void Fault() {
    if (status_.ok()) status_ = absl::DataLossError("content does not fit its layout");
    left_ = {};
  }
  const absl::Status& status() const { return status_; }
  absl::Status Finish() {
    if (!left_.empty()) Fault();
    return status_;
  }

 private:
  absl::string_view Take(uint64_t size) {
    if (!status_.ok() || size > left_.size()) {
      Fault();
      return {};
    }
    const absl::string_view taken = left_.substr(0, size);
    left_.remove_prefix(size);
    return taken;
  }

  absl::string_view left_;
  absl::Status status_;
};

std::shared_ptr<const Input> ReadInput(Reader& reader) {
  auto input = std::make_shared<Input>();
  input->ids = reader.Array<int32_t>();
  input->embeddings = reader.Array<float>();
  input->segment_break = reader.Number<int64_t>();
  input->pinned = reader.Number<uint8_t>() != 0;
  const bool rows_fit = input->embeddings.empty() ||
                        (input->size() > 0 && input->embeddings.size() % input->ids.size() == 0);
  if (!rows_fit || input->segment_break < -1 || input->segment_break >= input->size()) {
    reader.Fault();
  }
  return input;
}

}  // namespace

// Big-endian and, for the key, the sign turned over: the bytes then sort as the numbers do.
std::string EncodeLogRow(LogRow row) {
  std::string bytes;
  for (const uint64_t number :
       {static_cast<uint64_t>(row.key) ^ kSign, static_cast<uint64_t>(row.sequence)}) {
    for (int shift = 56; shift >= 0; shift -= 8) bytes += static_cast<char>(number >> shift);
  }
  return bytes;
}

std::optional<LogRow> DecodeLogRow(absl::string_view bytes) {
  if (bytes.size() != 2 * sizeof(uint64_t)) return std::nullopt;
  uint64_t numbers[2] = {};
  for (size_t i = 0; i < bytes.size(); ++i) {
    uint64_t& number = numbers[i / sizeof(uint64_t)];
    number = number << 8 | static_cast<uint8_t>(bytes[i]);
  }
  const LogRow row{.key = static_cast<int64_t>(numbers[0] ^ kSign),
                   .sequence = static_cast<int64_t>(numbers[1])};
  if (row.sequence < 0) return std::nullopt;
  return row;
}

std::string SealLogRow(LogRow row, std::string content) {
  const uint64_t checksum = Checksum(row, content);
  content.append(reinterpret_cast<const char*>(&checksum), sizeof(checksum));
  return content;
}

std::string EncodeLogSession(LogRow row, const LogSessionRow& session) {
  Writer writer;
  writer.Number(session.state_sequence);
  writer.Bytes(session.state_file);
  writer.Bytes(session.record);
  return std::move(writer).Finish(row);
}

absl::StatusOr<LogSessionRow> DecodeLogSession(LogRow row, absl::string_view bytes) {
  Reader reader(row, bytes);
  LogSessionRow session;
  session.state_sequence = reader.Number<int64_t>();
  session.state_file = reader.Bytes();
  session.record = reader.Bytes();
  if (session.state_sequence < 0) reader.Fault();
  RASQ_RETURN_IF_ERROR(reader.Finish());
  return session;
}

std::string EncodeLogEntry(LogRow row, const LogEntry& entry) {
  Writer writer;
  writer.Number(entry.next_offset);
  writer.Number<uint8_t>(entry.begun);
  writer.Bytes(entry.held_text);
  writer.Number<uint64_t>(entry.input.size());
  for (const auto& input : entry.input) {
    writer.Array(input->ids);
    writer.Array(input->embeddings);
    writer.Number(input->segment_break);
    writer.Number<uint8_t>(input->pinned);
  }
  return std::move(writer).Finish(row);
}

absl::StatusOr<LogEntry> DecodeLogEntry(LogRow row, absl::string_view bytes) {
  Reader reader(row, bytes);
  LogEntry entry;
  entry.next_offset = reader.Number<int64_t>();
  entry.begun = reader.Number<uint8_t>() != 0;
  entry.held_text = reader.Bytes();
  const auto inputs = reader.Number<uint64_t>();
  for (uint64_t i = 0; i < inputs && reader.status().ok(); ++i) {
    entry.input.push_back(ReadInput(reader));
  }
  RASQ_RETURN_IF_ERROR(reader.Finish());
  return entry;
}

}  // namespace rasq
