// Sessions of strategies rag and attention_rag: text is kept as tokens on the host
// (token_history.h), and each question reads what it finds there with full attention, in a state
// that its generation alone has.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/check_range.h"
#include "engine/engine_impl.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

constexpr int32_t kDefaultChunkTokens = 512, kDefaultChunks = 5;
constexpr int32_t kLeastChunkTokens = 8;  // a chunk takes some 200 bytes beside its tokens
// Tokens that one turn takes into a history, and into its index: some milliseconds, so that others'
// steps need not wait long.
constexpr int64_t kTurnTokens = 8192;

// The most tokens that a question's chunks have in all.
int64_t MaxPassageTokens(const RagOptions& rag) { return int64_t{rag.chunks} * rag.chunk_tokens; }

}  // namespace

absl::StatusOr<RagOptions> Engine::Impl::CheckRag(const RagOptions& options) const {
  RagOptions checked = options;
  if (checked.chunk_tokens == 0) checked.chunk_tokens = kDefaultChunkTokens;
  if (checked.chunks == 0) checked.chunks = kDefaultChunks;
  RASQ_RETURN_IF_ERROR(CheckRange("options.rag.chunk_tokens", checked.chunk_tokens,
                                  kLeastChunkTokens, kMaxRagTokens));
  RASQ_RETURN_IF_ERROR(CheckRange("options.rag.chunks", checked.chunks, 1, kMaxRagTokens));
  if (MaxPassageTokens(checked) >= options_.full_context_tokens) {
    return absl::InvalidArgumentError(absl::StrCat(
        "options.rag.chunks=", checked.chunks, ": of chunk_tokens=", checked.chunk_tokens,
        " they leave no room for a prompt in full_context_tokens=", options_.full_context_tokens));
  }
  if (checked.history_tokens != 0) {
    RASQ_RETURN_IF_ERROR(CheckRange<int64_t>("options.rag.history_tokens", checked.history_tokens,
                                             checked.chunk_tokens, options_.max_history_tokens));
  }
  return checked;
}

absl::Status Engine::Impl::CheckHistoryContent(const Session& session, const Content& content) {
  if (!session.layout->keeps_history()) return absl::OkStatus();
  if (!std::holds_alternative<EmbeddingRows>(content)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "content.embeddings: the session's strategy keeps token ids");
}

absl::Status Engine::Impl::CheckHistoryRoom(const Session& session, int64_t num_tokens) const {
  if (!session.layout->keeps_history()) return absl::OkStatus();
  const int64_t context = session.accepted_tokens + num_tokens;
  if (HistoryOptions(session.options).history_tokens > 0 ||
      context <= options_.max_history_tokens) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "context_tokens=", context, " with this call's: strategy ", Name(session.layout->strategy),
      " keeps at most ", options_.max_history_tokens, ", or the newest with history_tokens"));
}

absl::Status Engine::Impl::CheckPassages(const Session& session, int64_t prompt_tokens) const {
  if (session.prompts != nullptr) return CheckSearch(session, prompt_tokens);
  if (!session.layout->keeps_history()) return absl::OkStatus();
  // BOS and one token to generate.
  const int64_t passages = std::min(session.accepted_tokens, MaxPassageTokens(session.options.rag));
  const int64_t context = passages + prompt_tokens + 1;
  if (context < session.layout->shape.window_rows) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "context_tokens=", context, " with ", passages,
      " of the session's: strategy rag reads at most ", session.layout->shape.window_rows));
}

// A turn's part of what was appended and is not in the session's history yet, or not in its index.
// False if the session has failed.
bool Engine::Impl::AdvanceHistory(const SessionPtr& session) {
  LoadItems(*session);
  TokenHistory& history = *session->history;
  const std::vector<InputToken> tokens =
      session->queue.Pop(std::min(kTurnTokens, session->queue.size()));
  std::vector<int32_t> ids;
  ids.reserve(tokens.size());
  for (const InputToken& token : tokens) ids.push_back(token.id);
  history.Append(ids);
  session->cursor.position += static_cast<int64_t>(ids.size());
  const absl::StatusOr<bool> indexed = history.Index(
      kTurnTokens, [this](absl::Span<const int32_t> text) { return model_->Embedding(text); });
  if (!indexed.ok()) {
    FailSession(session, indexed.status());
    return false;
  }
  {
    MutexLock lock(mu_);
    session->history_bytes = history.bytes();
  }
  WriteCheckpoint(session);
  return true;
}

// What a generation reads of the history comes before its prompt. What the session's text holds
// back belongs to its last chunk.
absl::Status Engine::Impl::BeginReading(const Session& session, Generation& generation) {
  std::vector<int32_t> question;
  for (size_t i = generation.held_tokens > 0 ? 1 : 0; i < generation.prompt.size(); ++i) {
    const std::vector<int32_t>& ids = generation.prompt[i]->ids;
    question.insert(question.end(), ids.begin(), ids.end());
  }
  absl::Span<const int32_t> held;
  if (generation.held_tokens > 0) held = generation.prompt.front()->ids;
  if (session.prompts != nullptr) {
    BeginSearch(session, generation, std::move(question), session.history->Chunks(held));
    return absl::OkStatus();
  }
  RASQ_ASSIGN_OR_RETURN(
      std::vector<Passage> passages,
      session.history->Search(question, held, [this](absl::Span<const int32_t> text) {
        return model_->Embedding(text);
      }));
  double total = 0;
  for (const Passage& passage : passages) total += std::max(0.0, passage.score);
  for (Passage& passage : passages) {
    passage.score = total > 0 ? std::max(0.0, passage.score) / total : 0;
  }
  AddContext(generation, passages, MaxPassageTokens(session.options.rag));
  return absl::OkStatus();
}

// The context of a generation: BOS if texts begin with it, the passages, the prompt. Scores are the
// evidence's; `searched` tokens might have been read.
void Engine::Impl::AddContext(Generation& generation, const std::vector<Passage>& passages,
                              int64_t searched) {
  const int32_t bos = tokenizer_->add_bos() ? tokenizer_->bos_token_id() : -1;
  const auto push = [&](std::vector<int32_t> ids) {
    generation.queue->Push(std::make_shared<Input>(Input{.ids = std::move(ids)}));
  };
  // A text that begins with the prompt has its own.
  if (bos >= 0 && generation.begun_before) push({bos});
  int64_t read = 0;
  for (const Passage& passage : passages) {
    const std::vector<int32_t>& ids = passage.input->ids;
    if (passage.position == 0 && ids.front() == bos) {
      push({ids.begin() + 1, ids.end()});
    } else {
      generation.queue->Push(passage.input);
    }
    read += passage.input->size();
    if (generation.request.evidence == 0) continue;
    for (size_t i = 0; i < ids.size(); ++i) {
      generation.evidence[passage.position + static_cast<int64_t>(i)] = {.token = ids[i],
                                                                         .share = passage.score};
    }
  }
  for (size_t i = generation.held_tokens > 0 ? 1 : 0; i < generation.prompt.size(); ++i) {
    generation.queue->Push(generation.prompt[i]);
  }
  generation.retrieved_tokens = read;
  generation.num_retrievals = 1;
  if (observer_ != nullptr) {
    observer_->OnRetrieval(static_cast<int32_t>(searched), static_cast<int32_t>(read));
  }
}

}  // namespace rasq
