// Byte-level byte-pair encoding from a Hugging Face tokenizer.json. Text is split at the added
// (special) tokens, then by the pre-tokenizer's patterns into words, and each word's bytes are
// merged by rank. Source: Sennrich et al. 2016, arXiv:1508.07909; byte alphabet as in GPT-2.
//
// It gives the tokens of the Hugging Face library, but for: text that is not in normal form C,
// which is encoded as it is even if the file asks for NFC; words above TextStream::kMaxWordBytes;
// bytes that are not UTF-8. What it cannot do as the file asks is refused when the file is read.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace rasq {

class Tokenizer {
 public:
  // From tokenizer.json and, if it is there, tokenizer_config.json of a model's directory.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& directory);
  // From the files' texts; `name` stands for the path in errors. `config_json` may be empty.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Parse(absl::string_view tokenizer_json,
                                                          absl::string_view config_json,
                                                          absl::string_view name);
  // Ids 0 to 255 are the bytes, and there are no others: for models without a tokenizer of theirs.
  static std::unique_ptr<Tokenizer> OfBytes();
  ~Tokenizer();

  // All methods may be called by many threads at once.

  // Token ids of a whole text; no BOS is added. Bytes that are not UTF-8 are encoded as they are.
  std::vector<int32_t> Encode(absl::string_view text) const;

  // The bytes of one token: a special token's content, or the word piece. Empty for an unknown id.
  absl::string_view TokenBytes(int32_t id) const;
  // Bytes of all tokens, with what is not UTF-8 replaced by U+FFFD.
  std::string Decode(absl::Span<const int32_t> ids) const;

  int32_t vocab_size() const;  // highest id + 1
  bool IsSpecial(int32_t id) const;
  int32_t bos_token_id() const;  // -1: none
  bool add_bos() const;          // a text begins with BOS
  int32_t eos_token_id() const;  // -1: none

 private:
  friend class TextStream;
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Tokenizes a text that arrives in pieces, so that the tokens do not depend on where it was cut:
// the end of the text is held back while more text could still change how it is split into words.
// At most a few words are held; a word longer than kMaxWordBytes is cut there, wherever the pieces
// were cut (and by Encode alike).
class TextStream {
 public:
  static constexpr int64_t kMaxWordBytes = 4096;

  explicit TextStream(const Tokenizer* tokenizer);  // borrowed

  // Adds text; appends the tokens that are now certain.
  void Append(absl::string_view text, std::vector<int32_t>& tokens);
  // The tokens of what is held back, as if the text ended here; changes nothing.
  std::vector<int32_t> Peek() const;
  // The same, and forgets it: what follows is a text of its own.
  void Finish(std::vector<int32_t>& tokens);
  absl::string_view held() const { return held_; }

 private:
  const Tokenizer* tokenizer_;
  std::string held_;
};

// Turns generated tokens into text without ever emitting part of a character: bytes of an
// unfinished UTF-8 sequence wait for the next token.
class Detokenizer {
 public:
  explicit Detokenizer(const Tokenizer* tokenizer);  // borrowed

  // The complete characters that `id` finishes; special tokens give nothing unless `keep_special`.
  std::string Push(int32_t id, bool keep_special = false);
  // What is left at the end, with unfinished characters as U+FFFD.
  std::string Finish();
  int64_t held_bytes() const { return static_cast<int64_t>(held_.size()); }

 private:
  const Tokenizer* tokenizer_;
  std::string held_;
};

}  // namespace rasq
