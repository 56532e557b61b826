// UTF-8, one character at a time. Well-formed is what Unicode 15 table 3-7 says: no overlong forms,
// no surrogates, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace rasq {

inline constexpr absl::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

struct Utf8Step {
  enum Kind { kValid, kInvalid, kIncomplete } kind;  // incomplete: the text's end cut it
  size_t bytes;         // of the character, or of the ill-formed part that one U+FFFD stands for
  uint32_t code_point;  // if valid
};

// REQUIRES: !text.empty().
inline Utf8Step NextUtf8(absl::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {Utf8Step::kValid, 1, lead};
  if (lead < 0xC2 || lead > 0xF4) return {Utf8Step::kInvalid, 1, 0};
  const size_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  uint32_t code_point = lead & (0x7Fu >> size);
  // The second byte's range shuts out overlong forms, surrogates and what is above U+10FFFF.
  uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (size_t i = 1; i < size; ++i) {
    if (i == text.size()) return {Utf8Step::kIncomplete, i, 0};
    if (byte(i) < low || byte(i) > high) return {Utf8Step::kInvalid, i, 0};
    code_point = code_point << 6 | (byte(i) & 0x3Fu);
    low = 0x80, high = 0xBF;
  }
  return {Utf8Step::kValid, size, code_point};
}

// The last character boundary at or before `limit`. REQUIRES: well-formed; limit <= text.size().
inline size_t Utf8Floor(absl::string_view text, size_t limit) {
  if (limit == text.size()) return limit;
  while ((static_cast<uint8_t>(text[limit]) & 0xC0) == 0x80) --limit;
  return limit;
}

// Moves the characters of `bytes` to `text`, U+FFFD for what is ill-formed. An unfinished one at
// the end stays in `bytes`, or counts as ill-formed if this is the `end`.
inline void DrainUtf8(std::string& bytes, bool end, std::string& text) {
  size_t done = 0;
  while (done < bytes.size()) {
    const absl::string_view rest = absl::string_view(bytes).substr(done);
    const Utf8Step step = NextUtf8(rest);
    if (step.kind == Utf8Step::kIncomplete && !end) break;
    const absl::string_view shown =
        step.kind == Utf8Step::kValid ? rest.substr(0, step.bytes) : kReplacementCharacter;
    text.append(shown.data(), shown.size());
    done += step.bytes;
  }
  bytes.erase(0, done);
}

}  // namespace rasq
