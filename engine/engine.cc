// The callers' side of the engine: sessions. Their calls are in engine_calls.cc.
#include "engine/engine.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/check_range.h"
#include "engine/engine_impl.h"
#include "engine/tenants.h"
#include "kernels/base/status.h"

namespace rasq {

absl::StatusOr<SessionOptions> Engine::Impl::CheckOptions(const SessionOptions& options) const {
  SessionOptions checked = options;
  if (checked.strategy == Strategy::kDefault) {
    checked.strategy = pools_.contains(Strategy::kRasq) ? Strategy::kRasq : Strategy::kWindow;
  }
  if (FindPool(checked) == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat("options.", NotServed(checked)));
  }
  if (checked.ablation.any() && checked.strategy != Strategy::kRasq) {
    return absl::InvalidArgumentError(
        "options.ablation: switches off parts of strategy rasq, which is not options.strategy");
  }
  if (checked.strategy == Strategy::kRag) {
    RASQ_ASSIGN_OR_RETURN(checked.rag, CheckRag(checked.rag));
  } else if (checked.rag != RagOptions()) {
    return absl::InvalidArgumentError("options.rag: is of strategy rag, not of options.strategy");
  }
  if (checked.strategy == Strategy::kAttentionRag) {
    RASQ_ASSIGN_OR_RETURN(checked.attention_rag, CheckAttentionRag(checked.attention_rag));
  } else if (checked.attention_rag != AttentionRagOptions()) {
    return absl::InvalidArgumentError(
        "options.attention_rag: is of strategy attention_rag, not of options.strategy");
  }
  if (checked.ttl < absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("options.ttl=", absl::FormatDuration(checked.ttl), ": is negative"));
  }
  if (checked.ttl == absl::ZeroDuration()) checked.ttl = options_.default_ttl;
  const int32_t most = std::max({1, model_info_.budget_tokens, model_info_.max_budget_tokens});
  if (checked.budget_tokens == 0) checked.budget_tokens = std::max(1, model_info_.budget_tokens);
  RASQ_RETURN_IF_ERROR(
      CheckRange("options.retrieval_budget_tokens", checked.budget_tokens, 1, most));
  if (checked.budget_gain < 0) checked.budget_gain = 0;
  RASQ_RETURN_IF_ERROR(
      CheckRange("options.retrieval_budget_gain", checked.budget_gain, 0.0, 1000.0));
  const MemoryConfig& memory = checkpoint_->memory();
  if (checked.budget_gain > 0 && memory.has_budget_head()) {
    return absl::FailedPreconditionError(
        absl::StrCat("options.retrieval_budget_gain=", checked.budget_gain,
                     ": the model has a budget head (budget_factors in rasq_config.json)"));
  }
  if (std::isnan(checked.score_floor)) checked.score_floor = memory.score_floor;
  RASQ_RETURN_IF_ERROR(CheckRange("options.half_life_tokens", checked.half_life_tokens, 0.0, 1e15));
  RASQ_RETURN_IF_ERROR(
      CheckRange("options.replacement_noise", checked.replacement_noise, 0.0, 1.0));
  return checked;
}

SessionInfo Engine::Impl::Info(const Session& session) const {
  return {.tenant = session.name.tenant,
          .id = session.name.id,
          .create_time = session.create_time,
          .last_use_time = session.last_use_time,
          .expire_time = session.options.ttl > absl::ZeroDuration()
                             ? session.last_use_time + session.options.ttl
                             : absl::InfiniteFuture(),
          .labels = session.labels,
          .options = session.options,
          .state = session.state == SessionState::kActive &&
                           (session.place == Place::kHost || session.place == Place::kDisk)
                       ? SessionState::kParked
                       : session.state,
          .context_tokens = session.absorbed_tokens,
          .backlog_tokens = session.accepted_tokens - session.absorbed_tokens,
          .next_offset = session.known_offset,
          .state_bytes =
              session.layout->keeps_history() ? session.history_bytes : session.layout->bytes};
}

SessionInfo Engine::Impl::InfoOf(const Session& session) const {
  MutexLock lock(mu_);
  return Info(session);
}

absl::StatusOr<Engine::Impl::SessionPtr> Engine::Impl::Find(const ScopedName& name) const {
  const auto found = sessions_.find(name);
  if (found == sessions_.end()) {
    return absl::NotFoundError(absl::StrCat("session_id=\"", name.id, "\": no such session"));
  }
  return found->second;
}

absl::StatusOr<Engine::Impl::SessionPtr> Engine::Impl::FindUsable(const ScopedName& name) {
  if (stopping_) return absl::UnavailableError("the engine is stopping");
  RASQ_RETURN_IF_ERROR(health_);
  RASQ_ASSIGN_OR_RETURN(SessionPtr session, Find(name));
  if (session->state == SessionState::kDeleting) {
    return absl::FailedPreconditionError(
        absl::StrCat("session_id=", name.id, ": is being deleted"));
  }
  if (session->state == SessionState::kFailed) {
    return absl::FailedPreconditionError(
        absl::StrCat("session_id=", name.id, ": has failed: ", session->failure.message()));
  }
  session->last_use_time = absl::Now();
  return session;
}

absl::StatusOr<SessionInfo> Engine::Impl::GetSession(const ScopedName& name) const {
  MutexLock lock(mu_);
  RASQ_ASSIGN_OR_RETURN(const SessionPtr session, Find(name));
  return Info(*session);
}

