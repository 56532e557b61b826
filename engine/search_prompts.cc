#include "engine/search_prompts.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

constexpr absl::string_view kDefaultAnchorPrompt = "{chunk}{question}{hint}";

absl::Status CheckSize(absl::string_view field, const std::string& text) {
  if (static_cast<int64_t>(text.size()) <= kMaxPromptBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": has ", text.size(), " bytes, at most ", kMaxPromptBytes, " may be"));
}

absl::Status CheckPlaces(absl::string_view field, absl::string_view place, int64_t count,
                         int64_t least, int64_t most) {
  if (count >= least && count <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": has ", place, " ", count, " times, must have it ",
                   least == most ? absl::StrCat(most) : absl::StrCat(least, " to ", most)));
}

}  // namespace

std::vector<SearchPrompts::Piece> SearchPrompts::Split(absl::string_view text,
                                                       const Tokenizer& tokenizer) {
  static constexpr std::pair<absl::string_view, Place> kPlaces[] = {
      {"{chunk}", Place::kChunk}, {"{question}", Place::kQuestion}, {"{hint}", Place::kHint}};
  std::vector<Piece> pieces;
  std::string own;
  const auto end_own = [&] {
    if (!own.empty()) pieces.push_back({.place = Place::kNone, .ids = tokenizer.Encode(own)});
    own.clear();
  };
  while (!text.empty()) {
    const auto* const found =
        std::find_if(std::begin(kPlaces), std::end(kPlaces),
                     [&](const auto& place) { return absl::StartsWith(text, place.first); });
    if (found == std::end(kPlaces)) {
      own.push_back(text.front());
      text.remove_prefix(1);
      continue;
    }
    end_own();
    pieces.push_back({.place = found->second, .ids = {}});
    text.remove_prefix(found->first.size());
  }
  end_own();
  return pieces;
}

int64_t SearchPrompts::Count(const std::vector<Piece>& pieces, Place place) {
  return std::count_if(pieces.begin(), pieces.end(),
                       [&](const Piece& piece) { return piece.place == place; });
}

int64_t SearchPrompts::OwnTokens(const std::vector<Piece>& pieces) {
  int64_t tokens = 0;
  for (const Piece& piece : pieces) tokens += static_cast<int64_t>(piece.ids.size());
  return tokens;
}

absl::StatusOr<std::shared_ptr<const SearchPrompts>> SearchPrompts::Create(
    const AttentionRagOptions& options, const Tokenizer& tokenizer) {
  constexpr absl::string_view kAnchor = "options.attention_rag.anchor_prompt";
  constexpr absl::string_view kHintPrompt = "options.attention_rag.hint_prompt";
  RASQ_RETURN_IF_ERROR(CheckSize(kAnchor, options.anchor_prompt));
  RASQ_RETURN_IF_ERROR(CheckSize(kHintPrompt, options.hint_prompt));
  RASQ_RETURN_IF_ERROR(CheckSize("options.attention_rag.hint", options.hint));
  if (!options.hint.empty() && !options.hint_prompt.empty()) {
    return absl::InvalidArgumentError(
        "options.attention_rag.hint: with hint_prompt, which asks the model for it");
  }
  const std::shared_ptr<SearchPrompts> prompts(new SearchPrompts);
  if (tokenizer.add_bos()) prompts->bos_ = tokenizer.bos_token_id();
  prompts->anchor_pieces_ = Split(
      options.anchor_prompt.empty() ? kDefaultAnchorPrompt : options.anchor_prompt, tokenizer);
  prompts->hint_pieces_ = Split(options.hint_prompt, tokenizer);
  prompts->fixed_hint_ = tokenizer.Encode(options.hint);
  const std::vector<Piece>&anchor = prompts->anchor_pieces_, &hint = prompts->hint_pieces_;
  RASQ_RETURN_IF_ERROR(CheckPlaces(kAnchor, "{chunk}", Count(anchor, Place::kChunk), 1, 1));
  RASQ_RETURN_IF_ERROR(CheckPlaces(kAnchor, "{question}", Count(anchor, Place::kQuestion), 1, 1));
  RASQ_RETURN_IF_ERROR(CheckPlaces(kAnchor, "{hint}", Count(anchor, Place::kHint), 0, 1));
  if (!hint.empty()) {
    RASQ_RETURN_IF_ERROR(
        CheckPlaces(kHintPrompt, "{question}", Count(hint, Place::kQuestion), 1, 1));
    RASQ_RETURN_IF_ERROR(CheckPlaces(kHintPrompt, "{chunk}", Count(hint, Place::kChunk), 0, 0));
    RASQ_RETURN_IF_ERROR(CheckPlaces(kHintPrompt, "{hint}", Count(hint, Place::kHint), 0, 0));
  }
  return prompts;
}

SearchPrompts::Prompt SearchPrompts::Fill(const std::vector<Piece>& pieces,
                                          const Parts& parts) const {
  Prompt prompt;
  if (bos_ >= 0) prompt.ids.push_back(bos_);
  for (const Piece& piece : pieces) {
    absl::Span<const int32_t> ids = piece.ids;
    if (piece.place == Place::kQuestion) ids = parts.question;
    if (piece.place == Place::kHint) ids = parts.hint;
    if (piece.place == Place::kChunk) {
      ids = parts.chunk;
      prompt.chunk_begin = static_cast<int64_t>(prompt.ids.size());
    }
    prompt.ids.insert(prompt.ids.end(), ids.begin(), ids.end());
  }
  return prompt;
}

SearchPrompts::Prompt SearchPrompts::HintPrompt(absl::Span<const int32_t> question) const {
  return Fill(hint_pieces_, {.chunk = {}, .question = question, .hint = {}});
}

SearchPrompts::Prompt SearchPrompts::AnchorPrompt(const Parts& parts) const {
  return Fill(anchor_pieces_, parts);
}

int64_t SearchPrompts::MaxTokens(int64_t chunk_tokens, int64_t question_tokens) const {
  const int64_t bos = bos_ >= 0 ? 1 : 0;
  const int64_t hint = asks_for_hint() ? kMaxHintTokens : static_cast<int64_t>(fixed_hint_.size());
  const int64_t has_hint = Count(anchor_pieces_, Place::kHint);
  const int64_t anchor = OwnTokens(anchor_pieces_) + chunk_tokens + has_hint * hint + 1;
  const int64_t asking = asks_for_hint() ? OwnTokens(hint_pieces_) + kMaxHintTokens : 0;
  return bos + question_tokens + std::max(anchor, asking);
}

}  // namespace rasq
