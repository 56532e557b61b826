// Where states are. A session's state is on the device while its own stream moves. When others need
// the slot it is parked: copied to host memory and, as that fills up, written to disk. A generation
// works on a copy, which it takes from wherever the state is, so asking does not move a session.
//
// One slot in host memory is always left for the exchange of a parked session with one on the
// device. Who needs more than that makes others go to disk, though they wait for a slot themselves;
// and who has to wait for that does not hold up those in host memory. So sessions that wait cannot
// block each other, and those in memory go on while the disk takes nothing.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/engine_impl.h"
#include "engine/session_file.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

// A busy session keeps its slot for this long although others wait: longer than moving two states
// takes, so that most of the time goes into steps.
constexpr absl::Duration kLeastStay = absl::Milliseconds(250);
// Tokens that a crash may make a durable session absorb again.
constexpr int64_t kCheckpointTokens = 65536;
// States that are read ahead for the sessions that wait.
constexpr size_t kReadAhead = 4;
// One for an exchange, and one for who needs memory next.
constexpr int32_t kSpareHostSlots = 2;
constexpr absl::Duration kWriteRetry = absl::Seconds(1);

}  // namespace

void Engine::Impl::SetPlace(Session& session, Place place) {
  MutexLock lock(mu_);
  const auto count = [&](Place which) { return session.place == which ? 1 : 0; };
  num_on_host_ -= count(Place::kHost);
  num_on_disk_ -= count(Place::kDisk);
  if (session.place == Place::kDevice && (place == Place::kHost)) ++parks_;
  if (place == Place::kDevice && count(Place::kHost) == 1) ++unparks_;
  session.place = place;
  num_on_host_ += count(Place::kHost);
  num_on_disk_ += count(Place::kDisk);
}

// Gives the sessions that wait their slots, in their order, and makes room in host memory.
void Engine::Impl::ServePlaces() {
  bool held_up = false;  // the first of them needs host memory
  for (auto next = waiting_.begin(); next != waiting_.end();) {
    const SessionPtr session = *next;
    if (held_up && session->host == nullptr) {
      ++next;
      continue;
    }
    const bool wanted = !session->gone && busy_.contains(session->key);
    const absl::StatusOr<bool> in = wanted ? BringIn(session) : absl::StatusOr<bool>(true);
    if (in.ok() && !*in) {
      if (held_up || session->host != nullptr || session->reading) break;
      held_up = true;
      ++next;
      continue;
    }
    next = waiting_.erase(next);
    session->waits = false;
    if (!in.ok()) FailSession(session, in.status());
  }
  MakeSpace();
  // Not before those who need memory now.
  for (size_t i = 1; !host_short_ && i < std::min(waiting_.size(), kReadAhead); ++i) {
    ReadState(waiting_[i]);
  }
  host_short_ = false;
}

// Writes states from host memory to disk until two slots are spare.
void Engine::Impl::MakeSpace() {
  if (store_ == nullptr || !store_->has_states() || absl::Now() < next_write_) return;
  int32_t spare = SpareHostSlots();
  std::vector<SessionPtr> candidates;
  for (const auto& [order, session] : on_host_) {
    if (session->writing) {
      ++spare;
    } else if (!session->waits) {
      candidates.push_back(session);
    }
  }
  // Those who wait come back soon, the last of them latest.
  for (size_t i = waiting_.size(); host_short_ && i > 1; --i) {
    const SessionPtr& session = waiting_[i - 1];
    if (session->host != nullptr && !session->writing) candidates.push_back(session);
  }
  for (const SessionPtr& session : candidates) {
    if (spare >= kSpareHostSlots) break;
    WriteState(session, session->host);
    ++spare;
  }
}

absl::StatusOr<bool> Engine::Impl::BringIn(const SessionPtr& session) {
  if (session->slot || session->history != nullptr) return true;
  if (!session->fresh && session->host == nullptr) {
    ReadState(session);
    return false;
  }
  const StatePool& pool = PoolOf(session->options);
  const bool exchange = session->host != nullptr && session->host->slot;
  RASQ_ASSIGN_OR_RETURN(Slot slot, TakeSlot(*pool.room->slots, session.get(), exchange));
  if (!slot) return false;
  if (!session->fresh) {
    RASQ_RETURN_IF_ERROR(CopyState(session, slot.data()).status());
    on_host_.erase(session->place_order);
    session->host = nullptr;
  }
  PutOnDevice(session, std::move(slot));
  return true;
}

