// The engine's thread: takes what callers put in, plans a step, runs it, hands out what came of it.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/engine_impl.h"
#include "engine/tenants.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

// How often idle sessions are looked at.
constexpr absl::Duration kExpiryPeriod = absl::Seconds(1);

const absl::Status& Stopping() {
  static const absl::Status status = absl::UnavailableError("the engine is stopping");
  return status;
}

}  // namespace

Engine::Impl::~Impl() {
  {
    MutexLock lock(mu_);
    stopping_ = true;
    wake_.Signal();
  }
  if (thread_.joinable()) thread_.join();
}

void Engine::Impl::Run() {
  bool worked = true;
  while (true) {
    std::deque<std::pair<SessionPtr, WorkItem>> inbox;
    std::vector<int64_t> cancels;
    bool stopping = false, deleting = false;
    {
      MutexLock lock(mu_);
      if (!worked && !stopping_ && inbox_.empty() && cancels_.empty()) {
        wake_.WaitUntil(mu_, std::chrono::steady_clock::now() +
                                 absl::ToChronoNanoseconds(std::min(kExpiryPeriod, quota_wait_)));
      }
      inbox.swap(inbox_);
      cancels.swap(cancels_);
      stopping = stopping_;
      deleting = num_deleting_ > 0;
    }
    Admit(inbox);
    if (stopping) break;
    Cancel(cancels);
    ExpireSessions();
    if (deleting) FinishDeletes();
    for (const SessionPtr& session : ServingOrder()) ServeItems(session);
    worked = RunStep();
  }
  Shutdown();
}

void Engine::Impl::Shutdown() {
  while (!generations_.empty()) {
    const auto [session, generation] = generations_.begin()->second;
    EndGeneration(session, generation, Stopping());
  }
  const std::map<int64_t, SessionPtr> busy = busy_;
  for (const auto& [key, session] : busy) DropItems(session, Stopping());
  std::vector<std::function<void(absl::Status)>> done;
  {
    MutexLock lock(mu_);
    for (auto& [id, session] : sessions_) {
      for (auto& callback : session->on_deleted) done.push_back(std::move(callback));
      session->on_deleted.clear();
    }
  }
  for (const auto& callback : done) callback(Stopping());
}

void Engine::Impl::Admit(std::deque<std::pair<SessionPtr, WorkItem>>& inbox) {
  for (auto& [session, item] : inbox) {
    if (item.generation != nullptr) {
      generations_[item.generation->id] = {session, item.generation};
    }
    session->items.push_back(std::move(item));
    busy_[session->key] = session;
  }
}

void Engine::Impl::Cancel(const std::vector<int64_t>& ids) {
  for (const int64_t id : ids) {
    const auto found = generations_.find(id);
    if (found == generations_.end()) continue;
    const auto [session, generation] = found->second;
    EndGeneration(session, generation, absl::CancelledError("cancelled by the client"));
  }
}

void Engine::Impl::ExpireSessions() {
  const absl::Time now = absl::Now();
  if (now < next_expiry_check_) return;
  next_expiry_check_ = now + kExpiryPeriod;
  {
    MutexLock lock(mu_);
    for (auto& [id, session] : sessions_) {
      const bool idle = session->state == SessionState::kActive && session->generation == 0 &&
                        session->appends_in_flight == 0;
      const absl::Duration ttl = session->options.ttl;
      if (idle && ttl > absl::ZeroDuration() && now > session->last_use_time + ttl) {
        session->state = SessionState::kDeleting;
        ++num_deleting_;
      }
    }
    if (num_deleting_ == 0) return;
  }
  FinishDeletes();
}

void Engine::Impl::FinishDeletes() {
  std::vector<SessionPtr> deleting;
  {
    MutexLock lock(mu_);
    for (auto& [id, session] : sessions_) {
      if (session->state == SessionState::kDeleting) deleting.push_back(session);
    }
  }
  for (const SessionPtr& session : deleting) {
    // Generations in flight go on to their end; text that none of them reads is not worth a step.
    DropAppendsBehindGenerations(session);
    std::vector<std::function<void(absl::Status)>> done;
    {
      MutexLock lock(mu_);
      if (session->generation != 0 || session->appends_in_flight > 0) continue;
      sessions_.erase(session->id);
      session_of_request_.erase(session->request_id);
      session->slot = Slot();
      if (options_.tenants) options_.tenants->RemoveSession(session->tenant);
      done.swap(session->on_deleted);
      --num_deleting_;
    }
    for (const auto& callback : done) callback(absl::OkStatus());
  }
}

void Engine::Impl::DropAppendsBehindGenerations(const SessionPtr& session) {
  const absl::Status status =
      absl::AbortedError(absl::StrCat("session_id=", session->id, ": is being deleted"));
  while (!session->items.empty() && session->items.back().generation == nullptr) {
    const WorkItem item = std::move(session->items.back());
    session->items.pop_back();
    EndAppend(*session, item, status);
  }
  if (session->items.empty()) ForgetInput(*session);
}

void Engine::Impl::DropItems(const SessionPtr& session, const absl::Status& status) {
  while (!session->items.empty()) {
    const WorkItem item = std::move(session->items.front());
    session->items.pop_front();
    if (item.generation == nullptr) {
      EndAppend(*session, item, status);
    } else if (!item.generation->over) {
      EndGeneration(session, item.generation, status);
    }
  }
  ForgetInput(*session);
}

// Of a session without items: what was loaded and not absorbed is not wanted any more.
void Engine::Impl::ForgetInput(Session& session) {
  session.queue = InputQueue(model_->config().hidden);
  session.loaded_ends.clear();
  busy_.erase(session.key);
}

// Ends an append that will not be absorbed.
void Engine::Impl::EndAppend(Session& session, const WorkItem& item, const absl::Status& status) {
  {
    MutexLock lock(mu_);
    // Some of its tokens may be in the state already: those are no backlog any more.
    const int64_t left =
        std::min(item.num_tokens, session.accepted_tokens - session.absorbed_tokens);
    backlog_tokens_ -= left;
    session.accepted_tokens -= left;
    --session.appends_in_flight;
  }
  item.on_absorbed(status);
}

void Engine::Impl::FailSession(const SessionPtr& session, const absl::Status& status) {
  {
    MutexLock lock(mu_);
    if (session->state == SessionState::kActive) session->state = SessionState::kFailed;
    session->failure = status;
  }
  DropItems(session, status);
}

}  // namespace rasq
