#include "engine/session_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

static_assert(std::endian::native == std::endian::little, "files are little endian");

constexpr std::array<char, 8> kMagic = {'R', 'A', 'S', 'Q', 'S', 'E', 'S', 'S'};
constexpr uint32_t kVersion = 1;
constexpr uint32_t kMaxHeaderBytes = 1u << 30;

struct Prefix {
  std::array<char, 8> magic = kMagic;
  uint32_t version = kVersion;
  uint32_t header_bytes = 0;
  uint64_t state_bytes = 0;
  uint64_t header_hash = 0;
  uint64_t state_hash = 0;
  uint64_t prefix_hash = 0;  // of what stands before
};
static_assert(sizeof(Prefix) == 48);

uint64_t Hash(const void* data, size_t bytes) { return XXH3_64bits(data, bytes); }
uint64_t PrefixHash(const Prefix& prefix) { return Hash(&prefix, offsetof(Prefix, prefix_hash)); }

absl::Status DiskError(absl::string_view where, absl::string_view what, int error) {
  const std::string message = absl::StrCat(where, ": ", what, ": ", std::strerror(error));
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
    return absl::ResourceExhaustedError(message);
  }
  return error == ENOENT ? absl::NotFoundError(message) : absl::UnavailableError(message);
}

// An open file, closed when it goes.
class File {
 public:
  File(const std::string& path, absl::string_view where, int flags)
      : where_(where), fd_(open(path.c_str(), flags | O_CLOEXEC, 0600)) {}
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  absl::Status status() const {
    return fd_ >= 0 ? absl::OkStatus() : DiskError(where_, "cannot be opened", errno);
  }
  absl::Status Write(const void* data, size_t bytes) {
    const char* next = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t done = write(fd_, next, bytes);
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) return DiskError(where_, "cannot be written", errno);
      next += done;
      bytes -= static_cast<size_t>(done);
    }
    return absl::OkStatus();
  }
  // All `bytes` at `offset`; kDataLoss if the file ends before.
  absl::Status Read(void* data, size_t bytes, int64_t offset) {
    char* next = static_cast<char*>(data);
    while (bytes > 0) {
      const ssize_t done = pread(fd_, next, bytes, offset);
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) return DiskError(where_, "cannot be read", errno);
      if (done == 0) return absl::DataLossError(absl::StrCat(where_, ": is cut off"));
      next += done;
      offset += done;
      bytes -= static_cast<size_t>(done);
    }
    return absl::OkStatus();
  }
  absl::Status Sync() {
    return fsync(fd_) == 0 ? absl::OkStatus() : DiskError(where_, "cannot be synced", errno);
  }

 private:
  const std::string where_;
  const int fd_;
};

absl::StatusOr<Prefix> ReadPrefix(File& file, absl::string_view where) {
  Prefix prefix;
  RASQ_RETURN_IF_ERROR(file.Read(&prefix, sizeof(prefix), 0));
  if (prefix.magic != kMagic) {
    return absl::DataLossError(absl::StrCat(where, ": is not a session file"));
  }
  if (prefix.version != kVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        where, ": version=", prefix.version, " of the file, this server reads ", kVersion));
  }
  if (prefix.prefix_hash != PrefixHash(prefix) || prefix.header_bytes > kMaxHeaderBytes) {
    return absl::DataLossError(absl::StrCat(where, ": its first bytes are damaged"));
  }
  return prefix;
}

absl::StatusOr<SessionFileHeader> ReadHeader(File& file, const Prefix& prefix,
                                             absl::string_view where) {
  std::string header(prefix.header_bytes, '\0');
  RASQ_RETURN_IF_ERROR(file.Read(header.data(), header.size(), sizeof(prefix)));
  if (Hash(header.data(), header.size()) != prefix.header_hash) {
    return absl::DataLossError(absl::StrCat(where, ": its header is damaged"));
  }
  SessionFileHeader result;
  RASQ_ASSIGN_OR_RETURN(result.record, DecodeRecord(header));
  result.state_bytes = static_cast<int64_t>(prefix.state_bytes);
  result.file_bytes = static_cast<int64_t>(sizeof(prefix) + header.size() + prefix.state_bytes);
  return result;
}

