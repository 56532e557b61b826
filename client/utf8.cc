#include "client/utf8.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace rasq::client {
namespace {

enum class Outcome { kCharacter, kInvalid, kUnfinished };
struct Step {
  Outcome outcome;
  size_t bytes;  // of the character, or of the bad sequence
};

// The character at the front of `s`, which is not empty. Ranges: Unicode 15, table 3-7.
Step Next(absl::string_view s) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(s[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {Outcome::kCharacter, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Outcome::kInvalid, 1};
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  uint8_t low = 0x80, high = 0xBF;  // of the second byte: no overlong forms, no surrogates
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  for (size_t i = 1; i < length; ++i) {
    if (i == s.size()) return {Outcome::kUnfinished, i};
    if (byte(i) < low || byte(i) > high) return {Outcome::kInvalid, i};
    low = 0x80, high = 0xBF;
  }
  return {Outcome::kCharacter, length};
}

}  // namespace

absl::Status Utf8Decoder::OnInvalid(int64_t offset, std::string* out) const {
  if (invalid_ == Invalid::kRefuse) {
    return absl::InvalidArgumentError(absl::StrCat("not valid UTF-8 at byte ", offset));
  }
  out->append("\xEF\xBF\xBD");
  return absl::OkStatus();
}

absl::Status Utf8Decoder::Decode(absl::string_view bytes, std::string* out) {
  std::string joined;
  absl::string_view rest = bytes;
  if (!tail_.empty()) rest = joined = absl::StrCat(tail_, bytes);
  tail_.clear();
  while (!rest.empty()) {
    const Step step = Next(rest);
    if (step.outcome == Outcome::kUnfinished) {
      tail_ = std::string(rest);
      break;
    }
    if (step.outcome == Outcome::kInvalid) {
      if (absl::Status status = OnInvalid(offset_, out); !status.ok()) return status;
    } else {
      out->append(rest.data(), step.bytes);
    }
    rest.remove_prefix(step.bytes);
    offset_ += step.bytes;
  }
  return absl::OkStatus();
}

absl::Status Utf8Decoder::Finish(std::string* out) {
  if (tail_.empty()) return absl::OkStatus();
  const int64_t offset = offset_;
  offset_ += tail_.size();
  tail_.clear();
  return OnInvalid(offset, out);
}

absl::string_view Utf8Prefix(absl::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return text;
  size_t end = max_bytes;
  const auto inside = [&](size_t i) { return (static_cast<uint8_t>(text[i]) & 0xC0) == 0x80; };
  while (end > 0 && inside(end)) --end;
  if (end == 0) end = std::min(Next(text).bytes, text.size());
  return text.substr(0, end);
}

}  // namespace rasq::client