void Engine::Impl::PutOnDevice(const SessionPtr& session, Slot slot) {
  session->slot = std::move(slot);
  session->used = num_steps_;
  session->resident_since = absl::Now();
  if (RoomOf(*session).parks) on_device_[session->key] = session;
  SetPlace(*session, Place::kDevice);
}

void Engine::Impl::PutOnHost(const SessionPtr& session, std::shared_ptr<HostState> host) {
  session->host = std::move(host);
  session->place_order = next_place_order_++;
  on_host_[session->place_order] = session;
  SetPlace(*session, Place::kHost);
}

// Copies a session's state, wherever it is, to device memory.
absl::StatusOr<bool> Engine::Impl::CopyState(const SessionPtr& session, std::byte* to) {
  const int64_t bytes = session->layout->bytes;
  if (session->fresh) {
    RASQ_RETURN_IF_ERROR(ResetState(*session->layout, *ops_, to));
  } else if (session->slot) {
    session->used = num_steps_;
    RASQ_RETURN_IF_ERROR(ops_->CopyOnDevice(to, session->slot.data(), bytes));
  } else if (session->host != nullptr) {
    RASQ_RETURN_IF_ERROR(ops_->CopyToDevice(to, session->host->data(), bytes));
    being_copied_.push_back(session->host);
  } else {
    ReadState(session);
    return false;
  }
  return true;
}

// A slot on the device, another session's if none is free; empty if none can be had now.
absl::StatusOr<Slot> Engine::Impl::TakeSlot(SlotPool& slots, const Session* keep, bool exchange) {
  Slot slot = slots.Acquire();
  if (slot || &slots != rooms_.at(Strategy::kDefault).slots.get()) return slot;
  const SessionPtr other = ToPark(keep);
  if (other == nullptr) return slot;
  RASQ_ASSIGN_OR_RETURN(const bool parked, Park(other, exchange));
  return parked ? slots.Acquire() : Slot();
}

// The session that has been idle longest or, if none is idle, has had its slot longest.
Engine::Impl::SessionPtr Engine::Impl::ToPark(const Session* keep) const {
  SessionPtr idle, busy;
  for (const auto& [key, session] : on_device_) {
    if (session.get() == keep) continue;
    if (!busy_.contains(key)) {
      if (idle == nullptr || session->used < idle->used) idle = session;
    } else if (busy == nullptr || session->resident_since < busy->resident_since) {
      busy = session;
    }
  }
  if (idle != nullptr) return idle;
  return busy != nullptr && absl::Now() - busy->resident_since > kLeastStay ? busy : nullptr;
}

// In exchange: another leaves host memory for the slot on the device.
absl::StatusOr<bool> Engine::Impl::Park(const SessionPtr& session, bool exchange) {
  if (!session->fresh) {
    auto host = std::make_shared<HostState>();
    host->slot = exchange || !disk_refuses_ ? host_slots_->Acquire() : TakeHostSlot();
    if (!host->slot) {
      host_short_ = true;
      return false;
    }
    RASQ_RETURN_IF_ERROR(
        ops_->CopyToHost(host->data(), session->slot.data(), session->layout->bytes));
    being_copied_.clear();
    PutOnHost(session, std::move(host));
  } else {
    SetPlace(*session, Place::kNone);
  }
  session->slot = Slot();
  on_device_.erase(session->key);
  return true;
}

// One that leaves another for an exchange.
Slot Engine::Impl::TakeHostSlot() {
  if (SpareHostSlots() >= kSpareHostSlots) return host_slots_->Acquire();
  host_short_ = true;
  return Slot();
}

int32_t Engine::Impl::SpareHostSlots() const {
  return host_slots_->num_slots() - host_slots_->num_used();
}

