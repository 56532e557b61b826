#include "client/commands/input.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"

namespace rasq::client {
namespace {

// Small enough for a bar that moves on a slow machine, large enough for a fast one.
constexpr size_t kReadBytes = 16 << 10;
constexpr int kFollowMilliseconds = 200;  // between two looks at a file that is followed

}  // namespace

bool WaitReadable(int fd, const Interrupt& interrupt) {
  for (;;) {
    pollfd fds[] = {{.fd = fd, .events = POLLIN, .revents = 0},
                    {.fd = interrupt.fd(), .events = POLLIN, .revents = 0}};
    if (poll(fds, 2, /*timeout=*/-1) < 0) continue;
    if (fds[1].revents != 0) return false;
    if (fds[0].revents != 0) return true;
  }
}

absl::StatusOr<InputFile> InputFile::Open(const std::string& name, Utf8Decoder::Invalid invalid) {
  if (name == "-") return InputFile("standard input", STDIN_FILENO, invalid);
  const int fd = open(name.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, name);
  return InputFile(name, fd, invalid);
}

InputFile::InputFile(std::string name, int fd, Utf8Decoder::Invalid invalid)
    : name_(std::move(name)), fd_(fd), invalid_(invalid), decoder_(invalid) {}

InputFile::InputFile(InputFile&& other) noexcept
    : name_(std::move(other.name_)),
      fd_(std::exchange(other.fd_, -1)),
      read_bytes_(other.read_bytes_),
      invalid_(other.invalid_),
      decoder_(std::move(other.decoder_)) {}

InputFile::~InputFile() {
  if (fd_ > STDIN_FILENO) close(fd_);
}

absl::Status InputFile::Annotate(const absl::Status& status) const {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(name_, ": ", status.message()));
}

absl::StatusOr<bool> InputFile::Read(const Interrupt& interrupt, std::string* text) {
  if (!WaitReadable(fd_, interrupt)) return false;
  char bytes[kReadBytes];
  const ssize_t count = read(fd_, bytes, sizeof(bytes));
  if (count < 0) return absl::ErrnoToStatus(errno, name_);
  if (count == 0) return false;
  read_bytes_ += count;
  absl::Status status = decoder_.Decode(absl::string_view(bytes, count), text);
  if (!status.ok()) return Annotate(status);
  return true;
}

absl::StatusOr<bool> InputFile::WaitForMore(const Interrupt& interrupt) {
  for (;;) {
    struct stat info;
    if (fstat(fd_, &info) != 0) return absl::ErrnoToStatus(errno, name_);
    // A pipe's end is final.
    if (!S_ISREG(info.st_mode)) return false;
    if (info.st_size > read_bytes_) return true;
    if (info.st_size < read_bytes_) {
      if (lseek(fd_, 0, SEEK_SET) != 0) return absl::ErrnoToStatus(errno, name_);
      read_bytes_ = 0;
      decoder_ = Utf8Decoder(invalid_);
    }
    pollfd fd = {.fd = interrupt.fd(), .events = POLLIN, .revents = 0};
    if (poll(&fd, 1, kFollowMilliseconds) > 0) return false;
  }
}

absl::Status InputFile::Finish(std::string* text) { return Annotate(decoder_.Finish(text)); }

int64_t InputFile::SizeBytes() const {
  struct stat info;
  return fstat(fd_, &info) == 0 && S_ISREG(info.st_mode) ? info.st_size : 0;
}

bool LineReader::Next(const Interrupt& interrupt, std::string* line) {
  for (;;) {
    if (const size_t end = buffer_.find('\n'); end != std::string::npos) {
      *line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return true;
    }
    if (!WaitReadable(STDIN_FILENO, interrupt)) return false;
    char bytes[4096];
    const ssize_t count = read(STDIN_FILENO, bytes, sizeof(bytes));
    if (count <= 0) {
      *line = std::exchange(buffer_, "");
      return !line->empty();
    }
    buffer_.append(bytes, count);
  }
}

}  // namespace rasq::client
