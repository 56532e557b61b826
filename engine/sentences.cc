#include "engine/sentences.h"

#include "absl/strings/string_view.h"

namespace rasq {

std::vector<bool> SentenceEnds(const Tokenizer& tokenizer) {
  std::vector<bool> ends(tokenizer.vocab_size());
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.IsSpecial(id)) continue;
    const absl::string_view text = tokenizer.TokenBytes(id);
    const size_t last = text.find_last_not_of(" \t\"')]}");
    ends[id] = text.find('\n') != absl::string_view::npos ||
               (last != absl::string_view::npos &&
                (text[last] == '.' || text[last] == '!' || text[last] == '?'));
  }
  return ends;
}

}  // namespace rasq
