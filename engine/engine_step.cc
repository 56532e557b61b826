// What the engine's thread does of the accepted calls: loads appended input, starts generations,
// runs a step of many streams, and hands out what came of it.
#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/engine_impl.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

WritePolicy WritePolicyOf(const SessionOptions& options) {
  return {.log_growth = options.half_life_tokens > 0 ? std::log(2.0) / options.half_life_tokens : 0,
          .noise = options.replacement_noise,
          .seed = static_cast<uint64_t>(options.seed),
          .by_age = options.ablation.no_rckv};
}

ReadPolicy ReadPolicyOf(const SessionOptions& options) {
  return {.budget = options.budget_tokens,
          .gain = static_cast<float>(options.budget_gain),
          .floor = static_cast<float>(options.score_floor),
          .newest = options.ablation.no_dsr};
}

}  // namespace

void Engine::Impl::ServeItems(const SessionPtr& session) {
  if (session->log_pending) return;
  if (session->history != nullptr && !AdvanceHistory(session)) return;
  while (!session->items.empty()) {
    LoadItems(*session);
    if (AbsorbItems(session)) continue;
    if (session->items.front().task != nullptr) {
      if (!DoTask(session)) return;
      continue;
    }
    const std::shared_ptr<Generation> generation = session->items.front().generation;
    if (generation == nullptr) {  // a step has to come first, or another turn
      if (WaitsForScore(session)) return;
      if (session->history != nullptr) {
        history_waits_ = true;
        return;
      }
      if (!session->slot && !session->waits) {
        session->waits = true;
        waiting_.push_back(session);
      }
      return;
    }
    if (generation->slot) return;
    if (generation->over) {  // it was cancelled, or failed
      session->items.pop_front();
      continue;
    }
    const absl::StatusOr<bool> started = StartGeneration(session, *generation);
    if (!started.ok()) {
      FailSession(session, started.status());
      return;
    }
    if (!*started) return;  // no slot for its copy is free, or the state is still on disk
    running_.push_back({session, generation});
    // What is committed comes before what is appended from now on; else that need not wait.
    if (generation->request.commit) return;
    session->items.pop_front();
  }
  busy_.erase(session->key);
}

// Whether it was done, or has failed.
bool Engine::Impl::DoTask(const SessionPtr& session) {
  const absl::StatusOr<bool> done = session->items.front().task();
  if (done.ok() && !*done) return false;
  const WorkItem item = std::move(session->items.front());
  session->items.pop_front();
  {
    MutexLock lock(mu_);
    --session->items_in_flight;
  }
  if (!done.ok()) item.on_dropped(done.status());
  return true;
}

void Engine::Impl::LoadItems(Session& session) {
  if (session.log_pending) return;
  while (session.loaded_ends.size() < session.items.size() &&
         session.items[session.loaded_ends.size()].is_append()) {
    WorkItem& item = session.items[session.loaded_ends.size()];
    session.loaded = item.mark;
    ++session.num_loaded;
    Log(session, item);
    for (std::shared_ptr<const Input>& input : item.input) session.queue.Push(std::move(input));
    session.loaded_tokens += item.num_tokens;
    session.loaded_ends.push_back(session.loaded_tokens);
    if (item.score) session.score_end = session.loaded_tokens;
  }
}

// Ends the appends whose tokens are all in the session's state: in its slab or, behind the last
// whole segment, in its queue; and scored, if that was asked for. False if there was none.
bool Engine::Impl::AbsorbItems(const SessionPtr& session) {
  const bool waiting =
      session->history != nullptr ? session->queue.size() > 0 : !session->OnlyTailWaits();
  const int64_t absorbed =
      waiting ? session->loaded_tokens - session->queue.size() : session->loaded_tokens;
  std::vector<std::pair<WorkItem, AppendResult>> done;
  {
    MutexLock lock(mu_);
    // What waited behind the last whole segment was absorbed before more came, and stays so.
    const int64_t more = std::max<int64_t>(0, absorbed - session->absorbed_tokens);
    session->absorbed_tokens += more;
    backlog_tokens_ -= more;
    appended_tokens_ += more;
    while (!session->loaded_ends.empty() && session->loaded_ends.front() <= absorbed) {
      WorkItem& item = session->items.front();
      if (item.score && session->loaded_ends.front() > session->ScoredTo()) break;
      const AppendResult result{.appended_tokens = item.num_tokens,
                                .context_tokens = session->loaded_ends.front(),
                                .next_offset = item.mark.next_offset,
                                .scored_tokens = item.scored_tokens,
                                .logprob_sum = item.logprob_sum};
      done.emplace_back(std::move(item), result);
      session->items.pop_front();
      session->loaded_ends.pop_front();
      --session->items_in_flight;
    }
  }
  const absl::Time now = absl::Now();
  for (auto& [item, result] : done) {
    if (observer_ != nullptr) observer_->OnAbsorbed(now - item.accept_time);
    item.on_absorbed(result);
  }
  return !done.empty();
}

