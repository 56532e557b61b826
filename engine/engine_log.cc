// The engine's side of the durable log: what goes into it, and what waits for it.
#include <chrono>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/engine_impl.h"
#include "engine/session_file.h"
#include "kernels/base/status.h"

namespace rasq {

class Engine::Impl::DurableAck {
 public:
  explicit DurableAck(std::function<void(absl::StatusOr<AppendResult>)> ack)
      : ack_(std::move(ack)) {}

  void OnAbsorbed(const absl::StatusOr<AppendResult>& result) {
    Take([&] {
      result_ = result;
      return durable_ || !result.ok();
    });
  }
  void OnDurable(const absl::Status& status) {
    Take([&] {
      durable_ = true;
      if (!status.ok()) result_ = status;
      return result_.has_value();
    });
  }

 private:
  template <typename Note>
  void Take(Note note) {
    std::function<void(absl::StatusOr<AppendResult>)> ack;
    absl::StatusOr<AppendResult> result;
    {
      MutexLock lock(mu_);
      if (ack_ == nullptr || !note()) return;
      ack = std::exchange(ack_, nullptr);
      result = *std::move(result_);
    }
    ack(std::move(result));
  }

  Mutex mu_;
  std::function<void(absl::StatusOr<AppendResult>)> ack_;  // null: it was called
  bool durable_ = false;
  std::optional<absl::StatusOr<AppendResult>> result_;
};

// Into the log, in the order in which the session's state takes it; from then on its end is told
// only when the disk has it.
void Engine::Impl::Log(Session& session, WorkItem& item) {
  if (!session.logs || item.logged) return;
  const auto ack = std::make_shared<DurableAck>(std::move(item.on_absorbed));
  {
    MutexLock lock(mu_);
    ++log_waits_;
  }
  ++session.logged;
  store_->log()->Append(session.stored_key,
                        {.input = item.input,
                         .next_offset = item.mark.next_offset,
                         .held_text = item.mark.held_text,
                         .begun = item.mark.begun},
                        [this, ack](const absl::Status& status) {
                          ack->OnDurable(status);
                          MutexLock lock(mu_);
                          ++log_entries_;
                          --log_waits_;
                          background_.SignalAll();
                        });
  item.on_absorbed = [ack](const absl::StatusOr<AppendResult>& result) { ack->OnAbsorbed(result); };
}

// The log calls back nobody who is gone: it ends what it was given, if need be without the disk.
void Engine::Impl::EndLogCalls(absl::Duration patience) {
  const auto deadline = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(patience);
  const auto wait = [&](bool forever) {
    MutexLock lock(mu_);
    while (log_waits_ > 0 && (forever || std::chrono::steady_clock::now() < deadline)) {
      forever ? background_.Wait(mu_) : background_.WaitUntil(mu_, deadline);
    }
    return log_waits_ == 0;
  };
  if (!wait(/*forever=*/false)) {
    store_->log()->GiveUp();
    wait(/*forever=*/true);
  }
  EndBackground();  // what they posted
  for (const auto& [request, done] : restores_) {
    done(absl::UnavailableError("the engine is stopping"));
  }
}

// A session that was made of another or of a file is whole in the log before it is used: its state
// in a file, its record with the file's name.
void Engine::Impl::EnterLog(const SessionPtr& session, const SessionRecord& record,
                            std::function<void(absl::Status)> done) {
  if (store_ == nullptr || store_->log() == nullptr) {
    done(absl::OkStatus());
    return;
  }
  std::shared_ptr<HostState> host = session->host;
  if (host == nullptr && !session->fresh) {
    host = std::make_shared<HostState>();
    host->own = std::make_unique<std::byte[]>(session->layout->bytes);
    const absl::Status status =
        ops_->CopyToHost(host->data(), session->slot.data(), session->layout->bytes);
    if (!status.ok()) {
      done(status);
      return;
    }
  }
  session->log_pending = true;
  session->writing = true;
  {
    MutexLock lock(mu_);
    ++session->items_in_flight;  // so that it is not deleted meanwhile
  }
  const std::string path = store_->StatePath(session->stored_key, 0, record.cursor.position);
  Background([this, session, host, record, path, done = std::move(done)] {
    const int64_t bytes = host == nullptr ? 0 : session->layout->bytes;
    absl::Status status =
        WriteSessionFile(path, absl::StrCat("session_id=", session->name.id), record,
                         absl::MakeConstSpan(host == nullptr ? nullptr : host->data(), bytes));
    if (status.ok()) {
      status = ForClients(store_->log()->Create(session->stored_key, EncodeRecord(record)));
    }
    Post([=, this] {
      session->writing = false;
      session->log_pending = false;
      {
        MutexLock lock(mu_);
        --session->items_in_flight;
      }
      if (!status.ok()) {  // as if it had never been
        store_->Remove(path);
        FailSession(session, status);
        {
          MutexLock lock(mu_);
          if (session->state == SessionState::kFailed) ++num_deleting_;
          session->state = SessionState::kDeleting;
        }
        FinishDeletes();
        done(status);
        return;
      }
      session->logs = true;
      session->checkpoint = path;
      session->checkpoint_position = record.cursor.position;
      busy_[session->key] = session;
      {
        MutexLock lock(mu_);
        ++log_waits_;
      }
      store_->log()->Checkpoint(session->stored_key, 0, path, EncodeRecord(record),
                                [this, done](const absl::Status& durable) {
                                  done(durable);
                                  MutexLock lock(mu_);
                                  --log_waits_;
                                  background_.SignalAll();
                                });
    });
  });
}

}  // namespace rasq
