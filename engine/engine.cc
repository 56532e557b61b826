// The callers' side of the engine.
#include "engine/engine.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/engine_impl.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

bool IsSessionId(const std::string& id) {
  return !id.empty() && id.size() <= 128 && std::all_of(id.begin(), id.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '.' || c == '_' || c == '-';
  });
}

template <typename T>
absl::Status CheckRange(absl::string_view name, T value, T least, T most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, "=", value, ": must be from ", least, " to ", most));
}

int64_t ContentSize(const Content& content) {
  if (const auto* text = std::get_if<std::string>(&content)) return text->size();
  if (const auto* ids = std::get_if<std::vector<int32_t>>(&content)) return ids->size();
  if (const auto* rows = std::get_if<EmbeddingRows>(&content)) return rows->rows;
  return 0;
}

}  // namespace

absl::StatusOr<SessionOptions> Engine::Impl::CheckOptions(const SessionOptions& options) const {
  SessionOptions checked = options;
  if (checked.strategy == Strategy::kDefault) {
    checked.strategy = pools_.contains(Strategy::kRasq) ? Strategy::kRasq : Strategy::kWindow;
  }
  if (!pools_.contains(checked.strategy)) {
    return absl::FailedPreconditionError(
        "options.strategy=rasq: the model has no memory adapter (rasq_config.json)");
  }
  if (checked.ttl < absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("options.ttl=", absl::FormatDuration(checked.ttl), ": is negative"));
  }
  if (checked.ttl == absl::ZeroDuration()) checked.ttl = options_.default_ttl;
  const int32_t most = std::max(1, model_info_.max_budget_tokens);
  if (checked.budget_tokens == 0) checked.budget_tokens = most;
  RASQ_RETURN_IF_ERROR(
      CheckRange("options.retrieval_budget_tokens", checked.budget_tokens, 1, most));
  if (checked.budget_gain < 0) checked.budget_gain = 0;
  RASQ_RETURN_IF_ERROR(
      CheckRange("options.retrieval_budget_gain", checked.budget_gain, 0.0, 1000.0));
  RASQ_RETURN_IF_ERROR(CheckRange("options.half_life_tokens", checked.half_life_tokens, 0.0, 1e15));
  RASQ_RETURN_IF_ERROR(
      CheckRange("options.replacement_noise", checked.replacement_noise, 0.0, 1.0));
  return checked;
}

absl::StatusOr<SessionInfo> Engine::Impl::CreateSession(const CreateSessionRequest& request) {
  RASQ_ASSIGN_OR_RETURN(const SessionOptions options, CheckOptions(request.options));
  if (!request.id.empty() && !IsSessionId(request.id)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "session_id=\"", request.id, "\": must be 1 to 128 of A-Z, a-z, 0-9, '.', '_', '-'"));
  }
  RASQ_RETURN_IF_ERROR(CheckRange<int64_t>("labels.size", request.labels.size(), 0, 16));

  MutexLock lock(mu_);
  if (stopping_) return absl::UnavailableError("the engine is stopping");
  if (!request.request_id.empty()) {
    const auto repeated = session_of_request_.find(request.request_id);
    if (repeated != session_of_request_.end()) return Info(*sessions_.at(repeated->second));
  }
  std::string id = request.id;
  while (id.empty() || (request.id.empty() && sessions_.contains(id))) {
    id = absl::StrCat("session-", next_key_++);
  }
  if (sessions_.contains(id)) {
    return absl::AlreadyExistsError(absl::StrCat("session_id=", id, ": is taken"));
  }
  StatePool& pool = pools_.at(options.strategy);
  Slot slot = pool.slots->Acquire();
  if (!slot) {
    return absl::ResourceExhaustedError(
        absl::StrCat("sessions: all ", pool.slots->num_slots(), " slots",
                     options.strategy == Strategy::kFull ? " of strategy full" : "", " are taken"));
  }
  auto session = std::make_shared<Session>(id, tokenizer_.get(), model_->config().hidden);
  session->key = next_key_++;
  session->request_id = request.request_id;
  session->options = options;
  session->labels = request.labels;
  session->create_time = session->last_use_time = absl::Now();
  session->layout = &pool.layout;
  session->slot = std::move(slot);
  sessions_[id] = session;
  if (!request.request_id.empty()) session_of_request_[request.request_id] = id;
  return Info(*session);
}

