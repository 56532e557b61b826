// Reads files and standard input so that Ctrl-C is seen while waiting for either.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/commands/interrupt.h"
#include "client/utf8.h"

namespace rasq::client {

class InputFile {
 public:
  // "-" is standard input. Error: kNotFound, kPermissionDenied and the like, with the name.
  static absl::StatusOr<InputFile> Open(const std::string& name, Utf8Decoder::Invalid invalid);
  InputFile(InputFile&& other) noexcept;
  ~InputFile();

  // Appends to `text` the characters of the next few bytes. Returns false at the end of the file
  // and after an interrupt. kInvalidArgument names the file and the byte that is not UTF-8.
  absl::StatusOr<bool> Read(const Interrupt& interrupt, std::string* text);
  // Waits at the end of the file for more of it; false after an interrupt. A file that became
  // shorter is read again from its start.
  absl::StatusOr<bool> WaitForMore(const Interrupt& interrupt);
  // No more is wanted: an unfinished last character is an error, or is replaced.
  absl::Status Finish(std::string* text);

  // Of a regular file, else 0.
  int64_t SizeBytes() const;

 private:
  InputFile(std::string name, int fd, Utf8Decoder::Invalid invalid);
  absl::Status Annotate(const absl::Status& status) const;

  std::string name_;
  int fd_;
  int64_t read_bytes_ = 0;
  Utf8Decoder::Invalid invalid_;
  Utf8Decoder decoder_;
};

// Lines from standard input. False at its end and after an interrupt.
class LineReader {
 public:
  bool Next(const Interrupt& interrupt, std::string* line);

 private:
  std::string buffer_;
};

// True once `fd` has something to read (or its end); false after an interrupt.
bool WaitReadable(int fd, const Interrupt& interrupt);

}  // namespace rasq::client
