// Appends that are scored: each of their tokens by the logits behind the token before it. As the
// session's stream moves it scores what it reads and the token after that. Its last segment waits
// in the queue until it is full, and stays there: a copy of the state reads it ahead, and is then
// forgotten, so that the session does not know that it was scored.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/engine_impl.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

// Calls visit(item, position) for those tokens at the positions [begin, end) of the session that
// are to be scored and have not been.
template <typename Visit>
void ForEachUnscored(Session& session, int64_t begin, int64_t end, const Visit& visit) {
  begin = std::max(begin, session.scored_end);
  for (size_t i = 0; i < session.loaded_ends.size(); ++i) {
    WorkItem& item = session.items[i];
    const int64_t item_end = session.loaded_ends[i];
    const int64_t item_begin = item_end - item.num_tokens;
    if (item_begin >= end) return;
    if (!item.score) continue;
    for (int64_t position = std::max(begin, item_begin); position < std::min(end, item_end);
         ++position) {
      visit(item, position);
    }
  }
}

// Whether an append waits for the scores of the last segment alone.
bool ScoreIsDue(const Session& session) {
  return session.score_end > session.ScoredTo() && session.OnlyTailWaits();
}

}  // namespace

absl::Status Engine::Impl::CheckScore(const Session& session, const AppendRequest& request) {
  if (!request.score) return absl::OkStatus();
  if (session.layout->keeps_history()) {
    return absl::FailedPreconditionError(
        absl::StrCat("score=true: strategy ", Name(session.layout->strategy),
                     " keeps text alone, which no model reads before a question"));
  }
  if (std::holds_alternative<EmbeddingRows>(request.content)) {
    return absl::InvalidArgumentError("score=true: the rows of content.embeddings are no tokens");
  }
  return absl::OkStatus();
}

// Asks `step` for the scores that its rows can give; `next` follows its tokens.
void Engine::Impl::AddTargets(Session& session, const InputToken& next, StreamStep& step) {
  const int64_t first = step.cursor->position;
  const auto rows = static_cast<int64_t>(step.tokens.size());
  ForEachUnscored(session, first + 1, first + rows + 1, [&](const WorkItem&, int64_t position) {
    step.targets.resize(rows, -1);
    const int64_t row = position - first;  // of the token; the one before it predicts it
    step.targets[row - 1] = row < rows ? step.tokens[row].id : next.id;
  });
}

// After the step.
void Engine::Impl::NoteScores(Session& session, const StreamStep& step,
                              const StepOutcome& outcome) {
  if (step.targets.empty()) return;
  const int64_t end = step.cursor->position;
  const int64_t first = end - static_cast<int64_t>(step.tokens.size());
  ForEachUnscored(session, first + 1, end + 1, [&](WorkItem& item, int64_t position) {
    ++item.scored_tokens;
    item.logprob_sum += outcome.target_logprobs[position - first - 1];
  });
  session.scored_end = std::max(session.scored_end, end + 1);
}

bool Engine::Impl::WaitsForScore(const SessionPtr& session) {
  if (!ScoreIsDue(*session)) return false;
  if (std::find(tails_.begin(), tails_.end(), session) == tails_.end()) tails_.push_back(session);
  return true;
}

// One step of as many sessions' tails as there is room for; the others come first the next time.
bool Engine::Impl::ScoreTails() {
  struct Tail {
    Slot slot;
    StreamCursor cursor;
  };
  std::deque<Tail> tails;  // addresses stay
  std::vector<Share> shares;
  std::vector<StreamStep> steps;
  int64_t rows = 0;
  for (const SessionPtr& session : std::exchange(tails_, {})) {
    if (!ScoreIsDue(*session)) continue;  // it failed meanwhile, or is being deleted
    tails_.push_back(session);            // until there is a step
    std::vector<InputToken> tokens = session->queue.Peek(session->queue.size());
    const InputToken next = std::move(tokens.back());
    tokens.pop_back();
    const auto count = static_cast<int64_t>(tokens.size());
    if (rows + count > model_->limits().max_rows) continue;
    int64_t allowed = 0;
    if (!MayMove(session->name.tenant, TokenKind::kAppended, allowed)) continue;
    Slot slot = RoomOf(*session).work_slots->Acquire();
    if (!slot) continue;
    const absl::StatusOr<bool> copied = CopyState(session, slot.data());
    if (!copied.ok()) FailSession(session, copied.status());
    if (!copied.ok() || !*copied) continue;
    rows += count;
    tails_.pop_back();
    tails.push_back({.slot = std::move(slot), .cursor = session->cursor});
    shares.push_back({.stream = {session, nullptr}, .tokens = count});
    steps.push_back(
        StepOf(*session, tails.back().slot.data(), tails.back().cursor, std::move(tokens)));
    AddTargets(*session, next, steps.back());
  }
  if (steps.empty()) return false;
  const absl::Time start = absl::Now();
  const absl::StatusOr<std::vector<StepOutcome>> outcomes = model_->Step(steps);
  if (!outcomes.ok()) {
    FailStep(shares, outcomes.status());
    return true;
  }
  ReportStep(shares, absl::Now() - start);
  being_copied_.clear();  // the step has waited for the device
  for (size_t i = 0; i < steps.size(); ++i) {
    const SessionPtr& session = shares[i].stream.session;
    NoteScores(*session, steps[i], (*outcomes)[i]);
    if (options_.tenants != nullptr) {
      options_.tenants->Charge(session->name.tenant, TokenKind::kAppended, shares[i].tokens);
    }
  }
  return true;
}

}  // namespace rasq