absl::Status ReadState(File& file, const Prefix& prefix, absl::string_view where,
                       absl::Span<std::byte> state) {
  if (prefix.state_bytes != state.size()) {
    return absl::DataLossError(
        absl::StrCat(where, ": state_bytes=", prefix.state_bytes, ", should be ", state.size()));
  }
  RASQ_RETURN_IF_ERROR(
      file.Read(state.data(), state.size(), sizeof(prefix) + int64_t{prefix.header_bytes}));
  if (Hash(state.data(), state.size()) != prefix.state_hash) {
    return absl::DataLossError(absl::StrCat(where, ": its state is damaged"));
  }
  return absl::OkStatus();
}

absl::Status WriteAll(const std::string& path, absl::string_view where, const Prefix& prefix,
                      const std::string& header, absl::Span<const std::byte> state) {
  File file(path, where, O_WRONLY | O_CREAT | O_TRUNC);
  RASQ_RETURN_IF_ERROR(file.status());
  RASQ_RETURN_IF_ERROR(file.Write(&prefix, sizeof(prefix)));
  RASQ_RETURN_IF_ERROR(file.Write(header.data(), header.size()));
  RASQ_RETURN_IF_ERROR(file.Write(state.data(), state.size()));
  return file.Sync();
}

absl::Status SyncDirectory(const std::string& path, absl::string_view where) {
  File directory(std::filesystem::path(path).parent_path().string(), where, O_RDONLY | O_DIRECTORY);
  RASQ_RETURN_IF_ERROR(directory.status());
  return directory.Sync();
}

}  // namespace

int64_t SessionFileBytes(const SessionRecord& record, int64_t state_bytes) {
  return static_cast<int64_t>(sizeof(Prefix) + EncodeRecord(record).size()) + state_bytes;
}

absl::Status WriteSessionFile(const std::string& path, absl::string_view where,
                              const SessionRecord& record, absl::Span<const std::byte> state) {
  static std::atomic<int64_t> count = 0;  // two writers of one path must not share a file
  const std::string header = EncodeRecord(record);
  Prefix prefix{.header_bytes = static_cast<uint32_t>(header.size()),
                .state_bytes = state.size(),
                .header_hash = Hash(header.data(), header.size()),
                .state_hash = Hash(state.data(), state.size())};
  prefix.prefix_hash = PrefixHash(prefix);
  const std::string temporary = absl::StrCat(path, ".", getpid(), "-", ++count, ".tmp");
  absl::Status status = WriteAll(temporary, where, prefix, header, state);
  if (status.ok() && rename(temporary.c_str(), path.c_str()) != 0) {
    status = DiskError(where, "cannot be put in place", errno);
  }
  if (!status.ok()) {
    unlink(temporary.c_str());
    return status;
  }
  return SyncDirectory(path, where);
}

absl::StatusOr<SessionFileHeader> ReadSessionHeader(const std::string& path,
                                                    absl::string_view where) {
  File file(path, where, O_RDONLY);
  RASQ_RETURN_IF_ERROR(file.status());
  RASQ_ASSIGN_OR_RETURN(const Prefix prefix, ReadPrefix(file, where));
  return ReadHeader(file, prefix, where);
}

absl::Status ReadSessionState(const std::string& path, absl::string_view where,
                              absl::Span<std::byte> state) {
  File file(path, where, O_RDONLY);
  RASQ_RETURN_IF_ERROR(file.status());
  RASQ_ASSIGN_OR_RETURN(const Prefix prefix, ReadPrefix(file, where));
  return ReadState(file, prefix, where, state);
}

absl::StatusOr<SessionRecord> ReadSessionFile(
    const std::string& path, absl::string_view where,
    const std::function<absl::StatusOr<absl::Span<std::byte>>(const SessionFileHeader&)>& place) {
  File file(path, where, O_RDONLY);
  RASQ_RETURN_IF_ERROR(file.status());
  RASQ_ASSIGN_OR_RETURN(const Prefix prefix, ReadPrefix(file, where));
  RASQ_ASSIGN_OR_RETURN(SessionFileHeader header, ReadHeader(file, prefix, where));
  if (header.state_bytes > 0) {
    RASQ_ASSIGN_OR_RETURN(const absl::Span<std::byte> state, place(header));
    RASQ_RETURN_IF_ERROR(ReadState(file, prefix, where, state));
  }
  return std::move(header.record);
}

}  // namespace rasq