SessionInfo Engine::Impl::Info(const Session& session) const {
  return {.id = session.id,
          .create_time = session.create_time,
          .last_use_time = session.last_use_time,
          .expire_time = session.options.ttl > absl::ZeroDuration()
                             ? session.last_use_time + session.options.ttl
                             : absl::InfiniteFuture(),
          .labels = session.labels,
          .options = session.options,
          .state = session.state,
          .context_tokens = session.absorbed_tokens,
          .backlog_tokens = session.accepted_tokens - session.absorbed_tokens,
          .next_offset = session.known_offset,
          .state_bytes = session.layout->bytes};
}

absl::StatusOr<Engine::Impl::SessionPtr> Engine::Impl::Find(const std::string& id) const {
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) {
    return absl::NotFoundError(absl::StrCat("session_id=\"", id, "\": no such session"));
  }
  return found->second;
}

absl::StatusOr<Engine::Impl::SessionPtr> Engine::Impl::FindUsable(const std::string& id) {
  if (stopping_) return absl::UnavailableError("the engine is stopping");
  RASQ_RETURN_IF_ERROR(health_);
  RASQ_ASSIGN_OR_RETURN(SessionPtr session, Find(id));
  if (session->state == SessionState::kDeleting) {
    return absl::FailedPreconditionError(absl::StrCat("session_id=", id, ": is being deleted"));
  }
  if (session->state == SessionState::kFailed) {
    return absl::FailedPreconditionError(
        absl::StrCat("session_id=", id, ": has failed: ", session->failure.message()));
  }
  session->last_use_time = absl::Now();
  return session;
}

absl::StatusOr<SessionInfo> Engine::Impl::GetSession(const std::string& id) const {
  MutexLock lock(mu_);
  RASQ_ASSIGN_OR_RETURN(const SessionPtr session, Find(id));
  return Info(*session);
}

absl::StatusOr<SessionPage> Engine::Impl::ListSessions(int32_t page_size,
                                                       const std::string& page_token) const {
  RASQ_RETURN_IF_ERROR(CheckRange("page_size", page_size, 0, 1000));
  if (!page_token.empty() && !IsSessionId(page_token)) {
    return absl::InvalidArgumentError(
        absl::StrCat("page_token=\"", page_token, "\": is not one that ListSessions gave"));
  }
  const size_t most = page_size == 0 ? 100 : page_size;
  MutexLock lock(mu_);
  SessionPage page;  // the token is the last id of the page before
  auto next = page_token.empty() ? sessions_.begin() : sessions_.upper_bound(page_token);
  for (; next != sessions_.end() && page.sessions.size() < most; ++next) {
    page.sessions.push_back(Info(*next->second));
  }
  if (next != sessions_.end()) page.next_page_token = page.sessions.back().id;
  return page;
}

void Engine::Impl::DeleteSession(const std::string& id, std::function<void(absl::Status)> done) {
  const absl::Status refused = MarkDeleting(id, done);
  if (!refused.ok()) done(refused);
}

absl::Status Engine::Impl::MarkDeleting(const std::string& id,
                                        const std::function<void(absl::Status)>& done) {
  MutexLock lock(mu_);
  if (stopping_) return absl::UnavailableError("the engine is stopping");
  RASQ_ASSIGN_OR_RETURN(const SessionPtr session, Find(id));
  if (session->state != SessionState::kDeleting) ++num_deleting_;
  session->state = SessionState::kDeleting;
  session->on_deleted.push_back(done);
  wake_.Signal();
  return absl::OkStatus();
}