absl::StatusOr<bool> Engine::Impl::StartGeneration(const SessionPtr& session,
                                                   Generation& generation) {
  if (session->history != nullptr && !session->history->is_indexed()) {
    history_waits_ = true;
    return false;
  }
  // Those that keep a history work in places of strategy full.
  const StateRoom& room =
      session->history != nullptr ? *pools_.at(Strategy::kFull).room : RoomOf(*session);
  Slot slot = room.work_slots->Acquire();
  if (!slot) return false;
  RASQ_ASSIGN_OR_RETURN(const bool copied, CopyState(session, slot.data()));
  if (!copied) return false;
  generation.slot = std::move(slot);
  CountStart(session->name.tenant);
  generation.queue = session->queue;
  generation.context_tokens = session->cursor.position + session->queue.size();
  if (session->history != nullptr) {
    RASQ_RETURN_IF_ERROR(BeginReading(*session, generation));
  } else {
    generation.cursor = session->cursor;
    for (const auto& input : generation.prompt) generation.queue->Push(input);
  }
  for (const std::shared_ptr<const Input>& input : generation.prompt) {
    for (const int32_t id : input->ids) generation.seen.emplace(id, 0);
  }
  generation.context_tokens += generation.held_tokens;
  generation.output.emplace(tokenizer_.get(), &generation.request.stop,
                            model_->config().eos_token_ids);
  generation.run_time = absl::Now();
  MutexLock lock(mu_);
  ++generations_running_;
  return true;
}

// A generation that would have been committed has failed: the text that ended for its sake goes on.
void Engine::Impl::ReturnHeldText(const SessionPtr& session, const Generation& generation) {
  MutexLock input_lock(session->input_mu);
  if (session->num_inputs == generation.num_inputs) {
    std::vector<int32_t> none;
    session->text.Append(generation.held_text, none);
    session->begun = generation.begun_before;
    return;
  }
  // Something was said since: what was held back stands before it, as the tokens it has become.
  const auto item =
      std::find_if(session->items.begin(), session->items.end(),
                   [&](const WorkItem& other) { return other.generation.get() == &generation; });
  if (generation.held_tokens == 0 || item == session->items.end()) return;
  *item = {.input = {generation.prompt.front()},
           .num_tokens = generation.held_tokens,
           .accept_time = generation.start_time,
           .on_absorbed = [](const absl::StatusOr<AppendResult>&) {},
           .mark = generation.mark};
  MutexLock lock(mu_);
  session->accepted_tokens += generation.held_tokens;
  backlog_tokens_ += generation.held_tokens;
  ++session->items_in_flight;
}

StreamStep Engine::Impl::StepOf(const Session& session, std::byte* state, StreamCursor& cursor,
                                std::vector<InputToken> tokens) {
  return {.layout = session.layout,
          .state = state,
          .cursor = &cursor,
          .tokens = std::move(tokens),
          .write = WritePolicyOf(session.options),
          .read = ReadPolicyOf(session.options)};
}

StreamStep Engine::Impl::MakeStep(const Share& share) {
  const Stream& stream = share.stream;
  Session& session = *stream.session;
  Generation* generation = stream.generation.get();
  if (Probe* probe = stream.probe; probe != nullptr) {
    StreamStep step{.layout = &generation->search->layout(),
                    .state = probe->state,
                    .cursor = &probe->cursor,
                    .tokens = probe->queue.Pop(share.tokens)};
    if (probe->draws() && probe->queue.size() == 0) step.sample = SamplePolicy();
    if (probe->task == Probe::Task::kScore) step.key_weights = &probe->key_weights;
    return step;
  }
  StreamStep step =
      StepOf(session, generation != nullptr ? generation->slot.data() : session.slot.data(),
             stream.cursor(), stream.queue().Pop(share.tokens));
  if (generation == nullptr && session.score_end > session.ScoredTo()) {
    // A token stands behind every step of a session's own.
    AddTargets(session, session.queue.Peek(1).front(), step);
  }
  step.prompt_ends =
      generation != nullptr && generation->decoding() && generation->output->num_tokens() == 1;
  if (generation != nullptr && generation->queue->size() == 0) {
    step.sample = generation->NextSample(model_->limits().max_seen);
  }
  return step;
}

