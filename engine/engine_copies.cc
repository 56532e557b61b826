// Sessions that come from others or from disk: forks, snapshots and what is restored from them, and
// the sessions of an earlier run.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/check_range.h"
#include "engine/engine_impl.h"
#include "engine/session_file.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

// Restored states are read into memory beside that of the slots, so few are at once.
constexpr int32_t kRestoresAtOnce = 2;

}  // namespace

void Engine::Impl::ForkSession(const ForkSessionRequest& request,
                               const std::function<void(absl::StatusOr<SessionInfo>)>& done) {
  absl::Status refused =
      request.new_id.empty() ? absl::OkStatus() : CheckName("new_session_id", request.new_id);
  refused.Update(CheckLabels(request.labels));
  absl::StatusOr<SessionInfo> again = absl::NotFoundError("");
  if (refused.ok() && !request.request_id.empty()) {
    MutexLock lock(mu_);
    again = Repeated({request.session.tenant, request.request_id});
  }
  if (again.ok()) {
    done(std::move(again));
    return;
  }
  if (refused.ok()) {
    refused = AddTask(
        request.session,
        [this, request, done](const SessionPtr& session) { return Fork(session, request, done); },
        done);
  }
  if (!refused.ok()) done(refused);
}

absl::StatusOr<bool> Engine::Impl::Fork(
    const SessionPtr& source, const ForkSessionRequest& request,
    const std::function<void(absl::StatusOr<SessionInfo>)>& done) {
  absl::Status room;
  {
    MutexLock lock(mu_);
    room = CheckRoom({source->name.tenant, request.new_id}, source->layout->strategy);
  }
  if (!room.ok()) {
    done(room);
    return true;
  }
  Slot slot;
  if (!source->fresh) {
    if (!source->slot && source->host == nullptr) {
      ReadState(source);
      return false;
    }
    // Where there is one slot alone the source leaves it, and is copied from host memory.
    SlotPool& slots = *RoomOf(*source).slots;
    const Session* keep = slots.num_slots() > 1 ? source.get() : nullptr;
    RASQ_ASSIGN_OR_RETURN(slot, TakeSlot(slots, keep, /*exchange=*/false));
    if (!slot) return false;
    RASQ_RETURN_IF_ERROR(CopyState(source, slot.data()).status());
  }
  SessionRecord record = MakeRecord(*source);
  record.name.id = request.new_id;
  record.request_id = request.request_id;
  if (!request.labels.empty()) record.labels = request.labels;
  record.create_time = record.last_use_time = absl::Now();
  const absl::StatusOr<SessionPtr> made = MakeSession(record);
  absl::Status status = made.status();
  if (status.ok()) {
    (*made)->fresh = source->fresh;
    if (source->history != nullptr) {  // with its index
      (*made)->history = std::make_unique<TokenHistory>(*source->history);
    }
    MutexLock lock(mu_);
    (*made)->history_bytes = source->history_bytes;
    status = Register(*made);
  }
  if (!status.ok()) {
    done(status);
    return true;
  }
  const SessionPtr& session = *made;
  if (slot) PutOnDevice(session, std::move(slot));
  EnterLog(session, record, [this, session, done](const absl::Status& logged) {
    done(logged.ok() ? absl::StatusOr<SessionInfo>(InfoOf(*session)) : logged);
  });
  return true;
}

void Engine::Impl::SnapshotSession(const SnapshotRequest& request,
                                   const std::function<void(absl::StatusOr<SnapshotInfo>)>& done) {
  absl::Status refused = store_ == nullptr ? NoSnapshotDirectory() : absl::OkStatus();
  SnapshotRequest named = request;
  if (named.snapshot_id.empty()) {
    named.snapshot_id =
        absl::StrCat(request.session.id.substr(0, 96), "-", absl::ToUnixMicros(absl::Now()));
  }
  if (refused.ok()) {
    refused = store_->SnapshotPath({named.session.tenant, named.snapshot_id}).status();
  }
  if (refused.ok()) {
    refused = AddTask(
        request.session,
        [this, named, done](const SessionPtr& session) { return Snapshot(session, named, done); },
        done);
  }
  if (!refused.ok()) done(refused);
}