absl::Status Engine::Impl::CheckContent(const Content& content) const {
  if (const auto* ids = std::get_if<std::vector<int32_t>>(&content)) {
    for (size_t i = 0; i < ids->size(); ++i) {
      RASQ_RETURN_IF_ERROR(CheckRange(absl::StrCat("content.token_ids.ids[", i, "]"), (*ids)[i], 0,
                                      model_->config().vocab - 1));
    }
  }
  if (const auto* rows = std::get_if<EmbeddingRows>(&content)) {
    const int64_t hidden = model_->config().hidden;
    if (rows->rows < 0 || static_cast<int64_t>(rows->values.size()) != rows->rows * hidden) {
      return absl::InvalidArgumentError(absl::StrCat("content.embeddings: rows=", rows->rows,
                                                     " with ", rows->values.size(),
                                                     " values: must be ", hidden, " a row"));
    }
    for (size_t i = 0; i < rows->values.size(); ++i) {
      if (!std::isfinite(rows->values[i])) {
        return absl::InvalidArgumentError(
            absl::StrCat("content.embeddings: value ", i, " is not finite"));
      }
    }
  }
  return absl::OkStatus();
}

std::vector<std::shared_ptr<const Input>> Engine::Impl::ToInput(Content content, bool pinned,
                                                                bool& begun, TextStream& text,
                                                                int64_t& num_tokens) const {
  std::vector<std::shared_ptr<const Input>> inputs;
  const auto add = [&](Input input) {
    num_tokens += input.size();
    if (input.size() > 0) inputs.push_back(std::make_shared<Input>(std::move(input)));
  };
  if (auto* said = std::get_if<std::string>(&content)) {
    if (said->empty()) return inputs;
    Input input{.pinned = pinned};
    if (pinned) {  // a text of its own: what is held back before it is not pinned
      Input before;
      text.Finish(before.ids);
      add(std::move(before));
    }
    if (!begun && tokenizer_->add_bos()) input.ids.push_back(tokenizer_->bos_token_id());
    text.Append(*said, input.ids);
    if (pinned) text.Finish(input.ids);
    add(std::move(input));
  } else {
    if (ContentSize(content) == 0) return inputs;
    Input before;
    text.Finish(before.ids);
    add(std::move(before));
    Input input{.pinned = pinned};
    if (auto* ids = std::get_if<std::vector<int32_t>>(&content)) {
      input.ids = std::move(*ids);
    } else if (auto* rows = std::get_if<EmbeddingRows>(&content)) {
      input.ids.assign(rows->rows, -1);
      input.embeddings = std::move(rows->values);
    }
    add(std::move(input));
  }
  begun = true;
  return inputs;
}