bool Engine::Impl::RunStep() {
  const StepPlan plan = PlanShares();
  const std::vector<Share>& shares = plan.shares;
  if (shares.empty()) return false;
  const absl::Time start = absl::Now();
  std::vector<StreamStep> steps;
  absl::Status reset;
  for (const Share& share : shares) {
    steps.push_back(MakeStep(share));
    reset.Update(ClearFresh(share.stream));
  }
  const absl::StatusOr<std::vector<StepOutcome>> outcomes =
      reset.ok() ? model_->Step(steps) : absl::StatusOr<std::vector<StepOutcome>>(reset);
  if (!outcomes.ok()) {
    FailStep(shares, outcomes.status());
    return true;
  }
  const absl::Duration time = absl::Now() - start;
  ReportStep(shares, time);
  AccountStep(plan, steps, time);
  being_copied_.clear();  // the step has waited for the device
  ++num_steps_;
  for (size_t i = 0; i < shares.size(); ++i) {
    const auto& [session, generation, probe] = shares[i].stream;
    if (probe != nullptr) {
      AfterProbe(shares[i].stream, (*outcomes)[i]);
      continue;
    }
    NoteRetrievals(generation.get(), (*outcomes)[i]);
    if (generation == nullptr) {
      NoteScores(*session, steps[i], (*outcomes)[i]);
      session->used = num_steps_;
      WriteCheckpoint(session);
    }
    if (steps[i].sample.has_value()) AfterToken(session, generation, (*outcomes)[i]);
  }
  return true;
}

void Engine::Impl::ReportStep(const std::vector<Share>& shares, absl::Duration time) {
  if (observer_ == nullptr) return;
  int64_t tokens = 0, decoded = 0;
  for (const Share& share : shares) {
    const Generation* generation = share.stream.generation.get();
    tokens += share.tokens;
    if (generation != nullptr && generation->decoding()) ++decoded;
  }
  const StepKind kind = decoded == 0        ? StepKind::kAppend
                        : decoded == tokens ? StepKind::kDecode
                                            : StepKind::kMixed;
  observer_->OnStep(kind, time, static_cast<int32_t>(tokens));
}

// A step that failed leaves its streams' states unusable.
void Engine::Impl::FailStep(const std::vector<Share>& shares, const absl::Status& status) {
  const absl::Status failure =
      absl::InternalError(absl::StrCat("a step failed: ", status.message()));
  if (absl::IsUnavailable(status)) {  // the device is gone
    MutexLock lock(mu_);
    health_ = status;
  }
  for (const Share& share : shares) {
    const auto& [session, generation, probe] = share.stream;
    if (generation != nullptr && !generation->over) EndGeneration(session, generation, failure);
    FailSession(session, failure);
  }
}

// The slot of a new session holds what its last owner left, until its first use; a probe's part of
// one what was read there before.
absl::Status Engine::Impl::ClearFresh(const Stream& stream) {
  if (Probe* probe = stream.probe; probe != nullptr) {
    if (!std::exchange(probe->fresh, false)) return absl::OkStatus();
    return ResetState(stream.generation->search->layout(), *ops_, probe->state);
  }
  Session& session = *stream.session;
  if (stream.generation != nullptr || !session.fresh) return absl::OkStatus();
  session.fresh = false;
  return ResetState(*session.layout, *ops_, session.slot.data());
}

void Engine::Impl::NoteRetrievals(Generation* generation, const StepOutcome& outcome) {
  for (size_t i = 0; i < outcome.retrieved.size(); ++i) {
    const int32_t read = outcome.retrieved[i];
    if (observer_ != nullptr) observer_->OnRetrieval(outcome.budget[i], read);
    if (generation != nullptr) {
      generation->retrieved_tokens += read;
      ++generation->num_retrievals;
    }
  }
  MutexLock lock(mu_);
  buffer_replacements_ += outcome.num_replaced;
}

