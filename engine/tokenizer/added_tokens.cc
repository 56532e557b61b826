#include "engine/tokenizer/added_tokens.h"

#include <algorithm>

namespace rasq {

AddedTokens::AddedTokens(std::vector<std::pair<std::string, int32_t>> tokens)
    : tokens_(std::move(tokens)) {
  std::sort(tokens_.begin(), tokens_.end());
  for (const auto& token : tokens_) begins_[static_cast<uint8_t>(token.first.front())] = true;
}

AddedTokens::Result AddedTokens::Find(absl::string_view text, size_t from, bool open) const {
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (!begins_[static_cast<uint8_t>(text[begin])]) continue;
    // [low, high) are the tokens that agree with the text so far: sorted, so they stand together,
    // and the one that ends here stands first.
    auto low = tokens_.begin();
    auto high = tokens_.end();
    Result longest{Result::kNone, begin, begin, -1};
    for (size_t size = 0; low != high; ++size) {
      if (low->first.size() == size) {
        longest = {Result::kMatch, begin, begin + size, low->second};
        if (++low == high) break;
      }
      if (begin + size == text.size()) {
        if (open) return {Result::kOpen, begin, 0, -1};
        break;
      }
      const auto byte = static_cast<uint8_t>(text[begin + size]);
      const auto byte_of = [size](const auto& token) {
        return static_cast<uint8_t>(token.first[size]);
      };
      low = std::partition_point(low, high, [&](const auto& t) { return byte_of(t) < byte; });
      high = std::partition_point(low, high, [&](const auto& t) { return byte_of(t) == byte; });
    }
    if (longest.kind == Result::kMatch) return longest;
  }
  return {Result::kNone, text.size(), text.size(), -1};
}

}  // namespace rasq