// Such a slot, or memory of its own where there are none for it; null if none can be had now.
std::shared_ptr<HostState> Engine::Impl::TakeHostMemory(int64_t bytes) {
  auto host = std::make_shared<HostState>();
  if (host_slots_->num_slots() > 0 && bytes <= host_slots_->slot_bytes()) {
    host->slot = TakeHostSlot();
    return host->slot ? host : nullptr;
  }
  host->own = std::make_unique<std::byte[]>(bytes);
  return host;
}

void Engine::Impl::ReadState(const SessionPtr& session) {
  if (session->file.empty() || session->reading) return;
  const std::shared_ptr<HostState> host = TakeHostMemory(session->layout->bytes);
  if (host == nullptr) return;
  session->reading = true;
  Background([this, session, host] {
    // Clients hear of it: no path.
    const absl::Status status = ReadSessionState(
        session->file, absl::StrCat("session_id=", session->name.id, ": its parked state"),
        absl::MakeSpan(host->data(), session->layout->bytes));
    Post([this, session, host, status] {
      session->reading = false;
      if (session->gone) {
        store_->Remove(session->file);
        return;
      }
      if (!status.ok()) {
        FailSession(session, status);
        return;
      }
      // The log may still go on from the file; without a log it would only be out of date.
      if (session->file != session->checkpoint) store_->Remove(session->file);
      session->file.clear();
      PutOnHost(session, host);
    });
  });
}

// Writes a session's state, of which `host` is the session's own or a copy, to disk: where it stays
// if the session is still in host memory then and need not be.
void Engine::Impl::WriteState(const SessionPtr& session, const std::shared_ptr<HostState>& host) {
  session->writing = true;
  SessionRecord record = MakeRecord(*session);
  const int64_t logged = session->logged, num_loaded = session->num_loaded;
  const int64_t bytes = session->fresh ? 0 : session->layout->bytes;
  std::string path = store_->StatePath(session->stored_key, logged, record.cursor.position);
  Background([this, session, host, record = std::move(record), bytes, path, logged, num_loaded] {
    const absl::Status status =
        WriteSessionFile(path, path, record, absl::MakeConstSpan(host->data(), bytes));
    if (!status.ok() && observer_ != nullptr) observer_->OnWriteFailed(session->name, status);
    Post([=, this] { AfterWrite(session, record, path, logged, num_loaded, status); });
  });
}

void Engine::Impl::AfterWrite(const SessionPtr& session, const SessionRecord& record,
                              const std::string& path, int64_t logged, int64_t num_loaded,
                              const absl::Status& status) {
  session->writing = false;
  {
    MutexLock lock(mu_);
    ++(status.ok() ? files_written_ : files_failed_);
  }
  disk_refuses_ = !status.ok();
  if (!status.ok()) {
    next_write_ = absl::Now() + kWriteRetry;
    return;
  }
  if (session->gone) {
    store_->Remove(path);
    return;
  }
  // Who waits stays, unless others need the memory before it.
  const bool leaves =
      !session->waits || (SpareHostSlots() < kSpareHostSlots && session != waiting_.front());
  const bool parked =
      session->host != nullptr && leaves && session->cursor.position == record.cursor.position;
  if (parked) {
    session->file_loaded = num_loaded;
    on_host_.erase(session->place_order);
    session->host = nullptr;
    session->file = path;
    SetPlace(*session, Place::kDisk);
  }
  if (session->logs) {
    NoteCheckpoint(session, record, path, logged);
  } else if (!parked) {
    store_->Remove(path);
  }
}

// From now on the log goes on from that file.
void Engine::Impl::NoteCheckpoint(const SessionPtr& session, const SessionRecord& record,
                                  const std::string& path, int64_t logged) {
  const std::string old = std::exchange(session->checkpoint, path);
  session->checkpoint_position = record.cursor.position;
  // The store outlives its log, but not the log's thread: that must not be the last to hold it.
  store_->log()->Checkpoint(session->stored_key, logged, path, EncodeRecord(record),
                            [store = store_.get(), old, path](const absl::Status& status) {
                              if (status.ok() && old != path) store->Remove(old);
                            });
}