void Engine::Impl::AfterToken(const SessionPtr& session,
                              const std::shared_ptr<Generation>& generation,
                              const StepOutcome& outcome) {
  if (outcome.token < 0) {
    EndGeneration(session, generation, absl::InternalError("the model's logits are not finite"));
    return;
  }
  Generation& g = *generation;
  if (g.request.evidence > 0 && !outcome.retrieved.empty()) {
    for (size_t r = 0; r < session->layout->retrievals.size(); ++r) {
      const absl::StatusOr<std::vector<RetrievedEntry>> entries =
          model_->Retrieved(*session->layout, g.slot.data(), static_cast<int32_t>(r));
      if (!entries.ok()) {
        EndGeneration(session, generation, entries.status());
        return;
      }
      g.AddEvidence(*entries);
    }
  }
  const absl::Time now = absl::Now();
  const bool first = g.output->num_tokens() == 0;
  if (first) g.first_time = now;
  if (observer_ != nullptr) {
    first ? observer_->OnFirstToken(now - g.start_time) : observer_->OnNextToken(now - g.last_time);
  }
  g.last_time = now;
  {
    MutexLock lock(mu_);
    ++generated_tokens_;
  }
  GeneratedToken token{.token_id = outcome.token, .logprob = outcome.logprob, .alternatives = {}};
  for (int32_t i = 0; i < g.request.logprobs && outcome.alternatives[i] >= 0; ++i) {
    token.alternatives.push_back(
        {.token_id = outcome.alternatives[i], .logprob = outcome.alternative_logprobs[i]});
  }
  ++g.seen[outcome.token];
  g.output->Push(std::move(token));

  const StateLayout& layout = *session->layout;
  const int32_t most = layout.keeps_all() ? layout.shape.window_rows : layout.max_context();
  const bool full = most > 0 && g.cursor.position >= most;
  if (g.output->stopped()) {
    EndGeneration(session, generation, FinishReason::kStop);
  } else if (full || g.output->num_tokens() >= g.request.stop.max_new_tokens) {
    g.output->Finish();
    EndGeneration(session, generation, FinishReason::kLength);
  } else {
    Input next{.ids = {outcome.token}};
    g.queue->Push(std::make_shared<Input>(std::move(next)));
    GenerateChunk chunk = g.output->Take();
    if (!chunk.text.empty() || !chunk.tokens.empty()) g.sink->OnChunk(std::move(chunk));
  }
}

void Engine::Impl::EndGeneration(const SessionPtr& session,
                                 const std::shared_ptr<Generation>& generation,
                                 absl::StatusOr<FinishReason> end) {
  Generation& g = *generation;
  RASQ_CHECK(!g.over);
  g.over = true;
  generations_.erase(g.id);
  const bool was_running = static_cast<bool>(g.slot);
  g.slot = Slot();
  std::erase_if(running_, [&](const Stream& stream) { return stream.generation == generation; });
  if (!end.ok()) {
    if (g.request.commit) ReturnHeldText(session, g);
    ForgetGeneration(g, *session, was_running);
    g.sink->OnDone(end.status());
    return;
  }
  GenerateChunk chunk = g.output->Take();
  if (!chunk.text.empty() || !chunk.tokens.empty()) g.sink->OnChunk(std::move(chunk));
  GenerateSummary summary = g.Summary(*end, *tokenizer_);
  if (g.request.commit) {
    session->items.front() = CommitItem(session, generation, std::move(summary));
    return;
  }
  ForgetGeneration(g, *session, was_running);
  g.sink->OnDone(std::move(summary));
}

// The append of what a generation said. Its text goes through the same path as any other, so a
// session's state follows from its tokens alone, however they came; the generation's copy is not
// kept.
WorkItem Engine::Impl::CommitItem(const SessionPtr& session,
                                  const std::shared_ptr<Generation>& generation,
                                  GenerateSummary summary) {
  WorkItem item{.input = generation->prompt, .accept_time = absl::Now(), .mark = generation->mark};
  Input output{.ids = generation->output->ContextTokens()};
  item.input.push_back(std::make_shared<Input>(std::move(output)));
  for (const std::shared_ptr<const Input>& input : item.input) item.num_tokens += input->size();
  item.on_absorbed = [this, session, generation,
                      summary = std::move(summary)](const absl::StatusOr<AppendResult>& result) {
    ForgetGeneration(*generation, *session, /*was_running=*/true);
    // A session that is being deleted has no use for the context, but the answer stands.
    if (result.ok() || absl::IsAborted(result.status())) {
      generation->sink->OnDone(summary);
    } else {
      generation->sink->OnDone(result.status());
    }
  };
  MutexLock lock(mu_);
  session->accepted_tokens += item.num_tokens;
  backlog_tokens_ += item.num_tokens;
  ++session->items_in_flight;
  return item;
}

void Engine::Impl::ForgetGeneration(const Generation& generation, Session& session,
                                    bool was_running) {
  MutexLock lock(mu_);
  if (session.generation == generation.id) {  // else the next one is already in flight
    session.generation = 0;
    session.cancelling = false;
  }
  session.last_use_time = absl::Now();
  generations_open_.erase(generation.id);
  if (was_running) --generations_running_;
}

}  // namespace rasq
