#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/tokenizer_impl.h"

namespace rasq {

TextStream::TextStream(const Tokenizer* tokenizer) : tokenizer_(tokenizer) {}

void TextStream::Append(absl::string_view text, std::vector<int32_t>& tokens) {
  held_.append(text.data(), text.size());
  const size_t done = tokenizer_->impl_->Tokenize(held_, /*open=*/true, tokens);
  held_ = held_.substr(done);  // a new string, so that a long text's memory is given back
}

std::vector<int32_t> TextStream::Peek() const { return tokenizer_->Encode(held_); }

void TextStream::Finish(std::vector<int32_t>& tokens) {
  tokenizer_->impl_->Tokenize(held_, /*open=*/false, tokens);
  held_.clear();
}

}  // namespace rasq