absl::StatusOr<AppendReceipt> Engine::Impl::Append(
    AppendRequest request, std::function<void(absl::StatusOr<AppendResult>)> on_absorbed) {
  if (std::holds_alternative<std::monostate>(request.content)) {
    return absl::InvalidArgumentError("content: is not set");
  }
  RASQ_RETURN_IF_ERROR(CheckContent(request.content));
  SessionPtr session;
  {
    MutexLock lock(mu_);
    RASQ_ASSIGN_OR_RETURN(session, FindUsable(request.session_id));
  }
  const StreamShape& shape = session->layout->shape;
  if (request.pinned && !session->layout->has_memory()) {
    return absl::FailedPreconditionError("pinned=true: the session's strategy keeps no memory");
  }

  MutexLock input_lock(session->input_mu);
  if (request.offset >= 0 && request.offset != session->next_offset) {
    return absl::OutOfRangeError(
        absl::StrCat("offset=", request.offset, ": next_offset is ", session->next_offset));
  }
  // Works on copies: a refusal further down must leave no trace.
  TextStream text = session->text;
  bool begun = session->begun;
  WorkItem item{.next_offset = session->next_offset + ContentSize(request.content)};
  item.input = ToInput(std::move(request.content), request.pinned, begun, text, item.num_tokens);
  const int64_t pinned_tokens = session->pinned_tokens + (request.pinned ? item.num_tokens : 0);
  if (pinned_tokens > shape.capacity / 2 && request.pinned) {
    return absl::ResourceExhaustedError(absl::StrCat("pinned: ", pinned_tokens,
                                                     " tokens in all, at most ", shape.capacity / 2,
                                                     " of the buffer may be"));
  }
  AppendReceipt receipt{.accepted_tokens = item.num_tokens, .next_offset = item.next_offset};
  item.on_absorbed = std::move(on_absorbed);
  item.accept_time = absl::Now();
  {
    MutexLock lock(mu_);
    RASQ_RETURN_IF_ERROR(FindUsable(session->id).status());
    const int64_t backlog = session->accepted_tokens - session->absorbed_tokens + item.num_tokens;
    if (backlog > options_.max_backlog_tokens) {
      return absl::ResourceExhaustedError(
          absl::StrCat("backlog_tokens=", backlog, " with this call's ", item.num_tokens,
                       ": a session may have ", options_.max_backlog_tokens));
    }
    if (backlog_tokens_ + item.num_tokens > options_.max_total_backlog_tokens) {
      return absl::ResourceExhaustedError(
          absl::StrCat("backlog_tokens of all sessions=", backlog_tokens_ + item.num_tokens,
                       " with this call's ", item.num_tokens, ": the server may have ",
                       options_.max_total_backlog_tokens));
    }
    const int64_t context = session->accepted_tokens + item.num_tokens;
    if (session->layout->strategy == Strategy::kFull && context > shape.window_rows) {
      return absl::FailedPreconditionError(
          absl::StrCat("context_tokens=", context,
                       " with this call's: strategy full keeps at most ", shape.window_rows));
    }
    session->accepted_tokens += item.num_tokens;
    session->known_offset = item.next_offset;
    ++session->appends_in_flight;
    backlog_tokens_ += item.num_tokens;
    receipt.backlog_tokens = backlog;
    inbox_.emplace_back(session, std::move(item));
    wake_.Signal();
  }
  session->text = std::move(text);
  session->begun = begun;
  session->next_offset = receipt.next_offset;
  session->pinned_tokens = pinned_tokens;
  ++session->num_inputs;
  return receipt;
}

absl::Status Engine::Impl::CheckGenerate(const GenerateRequest& request) const {
  constexpr double kLarge = 1e6;
  const SamplingOptions& sampling = request.sampling;
  const StopOptions& stop = request.stop;
  const int32_t vocab = model_->config().vocab;
  RASQ_RETURN_IF_ERROR(CheckRange("sampling.temperature", sampling.temperature, 0.0, kLarge));
  RASQ_RETURN_IF_ERROR(CheckRange("sampling.top_k", sampling.top_k, 0, INT32_MAX));
  RASQ_RETURN_IF_ERROR(CheckRange("sampling.top_p", sampling.top_p, 0.0, 1.0));
  RASQ_RETURN_IF_ERROR(CheckRange("sampling.min_p", sampling.min_p, 0.0, 1.0));
  RASQ_RETURN_IF_ERROR(
      CheckRange("sampling.repetition_penalty", sampling.repetition_penalty, 0.0, kLarge));
  RASQ_RETURN_IF_ERROR(
      CheckRange("sampling.presence_penalty", sampling.presence_penalty, -kLarge, kLarge));
  RASQ_RETURN_IF_ERROR(
      CheckRange("sampling.frequency_penalty", sampling.frequency_penalty, -kLarge, kLarge));
  RASQ_RETURN_IF_ERROR(
      CheckRange("stop.max_new_tokens", stop.max_new_tokens, 0, options_.max_new_tokens));
  RASQ_RETURN_IF_ERROR(
      CheckRange("stop.min_new_tokens", stop.min_new_tokens, 0,
                 stop.max_new_tokens > 0 ? stop.max_new_tokens : options_.default_max_new_tokens));
  RASQ_RETURN_IF_ERROR(
      CheckRange<int64_t>("stop.stop_strings.size", stop.stop_strings.size(), 0, 64));
  for (size_t i = 0; i < stop.stop_strings.size(); ++i) {
    RASQ_RETURN_IF_ERROR(CheckRange<int64_t>(absl::StrCat("stop.stop_strings[", i, "].size"),
                                             stop.stop_strings[i].size(), 1, 1024));
  }
  RASQ_RETURN_IF_ERROR(
      CheckRange<int64_t>("stop.stop_token_ids.size", stop.stop_token_ids.size(), 0, 1024));
  for (size_t i = 0; i < stop.stop_token_ids.size(); ++i) {
    RASQ_RETURN_IF_ERROR(CheckRange(absl::StrCat("stop.stop_token_ids[", i, "]"),
                                    stop.stop_token_ids[i], 0, vocab - 1));
  }
  RASQ_RETURN_IF_ERROR(CheckRange("logprobs", request.logprobs, 0,
                                  std::min(vocab, model_->limits().max_alternatives)));
  RASQ_RETURN_IF_ERROR(CheckRange("evidence", request.evidence, 0, 1000));
  return CheckContent(request.prompt);
}

