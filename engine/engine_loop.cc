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
// How often sessions that wait for a slot look whether one can be had, if nothing else happens.
constexpr absl::Duration kPlacePeriod = absl::Milliseconds(20);

// How long a stopping engine waits for a log that the disk does not take.
constexpr absl::Duration kLogPatience = absl::Seconds(5);

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
    std::deque<std::function<void()>> posted;
    bool stopping = false, deleting = false;
    {
      MutexLock lock(mu_);
      if (!worked && !stopping_ && inbox_.empty() && cancels_.empty() && posted_.empty()) {
        const absl::Duration wait =
            std::min({kExpiryPeriod, quota_wait_,
                      waiting_.empty() ? absl::InfiniteDuration() : kPlacePeriod});
        wake_.WaitUntil(mu_, std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(wait));
      }
      posted.swap(posted_);
      inbox.swap(inbox_);
      cancels.swap(cancels_);
      stopping = stopping_;
      deleting = num_deleting_ > 0;
    }
    Admit(inbox);
    for (const auto& task : posted) task();
    if (stopping) break;
    Cancel(cancels);
    ExpireSessions();
    if (deleting) FinishDeletes();
    history_waits_ = false;
    for (const SessionPtr& session : ServingOrder()) ServeItems(session);
    ServePlaces();
    worked = RunStep();
    worked |= ScoreTails() || history_waits_;
  }
  Shutdown();
}

void Engine::Impl::Shutdown() {
  while (!generations_.empty()) {
    const Stream stream = generations_.begin()->second;
    EndGeneration(stream.session, stream.generation, Stopping());
  }
  const bool saves = store_ != nullptr && store_->has_states();
  const std::map<int64_t, SessionPtr> busy = busy_;
  for (const auto& [key, session] : busy) {
    if (saves) LoadItems(*session);
    EndItems(session, Stopping());
    if (!saves) ForgetInput(*session);
  }
  EndBackground();
  if (saves) SaveAll();
  EndLogCalls(kLogPatience);
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

// Until no thread of the store works for this engine, and what they found is dealt with.
void Engine::Impl::EndBackground() {
  while (true) {
    std::deque<std::function<void()>> posted;
    {
      MutexLock lock(mu_);
      while (in_background_ > 0 && posted_.empty()) background_.Wait(mu_);
      if (posted_.empty()) return;
      posted.swap(posted_);
    }
    for (const auto& task : posted) task();
  }
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
    const Stream stream = found->second;
    EndGeneration(stream.session, stream.generation,
                  absl::CancelledError("cancelled by the client"));
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
                        session->items_in_flight == 0;
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
      if (session->generation != 0 || session->items_in_flight > 0) continue;
      sessions_.erase(session->name);
      session_of_request_.erase({session->name.tenant, session->request_id});
      --num_open_.at(&RoomOf(*session));
      if (options_.tenants) options_.tenants->RemoveSession(session->name.tenant);
      done.swap(session->on_deleted);
      --num_deleting_;
    }
    ForgetPlaces(session);
    if (session->logs) {
      {
        MutexLock lock(mu_);
        ++log_waits_;
      }
      // Its file goes when the log no longer names it.
      store_->log()->Delete(
          session->stored_key,
          [this, file = session->checkpoint, done = std::move(done)](const absl::Status& status) {
            if (status.ok()) store_->Remove(file);
            for (const auto& callback : done) callback(status);
            MutexLock lock(mu_);
            --log_waits_;
            background_.SignalAll();
          });
    } else {
      for (const auto& callback : done) callback(absl::OkStatus());
    }
  }
}

void Engine::Impl::DropAppendsBehindGenerations(const SessionPtr& session) {
  const absl::Status status =
      absl::AbortedError(absl::StrCat("session_id=", session->name.id, ": is being deleted"));
  while (!session->items.empty() && session->items.back().generation == nullptr) {
    const WorkItem item = std::move(session->items.back());
    session->items.pop_back();
    EndItem(*session, item, status);
  }
  if (session->items.empty()) ForgetInput(*session);
}

void Engine::Impl::DropItems(const SessionPtr& session, const absl::Status& status) {
  EndItems(session, status);
  ForgetInput(*session);
}

void Engine::Impl::EndItems(const SessionPtr& session, const absl::Status& status) {
  while (!session->items.empty()) {
    const WorkItem item = std::move(session->items.front());
    session->items.pop_front();
    if (item.generation == nullptr) {
      EndItem(*session, item, status);
    } else if (!item.generation->over) {
      EndGeneration(session, item.generation, status);
    }
  }
}

// Of a session without items: what was loaded and not absorbed is not wanted any more.
void Engine::Impl::ForgetInput(Session& session) {
  session.queue = InputQueue(model_->config().hidden);
  session.loaded_ends.clear();
  session.score_end = 0;
  busy_.erase(session.key);
}

// Ends an append that will not be absorbed, or a task that will not be done.
void Engine::Impl::EndItem(Session& session, const WorkItem& item, const absl::Status& status) {
  {
    MutexLock lock(mu_);
    // Some of its tokens may be in the state already: those are no backlog any more.
    const int64_t left =
        std::min(item.num_tokens, session.accepted_tokens - session.absorbed_tokens);
    backlog_tokens_ -= left;
    session.accepted_tokens -= left;
    --session.items_in_flight;
  }
  item.task != nullptr ? item.on_dropped(status) : item.on_absorbed(status);
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
