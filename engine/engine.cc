// The callers' side of the engine: sessions. Their calls are in engine_calls.cc.
#include "engine/engine.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/check_range.h"
#include "engine/engine_impl.h"
#include "engine/tenants.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

bool IsSessionId(const std::string& id) {
  return !id.empty() && id.size() <= 128 && std::all_of(id.begin(), id.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '.' || c == '_' || c == '-';
  });
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
  if (options_.tenants) RASQ_RETURN_IF_ERROR(options_.tenants->AddSession(request.tenant));
  auto session = std::make_shared<Session>(id, tokenizer_.get(), model_->config().hidden);
  session->key = next_key_++;
  session->tenant = request.tenant;
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
  const size_t most = page_size == 0 ? kDefaultPageSize : page_size;
  MutexLock lock(mu_);
  SessionPage page;  // the token is the last id of the page before
  auto next = page_token.empty() ? sessions_.begin() : sessions_.upper_bound(page_token);
  for (; next != sessions_.end() && page.sessions.size() < most; ++next) {
    page.sessions.push_back(Info(*next->second));
  }
  if (next != sessions_.end()) page.next_page_token = page.sessions.back().id;
  return page;
}

void Engine::Impl::DeleteSession(const std::string& id,
                                 const std::function<void(absl::Status)>& done) {
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

int32_t Engine::Impl::FreeSlots(Strategy strategy) const {
  const SlotPool& slots = strategy == Strategy::kFull ? *full_slots_ : *session_slots_;
  return slots.num_slots() - slots.num_used();
}

bool Engine::Impl::HasSession(const std::string& id) const {
  MutexLock lock(mu_);
  return sessions_.contains(id);
}

bool Engine::Impl::HasRequest(const std::string& request_id) const {
  MutexLock lock(mu_);
  return session_of_request_.contains(request_id);
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
int32_t Engine::FreeSlots(Strategy strategy) const { return impl_->FreeSlots(strategy); }
bool Engine::HasSession(const std::string& id) const { return impl_->HasSession(id); }
bool Engine::HasRequest(const std::string& request_id) const {
  return impl_->HasRequest(request_id);
}
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
void Engine::DeleteSession(const std::string& id, const std::function<void(absl::Status)>& done) {
  impl_->DeleteSession(id, done);
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
