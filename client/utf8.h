// Bytes, cut anywhere, in; whole UTF-8 characters out. What protobuf's `string` and the server's
// tokenizer want, whatever the boundaries of reads from a file were.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace rasq::client {

class Utf8Decoder {
 public:
  enum class Invalid { kRefuse, kReplace };  // kReplace: U+FFFD for each maximal bad sequence

  explicit Utf8Decoder(Invalid invalid) : invalid_(invalid) {}

  // Appends to `out` the characters that `bytes` completes and keeps an unfinished last one for the
  // next call. kInvalidArgument names the offset, counted from the first byte ever given; `out`
  // then holds what came before it.
  absl::Status Decode(absl::string_view bytes, std::string* out);
  // No more bytes come: a character that is still unfinished is invalid.
  absl::Status Finish(std::string* out);

 private:
  absl::Status OnInvalid(int64_t offset, std::string* out) const;

  Invalid invalid_;
  std::string tail_;    // of an unfinished character, at most 3 bytes
  int64_t offset_ = 0;  // of tail_'s first byte
};

// The longest prefix of valid UTF-8 `text` that ends with a whole character and is at most
// `max_bytes` long, but at least one character.
absl::string_view Utf8Prefix(absl::string_view text, size_t max_bytes);

}  // namespace rasq::client
