#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/utf8.h"

namespace rasq {

Detokenizer::Detokenizer(const Tokenizer* tokenizer) : tokenizer_(tokenizer) {}

std::string Detokenizer::Push(int32_t id, bool keep_special) {
  std::string text;
  if (tokenizer_->IsSpecial(id) && !keep_special) return text;
  const absl::string_view bytes = tokenizer_->TokenBytes(id);
  held_.append(bytes.data(), bytes.size());
  DrainUtf8(held_, /*end=*/false, text);
  return text;
}

std::string Detokenizer::Finish() {
  std::string text;
  DrainUtf8(held_, /*end=*/true, text);
  return text;
}

}  // namespace rasq