absl::StatusOr<int64_t> Engine::Impl::Generate(GenerateRequest request,
                                               std::shared_ptr<GenerateSink> sink) {
  RASQ_RETURN_IF_ERROR(CheckGenerate(request));
  auto generation = std::make_shared<Generation>();
  generation->start_time = absl::Now();
  if (request.stop.max_new_tokens == 0) {
    request.stop.max_new_tokens = options_.default_max_new_tokens;
  }
  SessionPtr session;
  {
    MutexLock lock(mu_);
    RASQ_ASSIGN_OR_RETURN(session, FindUsable(request.session_id));
  }
  const StreamShape& shape = session->layout->shape;

  MutexLock input_lock(session->input_mu);
  // The text so far ends here: what it holds back is read as it stands, then the prompt.
  TextStream text = session->text;
  bool begun = session->begun;
  int64_t num_tokens = 0;
  generation->begun_before = begun;
  generation->held_text = std::string(text.held());
  Input held;
  text.Finish(held.ids);
  const int64_t held_tokens = held.size();
  if (held.size() > 0) generation->prompt.push_back(std::make_shared<Input>(std::move(held)));
  TextStream prompt_text(tokenizer_.get());
  for (auto& input :
       ToInput(std::move(request.prompt), /*pinned=*/false, begun, prompt_text, num_tokens)) {
    generation->prompt.push_back(std::move(input));
  }
  Input rest;
  prompt_text.Finish(rest.ids);
  num_tokens += rest.size();
  if (rest.size() > 0) generation->prompt.push_back(std::make_shared<Input>(std::move(rest)));
  generation->prompt_tokens = static_cast<int32_t>(num_tokens);
  if (!begun) {
    return absl::FailedPreconditionError("prompt: is empty, and so is the session");
  }
  if (num_tokens >
      0) {  // the last token of the prompt starts a segment: it reads what all of it found
    Input last = *generation->prompt.back();
    last.segment_break = last.size() - 1;
    generation->prompt.back() = std::make_shared<Input>(std::move(last));
  }
  generation->held_tokens = held_tokens;
  generation->seed = static_cast<uint64_t>(request.sampling.has_seed ? request.sampling.seed
                                                                     : session->options.seed);
  const bool commit = request.commit;
  generation->request = std::move(request);
  generation->sink = std::move(sink);

  {
    MutexLock lock(mu_);
    RASQ_RETURN_IF_ERROR(FindUsable(session->id).status());
    if (session->generation != 0 && !session->cancelling) {
      return absl::AbortedError(
          absl::StrCat("session_id=", session->id, ": another generation is in flight"));
    }
    const int32_t open = static_cast<int32_t>(generations_open_.size());
    if (open >= options_.max_generations + options_.max_queued_generations) {
      return absl::ResourceExhaustedError(
          absl::StrCat("generations: ", open, " are running or waiting already"));
    }
    const int64_t context = session->accepted_tokens + held_tokens + num_tokens;
    if (session->layout->strategy == Strategy::kFull && context >= shape.window_rows) {
      return absl::FailedPreconditionError(
          absl::StrCat("context_tokens=", context, " with the prompt: strategy full keeps at most ",
                       shape.window_rows));
    }
    // What a cancelled one has still to give back comes before this one, as tokens.
    if (session->cancelling) ++session->num_inputs;
    generation->num_inputs = session->num_inputs;
    generation->id = session->generation = next_generation_++;
    session->cancelling = false;
    generations_open_[generation->id] = session;
    inbox_.emplace_back(session, WorkItem{.generation = generation});
    wake_.Signal();
  }
  if (commit) {
    session->text = std::move(text);
    session->begun = begun;
    ++session->num_inputs;
    ++generation->num_inputs;
  }
  return generation->id;
}

