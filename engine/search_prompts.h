// The prompts of a session of strategy attention_rag, as tokens with places for what is put into
// them. Texts are tokenized piece by piece: what stands in a place keeps the tokens that it has.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/types.h"

namespace rasq {

// Constant.
class SearchPrompts {
 public:
  // What stands in the places.
  struct Parts {
    absl::Span<const int32_t> chunk, question, hint;
  };
  struct Prompt {
    std::vector<int32_t> ids;
    int64_t chunk_begin = 0;  // where the chunk's first token stands
  };

  // kInvalidArgument names the field of `options` that cannot be used.
  static absl::StatusOr<std::shared_ptr<const SearchPrompts>> Create(
      const AttentionRagOptions& options, const Tokenizer& tokenizer);

  bool asks_for_hint() const { return !hint_pieces_.empty(); }
  const std::vector<int32_t>& fixed_hint() const { return fixed_hint_; }
  Prompt HintPrompt(absl::Span<const int32_t> question) const;
  Prompt AnchorPrompt(const Parts& parts) const;

  // The most tokens that a stream of a search has, prompt and drawn tokens, if chunk and question
  // have so many.
  int64_t MaxTokens(int64_t chunk_tokens, int64_t question_tokens) const;

 private:
  enum class Place : int8_t { kNone, kChunk, kQuestion, kHint };
  struct Piece {
    Place place = Place::kNone;
    std::vector<int32_t> ids;  // of kNone
  };

  SearchPrompts() = default;
  static std::vector<Piece> Split(absl::string_view text, const Tokenizer& tokenizer);
  static int64_t Count(const std::vector<Piece>& pieces, Place place);
  static int64_t OwnTokens(const std::vector<Piece>& pieces);
  Prompt Fill(const std::vector<Piece>& pieces, const Parts& parts) const;

  int32_t bos_ = -1;  // a prompt begins with it; -1: it does not
  std::vector<Piece> anchor_pieces_;
  std::vector<Piece> hint_pieces_;  // empty: no hint is asked for
  std::vector<int32_t> fixed_hint_;
};

}  // namespace rasq