// Of a durable session at work: bounds what a crash makes it absorb again.
void Engine::Impl::WriteCheckpoint(const SessionPtr& session) {
  if (!session->logs || session->writing || absl::Now() < next_write_) return;
  const int64_t ahead = session->cursor.position - session->checkpoint_position;
  auto host = std::make_shared<HostState>();
  if (session->history != nullptr) {
    // A file holds all of the history: the more there is the rarer.
    if (ahead >= std::max(kCheckpointTokens, session->history->size())) WriteState(session, host);
    return;
  }
  if (!session->slot || ahead < kCheckpointTokens) return;
  host->slot = TakeHostSlot();
  if (!host->slot || session->layout->bytes > host_slots_->slot_bytes()) return;
  if (!ops_->CopyToHost(host->data(), session->slot.data(), session->layout->bytes).ok()) return;
  WriteState(session, host);
}

SessionRecord Engine::Impl::MakeRecord(const Session& session) const {
  SessionRecord record{.origin = PoolOf(session.options).origin,
                       .name = session.name,
                       .request_id = session.request_id,
                       .options = session.options,
                       .labels = session.labels,
                       .create_time = session.create_time,
                       .last_use_time = {},
                       .mark = session.loaded,
                       .cursor = session.cursor,
                       .queue = session.queue.Rest()};
  if (session.history != nullptr) record.history = session.history->Tokens();
  MutexLock lock(mu_);
  record.last_use_time = session.last_use_time;
  return record;
}

// At the end: every state to disk, with all that was accepted behind it.
void Engine::Impl::SaveAll() {
  std::vector<SessionPtr> sessions;
  {
    MutexLock lock(mu_);
    for (const auto& [name, session] : sessions_) {
      if (session->state == SessionState::kActive) sessions.push_back(session);
    }
  }
  for (const SessionPtr& session : sessions) {
    const absl::Status status = Save(session);
    if (!status.ok() && observer_ != nullptr) observer_->OnWriteFailed(session->name, status);
  }
}

absl::Status Engine::Impl::Save(const SessionPtr& session) {
  std::shared_ptr<HostState> host = session->host;
  if (host == nullptr) {
    host = std::make_shared<HostState>();
    if (!session->fresh) host->own = std::make_unique<std::byte[]>(session->layout->bytes);
    if (session->slot) {
      RASQ_RETURN_IF_ERROR(
          ops_->CopyToHost(host->data(), session->slot.data(), session->layout->bytes));
    } else if (!session->file.empty()) {
      if (session->num_loaded == session->file_loaded) return absl::OkStatus();  // it says it all
      RASQ_RETURN_IF_ERROR(ReadSessionState(session->file, session->file,
                                            absl::MakeSpan(host->data(), session->layout->bytes)));
    }
  }
  const SessionRecord record = MakeRecord(*session);
  const std::string path =
      store_->StatePath(session->stored_key, session->logged, record.cursor.position);
  const int64_t bytes = session->fresh ? 0 : session->layout->bytes;
  RASQ_RETURN_IF_ERROR(
      WriteSessionFile(path, path, record, absl::MakeConstSpan(host->data(), bytes)));
  if (session->logs) {
    NoteCheckpoint(session, record, path, session->logged);
  } else if (session->file != path) {
    store_->Remove(session->file);
  }
  return absl::OkStatus();
}

void Engine::Impl::ForgetPlaces(const SessionPtr& session) {
  session->gone = true;
  SetPlace(*session, Place::kNone);
  session->slot = Slot();
  on_device_.erase(session->key);
  on_host_.erase(session->place_order);
  session->host = nullptr;
  if (store_ == nullptr || session->reading) return;
  if (session->file != session->checkpoint) store_->Remove(session->file);
}

void Engine::Impl::Background(std::function<void()> work) {
  {
    MutexLock lock(mu_);
    ++in_background_;
  }
  store_->Submit([this, work = std::move(work)]() mutable {
    work();
    work = nullptr;  // what it holds, such as a slot, must not outlive the engine
    MutexLock lock(mu_);
    --in_background_;
    background_.SignalAll();
  });
}

void Engine::Impl::Post(std::function<void()> task) {
  MutexLock lock(mu_);
  posted_.push_back(std::move(task));
  wake_.Signal();
}

}  // namespace rasq