void Engine::Impl::Cancel(int64_t generation) {
  MutexLock lock(mu_);
  const auto open = generations_open_.find(generation);
  if (open == generations_open_.end()) return;
  if (open->second->generation == generation) open->second->cancelling = true;
  cancels_.push_back(generation);
  wake_.Signal();
}

EngineStats Engine::Impl::Stats() const {
  MutexLock lock(mu_);
  EngineStats stats = base_stats_;
  stats.sessions_open = static_cast<int32_t>(sessions_.size());
  for (const auto& [id, session] : sessions_) {
    if (session->generation != 0 || session->appends_in_flight > 0) ++stats.sessions_active;
  }
  stats.slots_used = session_slots_->num_used();
  stats.backlog_tokens = backlog_tokens_;
  stats.generations_running = generations_running_;
  stats.generations_queued = static_cast<int32_t>(generations_open_.size()) - generations_running_;
  stats.appended_tokens = appended_tokens_;
  stats.generated_tokens = generated_tokens_;
  stats.buffer_replacements = buffer_replacements_;
  return stats;
}

absl::Status Engine::Impl::Health() const {
  MutexLock lock(mu_);
  return health_;
}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options,
                                                       EngineObserver* observer) {
  RASQ_ASSIGN_OR_RETURN(std::unique_ptr<Impl> impl, Impl::Create(options, observer));
  return std::unique_ptr<Engine>(new Engine(std::move(impl)));
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;
const ModelInfo& Engine::model() const { return impl_->model_info(); }
const Tokenizer& Engine::tokenizer() const { return impl_->tokenizer(); }
const EngineOptions& Engine::options() const { return impl_->options(); }
EngineStats Engine::Stats() const { return impl_->Stats(); }
absl::Status Engine::Health() const { return impl_->Health(); }
absl::StatusOr<SessionInfo> Engine::CreateSession(const CreateSessionRequest& request) {
  return impl_->CreateSession(request);
}
absl::StatusOr<SessionInfo> Engine::GetSession(const std::string& id) const {
  return impl_->GetSession(id);
}
absl::StatusOr<SessionPage> Engine::ListSessions(int32_t page_size,
                                                 const std::string& page_token) const {
  return impl_->ListSessions(page_size, page_token);
}
void Engine::DeleteSession(const std::string& id, std::function<void(absl::Status)> done) {
  impl_->DeleteSession(id, std::move(done));
}
absl::StatusOr<AppendReceipt> Engine::Append(
    AppendRequest request, std::function<void(absl::StatusOr<AppendResult>)> on_absorbed) {
  return impl_->Append(std::move(request), std::move(on_absorbed));
}
absl::StatusOr<int64_t> Engine::Generate(GenerateRequest request,
                                         std::shared_ptr<GenerateSink> sink) {
  return impl_->Generate(std::move(request), std::move(sink));
}
void Engine::Cancel(int64_t generation) { impl_->Cancel(generation); }

}  // namespace rasq