absl::StatusOr<bool> Engine::Impl::Snapshot(
    const SessionPtr& session, const SnapshotRequest& request,
    const std::function<void(absl::StatusOr<SnapshotInfo>)>& done) {
  std::shared_ptr<HostState> host = session->host;
  const int64_t bytes = session->fresh ? 0 : session->layout->bytes;
  if (bytes > 0 && host == nullptr) {
    if (!session->slot) {
      ReadState(session);
      return false;
    }
    host = TakeHostMemory(bytes);
    if (host == nullptr) return false;
    RASQ_RETURN_IF_ERROR(ops_->CopyToHost(host->data(), session->slot.data(), bytes));
    being_copied_.clear();
  }
  SessionRecord record = MakeRecord(*session);
  record.last_use_time = absl::Now();  // the snapshot's own
  Background([this, request, done, host, bytes, record = std::move(record)] {
    const auto write = [&]() -> absl::StatusOr<SnapshotInfo> {
      const std::string where = absl::StrCat("snapshot_id=", request.snapshot_id);
      RASQ_ASSIGN_OR_RETURN(const std::string path,
                            store_->SnapshotPath({request.session.tenant, request.snapshot_id}));
      RASQ_RETURN_IF_ERROR(store_->MakeSnapshotDirectory(request.session.tenant, where));
      RASQ_RETURN_IF_ERROR(WriteSessionFile(
          path, where, record, absl::MakeConstSpan(bytes == 0 ? nullptr : host->data(), bytes)));
      // Not read back: the name may have another's file, or none, by now.
      return SnapshotOf(
          request.snapshot_id,
          {.record = record, .state_bytes = bytes, .file_bytes = SessionFileBytes(record, bytes)});
    };
    absl::StatusOr<SnapshotInfo> info = write();
    {
      MutexLock lock(mu_);
      ++(info.ok() ? files_written_ : files_failed_);
    }
    done(std::move(info));
  });
  return true;
}

// A snapshot that was read, to become a session.
struct Engine::Impl::Restored {
  RestoreSessionRequest request;
  std::function<void(absl::StatusOr<SessionInfo>)> done;
  SessionRecord record;
  std::shared_ptr<HostState> host;  // null: it has no tokens
  absl::Status status;
};

void Engine::Impl::RestoreSession(const RestoreSessionRequest& request,
                                  std::function<void(absl::StatusOr<SessionInfo>)> done) {
  absl::Status refused =
      request.session_id.empty() ? absl::OkStatus() : CheckName("session_id", request.session_id);
  refused.Update(CheckLabels(request.labels));
  if (store_ == nullptr) refused.Update(NoSnapshotDirectory());
  if (refused.ok()) refused = store_->SnapshotPath(request.snapshot).status();
  absl::StatusOr<SessionInfo> again = absl::NotFoundError("");
  {
    MutexLock lock(mu_);
    if (stopping_) refused.Update(absl::UnavailableError("the engine is stopping"));
    if (!request.request_id.empty()) {
      again = Repeated({request.snapshot.tenant, request.request_id});
    }
  }
  if (!refused.ok() || again.ok()) {
    done(refused.ok() ? std::move(again) : refused);
    return;
  }
  Post([this, request, done = std::move(done)] {
    restores_.emplace_back(request, done);
    StartRestores();
  });
}

void Engine::Impl::StartRestores() {
  for (; restoring_ < kRestoresAtOnce && !restores_.empty(); ++restoring_) {
    auto [request, done] = std::move(restores_.front());
    restores_.pop_front();
    Background([this, restored = Restored{.request = request, .done = done}]() mutable {
      const auto read = [&]() -> absl::Status {
        const std::string where = absl::StrCat("snapshot_id=", restored.request.snapshot.id);
        RASQ_ASSIGN_OR_RETURN(const std::string path,
                              store_->SnapshotPath(restored.request.snapshot));
        absl::StatusOr<SessionRecord> record = ReadSessionFile(
            path, where,
            [&](const SessionFileHeader& header) -> absl::StatusOr<absl::Span<std::byte>> {
              RASQ_ASSIGN_OR_RETURN(const StatePool* pool, PoolOf(header.record, where));
              restored.host = std::make_shared<HostState>();
              restored.host->own = std::make_unique<std::byte[]>(pool->layout.bytes);
              return absl::MakeSpan(restored.host->data(), pool->layout.bytes);
            });
        if (absl::IsNotFound(record.status())) {
          return absl::NotFoundError(
              absl::StrCat("snapshot_id=\"", restored.request.snapshot.id, "\": no such snapshot"));
        }
        RASQ_RETURN_IF_ERROR(record.status());
        restored.record = *std::move(record);
        return PoolOf(restored.record, where).status();
      };
      restored.status = read();
      Post([this, restored = std::move(restored)] { FinishRestore(restored); });
    });
  }
}

