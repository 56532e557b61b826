// The parts of a tokenizer, and how they work together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/tokenizer/added_tokens.h"
#include "engine/tokenizer/bpe.h"
#include "engine/tokenizer/pre_tokenizer.h"
#include "engine/tokenizer/tokenizer.h"

namespace rasq {

struct Tokenizer::Impl {
  // Appends the tokens of `text` and returns the bytes they cover: all, unless `open`, when more
  // text may follow and tokens that it could change are left out. To go on, call again with the
  // bytes that are left and those that followed them.
  size_t Tokenize(absl::string_view text, bool open, std::vector<int32_t>& ids) const;

  // The same for text between added tokens.
  size_t TokenizeSection(absl::string_view section, bool open, std::vector<int32_t>& ids) const;

  std::vector<std::string> token_bytes;  // [vocab_size]
  std::vector<bool> special;             // [vocab_size]
  AddedTokens added;
  PreTokenizer pre_tokenizer;
  Bpe bpe;
  int32_t bos_token_id = -1;
  int32_t eos_token_id = -1;
  bool add_bos = false;
};

}  // namespace rasq