absl::StatusOr<SessionPage> Engine::Impl::ListSessions(const std::string& tenant, int32_t page_size,
                                                       const std::string& page_token) const {
  RASQ_RETURN_IF_ERROR(CheckRange("page_size", page_size, 0, kMaxPageSize));
  if (!page_token.empty()) RASQ_RETURN_IF_ERROR(CheckName("page_token", page_token));
  const size_t most = page_size == 0 ? kDefaultPageSize : page_size;
  MutexLock lock(mu_);
  SessionPage page;  // the token is the last id of the page before
  auto next = sessions_.upper_bound({tenant, page_token});  // no id is empty
  const auto end = sessions_.end();
  const auto more = [&] { return next != end && next->first.tenant == tenant; };
  for (; more() && page.sessions.size() < most; ++next) {
    page.sessions.push_back(Info(*next->second));
  }
  if (more()) page.next_page_token = page.sessions.back().id;
  return page;
}

void Engine::Impl::DeleteSession(const ScopedName& name,
                                 const std::function<void(absl::Status)>& done) {
  const absl::Status refused = MarkDeleting(name, done);
  if (!refused.ok()) done(refused);
}

absl::Status Engine::Impl::MarkDeleting(const ScopedName& name,
                                        const std::function<void(absl::Status)>& done) {
  MutexLock lock(mu_);
  if (stopping_) return absl::UnavailableError("the engine is stopping");
  RASQ_ASSIGN_OR_RETURN(const SessionPtr session, Find(name));
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
  for (const auto& [name, session] : sessions_) {
    if (session->generation != 0 || session->items_in_flight > 0) ++stats.sessions_active;
  }
  stats.slots_used = rooms_.at(Strategy::kDefault).slots->num_used();
  stats.backlog_tokens = backlog_tokens_;
  stats.backlog_limit_tokens = options_.max_total_backlog_tokens;
  stats.generations_running = generations_running_;
  stats.generations_queued = static_cast<int32_t>(generations_open_.size()) - generations_running_;
  stats.appended_tokens = appended_tokens_;
  stats.generated_tokens = generated_tokens_;
  stats.buffer_replacements = buffer_replacements_;
  stats.max_open_sessions = rooms_.at(Strategy::kDefault).max_open;
  stats.sessions_parked_host = num_on_host_;
  stats.sessions_parked_disk = num_on_disk_;
  stats.parks = parks_;
  stats.unparks = unparks_;
  stats.snapshots_written = files_written_;
  stats.snapshots_failed = files_failed_;
  stats.log_entries = log_entries_;
  return stats;
}

absl::Status Engine::Impl::Health() const {
  MutexLock lock(mu_);
  return health_;
}

int32_t Engine::Impl::FreePlaces(Strategy strategy) const {
  MutexLock lock(mu_);
  const auto pool = pools_.find(strategy);
  if (strategy != Strategy::kDefault && pool == pools_.end()) return 0;
  const StateRoom* room = strategy == Strategy::kDefault ? &rooms_.at(strategy) : pool->second.room;
  return room->max_open - num_open_.at(room);
}

bool Engine::Impl::HasSession(const ScopedName& name) const {
  MutexLock lock(mu_);
  return sessions_.contains(name);
}

bool Engine::Impl::HasRequest(const ScopedName& request) const {
  MutexLock lock(mu_);
  return session_of_request_.contains(request);
}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options,
                                                       EngineObserver* observer,
                                                       std::shared_ptr<StateStore> store) {
  RASQ_ASSIGN_OR_RETURN(std::unique_ptr<Impl> impl,
                        Impl::Create(options, observer, std::move(store)));
  return std::unique_ptr<Engine>(new Engine(std::move(impl)));
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;
const ModelInfo& Engine::model() const { return impl_->model_info(); }
const Tokenizer& Engine::tokenizer() const { return impl_->tokenizer(); }
const EngineOptions& Engine::options() const { return impl_->options(); }
EngineStats Engine::Stats() const { return impl_->Stats(); }
absl::Status Engine::Health() const { return impl_->Health(); }
int32_t Engine::FreePlaces(Strategy strategy) const { return impl_->FreePlaces(strategy); }
bool Engine::HasSession(const ScopedName& name) const { return impl_->HasSession(name); }
bool Engine::HasRequest(const ScopedName& request) const { return impl_->HasRequest(request); }
absl::StatusOr<SessionInfo> Engine::CreateSession(const CreateSessionRequest& request) {
  return impl_->CreateSession(request);
}
absl::StatusOr<SessionInfo> Engine::GetSession(const ScopedName& name) const {
  return impl_->GetSession(name);
}
absl::StatusOr<SessionPage> Engine::ListSessions(const std::string& tenant, int32_t page_size,
                                                 const std::string& page_token) const {
  return impl_->ListSessions(tenant, page_size, page_token);
}
void Engine::DeleteSession(const ScopedName& name, const std::function<void(absl::Status)>& done) {
  impl_->DeleteSession(name, done);
}
absl::Status Engine::Adopt(StoredSession session) { return impl_->Adopt(std::move(session)); }
void Engine::ForkSession(const ForkSessionRequest& request,
                         const std::function<void(absl::StatusOr<SessionInfo>)>& done) {
  impl_->ForkSession(request, done);
}
void Engine::SnapshotSession(const SnapshotRequest& request,
                             const std::function<void(absl::StatusOr<SnapshotInfo>)>& done) {
  impl_->SnapshotSession(request, done);
}
void Engine::RestoreSession(const RestoreSessionRequest& request,
                            std::function<void(absl::StatusOr<SessionInfo>)> done) {
  impl_->RestoreSession(request, std::move(done));
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