void Engine::Impl::FinishRestore(Restored restored) {
  const auto end = [this, done = restored.done](const absl::StatusOr<SessionInfo>& result) {
    done(result);
    --restoring_;
    StartRestores();
  };
  if (!restored.status.ok()) {
    end(restored.status);
    return;
  }
  SessionRecord& record = restored.record;
  record.name = {restored.request.snapshot.tenant, restored.request.session_id};
  record.request_id = restored.request.request_id;
  if (!restored.request.labels.empty()) record.labels = restored.request.labels;
  record.create_time = record.last_use_time = absl::Now();
  const absl::StatusOr<SessionPtr> made = MakeSession(record);
  absl::Status status = made.status();
  if (status.ok()) {
    (*made)->fresh = restored.host == nullptr;
    MutexLock lock(mu_);
    status = Register(*made);
  }
  if (!status.ok()) {
    end(status);
    return;
  }
  const SessionPtr& session = *made;
  if (restored.host != nullptr) PutOnHost(session, restored.host);
  // Its memory is not a slot's: it counts as restoring until it has one.
  const auto bring_in = [this, session, end]() -> absl::StatusOr<bool> {
    RASQ_ASSIGN_OR_RETURN(const bool in, BringIn(session));
    if (in) end(InfoOf(*session));
    return in;
  };
  EnterLog(session, record, [this, session, end, bring_in](const absl::Status& logged) {
    Post([=, this] {
      if (!logged.ok()) {
        end(logged);
        return;
      }
      absl::Status refused;
      {
        MutexLock lock(mu_);
        if (stopping_) {
          refused = absl::UnavailableError("the engine is stopping");
        } else if (session->state != SessionState::kActive) {
          refused = absl::AbortedError(
              absl::StrCat("session_id=", session->name.id, ": is being deleted"));
        } else {
          ++session->items_in_flight;
        }
      }
      if (!refused.ok()) {
        end(refused);
        return;
      }
      // Last: what stands before it may be loaded already.
      session->items.push_back({.task = bring_in, .on_dropped = end});
      busy_[session->key] = session;
    });
  });
}

absl::Status Engine::Impl::Adopt(StoredSession stored) {
  const std::string where = absl::StrCat("session_id=", stored.record.name.id);
  RASQ_RETURN_IF_ERROR(PoolOf(stored.record, where).status());
  for (LogEntry& entry : stored.entries) {
    for (std::shared_ptr<const Input>& input : entry.input) {
      if (input->pinned) stored.record.mark.pinned_tokens += input->size();
      stored.record.queue.push_back(std::move(input));
    }
    stored.record.mark.next_offset = entry.next_offset;
    stored.record.mark.held_text = std::move(entry.held_text);
    stored.record.mark.begun = entry.begun;
  }
  RASQ_ASSIGN_OR_RETURN(const SessionPtr session, MakeSession(std::move(stored.record)));
  session->stored_key = stored.key;
  session->fresh = !stored.has_state;
  if (stored.has_state) session->file = stored.state_file;
  session->logs = store_->log() != nullptr;
  session->logged = stored.logged + static_cast<int64_t>(stored.entries.size());
  if (session->logs) session->checkpoint = stored.state_file;
  session->checkpoint_position = session->cursor.position;
  MutexLock lock(mu_);
  RASQ_RETURN_IF_ERROR(Register(session, Arrival::kAdopted));
  if (!session->fresh) {
    session->place = Place::kDisk;
    ++num_on_disk_;
  } else if (!session->logs) {
    store_->Remove(stored.state_file);  // it is in memory now, and the file soon out of date
  }
  return absl::OkStatus();
}

}  // namespace rasq
