// Sessions of strategy attention_rag: before an answer, a search (attention_search.h) reads the
// session's history, chunk by chunk, in the generation's own slot of strategy full. Its probes are
// streams of the same steps as all others, and one flow of the scheduler: a long history makes its
// own question wait, and nobody else.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/check_range.h"
#include "engine/engine_impl.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

constexpr int32_t kDefaultChunkTokens = 300, kDefaultTopTokens = 12;
constexpr int32_t kLeastChunkTokens = 8;  // a chunk takes some 200 bytes beside its tokens
constexpr int32_t kLeastProbeTokens = 128;

}  // namespace

absl::StatusOr<AttentionRagOptions> Engine::Impl::CheckAttentionRag(
    const AttentionRagOptions& options) const {
  AttentionRagOptions checked = options;
  if (checked.chunk_tokens == 0) checked.chunk_tokens = kDefaultChunkTokens;
  if (checked.top_tokens == 0) checked.top_tokens = kDefaultTopTokens;
  RASQ_RETURN_IF_ERROR(CheckRange("options.attention_rag.chunk_tokens", checked.chunk_tokens,
                                  kLeastChunkTokens, kMaxRagTokens));
  RASQ_RETURN_IF_ERROR(
      CheckRange("options.attention_rag.top_tokens", checked.top_tokens, 1, kMaxRagTokens));
  if (checked.history_tokens != 0) {
    RASQ_RETURN_IF_ERROR(CheckRange<int64_t>("options.attention_rag.history_tokens",
                                             checked.history_tokens, checked.chunk_tokens,
                                             options_.max_history_tokens));
  }
  RASQ_ASSIGN_OR_RETURN(const std::shared_ptr<const SearchPrompts> prompts,
                        SearchPrompts::Create(checked, *tokenizer_));
  const int64_t tokens = prompts->MaxTokens(checked.chunk_tokens, /*question_tokens=*/1);
  if (tokens >= options_.full_context_tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("options.attention_rag.chunk_tokens=", checked.chunk_tokens,
                     ": with prompts and hint there are ", tokens,
                     " tokens, which leaves no room for a question in full_context_tokens=",
                     options_.full_context_tokens));
  }
  return checked;
}

// A chunk must fit beside the prompt, and then does so in the answer's context, too.
absl::Status Engine::Impl::CheckSearch(const Session& session, int64_t prompt_tokens) {
  const int32_t chunk = session.options.attention_rag.chunk_tokens;
  const int64_t context = session.prompts->MaxTokens(chunk, prompt_tokens);
  if (context < session.layout->shape.window_rows) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("context_tokens=", context, " with a chunk of ", chunk,
                   ": strategy attention_rag reads at most ", session.layout->shape.window_rows));
}

// Probes of all generations beyond the one that a generation is without a search.
int32_t Engine::Impl::ExtraProbes() const {
  const auto serves = [&](Strategy strategy) {
    return std::find(options_.strategies.begin(), options_.strategies.end(), strategy) !=
           options_.strategies.end();
  };
  const bool any = serves(Strategy::kAttentionRag) && serves(Strategy::kFull) &&
                   options_.max_full_sessions > 0 && options_.max_history_sessions > 0;
  return any ? options_.max_generations * (kMostProbes - 1) : 0;
}

// States of strategy full of several lengths, of which the short ones lie side by side in a slot of
// the longest. Few lengths, since work that is recorded on a device belongs to one of them.
absl::Status Engine::Impl::InitProbes(const MemoryConfig& memory) {
  if (ExtraProbes() == 0) return absl::OkStatus();
  for (int32_t tokens = kLeastProbeTokens; tokens < options_.full_context_tokens; tokens *= 2) {
    RASQ_ASSIGN_OR_RETURN(probe_layouts_.emplace_back(),
                          MakeStateLayout(Strategy::kFull, checkpoint_->model(), memory,
                                          ops_->element(), {.full_context_tokens = tokens}));
  }
  const StateLayout& longest = probe_layouts_.emplace_back(pools_.at(Strategy::kFull).layout);
  // Twice what slots hold, since a layout's fixed part is not in proportion to its length.
  return model_->ServeKeyWeights(longest, 2 * options_.max_generations);
}

// REQUIRES: the generation has its slot. Without chunks there is nothing to search.
void Engine::Impl::BeginSearch(const Session& session, Generation& generation,
                               std::vector<int32_t> question, std::vector<Passage> chunks) {
  if (chunks.empty()) {
    AddContext(generation, /*passages=*/{}, /*searched=*/0);
    return;
  }
  const int64_t tokens = session.prompts->MaxTokens(session.options.attention_rag.chunk_tokens,
                                                    static_cast<int64_t>(question.size()));
  const auto layout = std::find_if(
      probe_layouts_.begin(), probe_layouts_.end(),
      [&](const StateLayout& candidate) { return candidate.shape.window_rows >= tokens; });
  RASQ_CHECK(layout != probe_layouts_.end());  // CheckSearch
  const int64_t places = std::clamp<int64_t>(probe_layouts_.back().bytes / layout->bytes, 1,
                                             std::min<int64_t>(kMostProbes, chunks.size()));
  std::vector<std::byte*> states;
  states.reserve(places);
  for (int64_t i = 0; i < places; ++i) {
    states.push_back(generation.slot.data() + i * layout->bytes);
  }
  generation.search = std::make_unique<AttentionSearch>(
      AttentionSearch::Setup{.prompts = session.prompts.get(),
                             .tokenizer = tokenizer_.get(),
                             .ends_sentence = &ends_sentence_,
                             .layout = &*layout,
                             .top_tokens = session.options.attention_rag.top_tokens,
                             .num_layers = model_->config().num_layers,
                             .hidden = model_->config().hidden,
                             .eos = model_->config().eos_token_ids,
                             .question = std::move(question),
                             .chunks = std::move(chunks)},
      states);
}

void Engine::Impl::AfterProbe(const Stream& stream, const StepOutcome& outcome) {
  const auto& [session, generation, probe] = stream;
  if (generation->over || probe->queue.size() > 0) return;  // another probe has failed it
  if (probe->draws() && outcome.token < 0) {
    EndGeneration(session, generation, absl::InternalError("the model's logits are not finite"));
    return;
  }
  AttentionSearch& search = *generation->search;
  search.Advance(*probe, outcome);
  if (!search.done()) return;
  if (absl::Status status = EndSearch(*session, *generation); !status.ok()) {
    EndGeneration(session, generation, status);
    FailSession(session, status);
  }
}

// The slot that the probes shared becomes the answer's.
absl::Status Engine::Impl::EndSearch(const Session& session, Generation& generation) {
  int64_t prompt_tokens = 0;
  for (const std::shared_ptr<const Input>& input : generation.prompt)
    prompt_tokens += input->size();
  // Beside BOS and prompt; the answer may have half of it, and a chunk fits in any case.
  const int64_t room = session.layout->shape.window_rows - 2 - prompt_tokens;
  const int64_t answer = std::min<int64_t>(generation.request.stop.max_new_tokens, room / 2);
  const int64_t passages =
      std::max<int64_t>(room - answer, session.options.attention_rag.chunk_tokens);
  const std::vector<Passage> found = generation.search->Found(passages);
  const int64_t searched = generation.search->num_tokens();
  generation.search = nullptr;
  RASQ_RETURN_IF_ERROR(ResetState(*session.layout, *ops_, generation.slot.data()));
  AddContext(generation, found, searched);
  return absl::OkStatus();
}

}  // namespace rasq
