#include "engine/session_log.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/session_log_format.h"
#include "engine/session_log_recovery.h"
#include "engine/session_log_store.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

// A write takes what is queued, but no more than about this: it is held in memory until it is done.
constexpr int64_t kMaxWriteBytes = int64_t{8} << 20;
// Between two tries to write what the disk refused; each doubles the time.
constexpr std::chrono::milliseconds kFirstBackoff(20);
constexpr std::chrono::milliseconds kLastBackoff(1000);
// Rows that number the writes are kept for more writes than the store's youngest, unmerged files
// can hold; older ones are under those files' own checksums. They are forgotten so many at a time.
constexpr int64_t kKeptWrites = int64_t{1} << 19;
constexpr int64_t kForgottenWrites = int64_t{1} << 16;

}  // namespace

absl::StatusOr<std::unique_ptr<SessionLog>> SessionLog::Open(const std::string& directory) {
  RASQ_ASSIGN_OR_RETURN(auto store, SessionLogStore::Open(directory));
  return std::unique_ptr<SessionLog>(new SessionLog(std::move(store)));
}

SessionLog::SessionLog(std::unique_ptr<SessionLogStore> store) : store_(std::move(store)) {}

SessionLog::~SessionLog() {
  {
    MutexLock lock(mu_);
    stopping_ = true;
    queued_.Signal();
  }
  if (thread_.joinable()) thread_.join();
}

absl::StatusOr<LogReport> SessionLog::Recover(const std::function<void(LoggedSession)>& session) {
  RASQ_CHECK(!thread_.joinable());
  const std::function<void(LoggedSession)> count_and_hand_out = [&](LoggedSession found) {
    {
      MutexLock lock(mu_);
      counts_[found.key].entries =
          found.state_sequence + static_cast<int64_t>(found.entries.size());
    }
    session(std::move(found));
  };
  SessionLogRecovery recovery(store_.get(), &count_and_hand_out);
  RASQ_RETURN_IF_ERROR(recovery.Run());
  // The writes before this one need no counting any more.
  last_write_ = recovery.last_write() + 1;
  store_->Delete({kLogWrites, 0}, EndOfLogRows(kLogWrites));
  store_->Put({kLogWrites, last_write_}, "");
  RASQ_RETURN_IF_ERROR(store_->Commit());
  if (recovery.unreadable()) RASQ_RETURN_IF_ERROR(store_->Rewrite());
  RASQ_RETURN_IF_ERROR(store_->StartCompaction());
  thread_ = std::thread([this] { Run(); });
  LogReport report = std::move(recovery.report());
  if (store_->cut_off()) {
    report.problems.push_back("a damaged record ends the log: what was written behind it is lost");
  }
  return report;
}

absl::Status SessionLog::Create(int64_t key, std::string record) {
  const LogRow row{.key = key, .sequence = 0};
  // Shared with the callback: after an error nobody waits for it here.
  const auto done = std::make_shared<std::optional<absl::Status>>();
  MutexLock lock(mu_);
  RASQ_CHECK(key >= 0 && !counts_.contains(key));
  if (!health_.ok()) return health_;
  counts_[key] = {};
  Push({.rows =
            [row, record = std::move(record)](SessionLogStore& store) {
              store.Put(row, EncodeLogSession(row, {.record = record}));
            },
        .durable =
            [this, done](const absl::Status& status) {
              MutexLock callback_lock(mu_);
              *done = status;
              created_.SignalAll();
            }});
  while (!done->has_value() && health_.ok()) created_.Wait(mu_);
  if (done->has_value()) return **done;
  absl::Status status = health_;
  PushDelete(key, [](const absl::Status&) {});  // for the disk may take the session yet
  return status;
}

void SessionLog::Append(int64_t key, LogEntry entry, std::function<void(absl::Status)> durable) {
  MutexLock lock(mu_);
  const auto counts = counts_.find(key);
  RASQ_CHECK(counts != counts_.end());
  const LogRow row{.key = key, .sequence = ++counts->second.entries};
  Push({.rows = [row, entry = std::move(entry)](
                    SessionLogStore& store) { store.Put(row, EncodeLogEntry(row, entry)); },
        .durable = std::move(durable)});
}

void SessionLog::Checkpoint(int64_t key, int64_t sequence, std::string state_file,
                            std::string record, std::function<void(absl::Status)> durable) {
  MutexLock lock(mu_);
  const auto counts = counts_.find(key);
  RASQ_CHECK(counts != counts_.end() && sequence >= 0 && sequence <= counts->second.entries);
  // Not from the first entry each time: of ranges that overlap RocksDB makes a list as long as the
  // square of their number, on each flush and when it reads (version 7.8: a gigabyte of a
  // thousand checkpoints of ten sessions each).
  const int64_t from = counts->second.forgotten + 1;
  counts->second.forgotten = std::max(counts->second.forgotten, sequence);
  LogSessionRow session{
      .state_sequence = sequence, .state_file = std::move(state_file), .record = std::move(record)};
  Push({.rows =
            [key, from, session = std::move(session)](SessionLogStore& store) {
              const LogRow row{.key = key, .sequence = 0};
              store.Put(row, EncodeLogSession(row, session));
              if (from <= session.state_sequence) {
                store.Delete({key, from}, {key, session.state_sequence + 1});
              }
            },
        .durable = std::move(durable)});
}

void SessionLog::Delete(int64_t key, std::function<void(absl::Status)> durable) {
  MutexLock lock(mu_);
  PushDelete(key, std::move(durable));
}

void SessionLog::PushDelete(int64_t key, std::function<void(absl::Status)> durable) {
  RASQ_CHECK(counts_.erase(key) == 1);
  Push({.rows =
            [key](SessionLogStore& store) {
              store.Delete({key, 0}, EndOfLogRows(key));
            },
        .durable = std::move(durable)});
}

void SessionLog::GiveUp() {
  MutexLock lock(mu_);
  given_up_ = true;
  queued_.Signal();
}

absl::Status SessionLog::Health() const {
  MutexLock lock(mu_);
  return health_;
}

int64_t SessionLog::num_writes() const {
  MutexLock lock(mu_);
  return num_writes_;
}

void SessionLog::Push(Call call) {
  RASQ_CHECK(thread_.joinable() && !stopping_);
  queue_.push_back(std::move(call));
  queued_.Signal();
}

void SessionLog::Run() {
  absl::Status status;  // not OK: the disk refused, and nobody waits for it
  while (true) {
    std::deque<Call> calls;
    {
      MutexLock lock(mu_);
      while (queue_.empty() && !stopping_) queued_.Wait(mu_);
      if (queue_.empty()) return;
      calls.swap(queue_);
    }
    while (!calls.empty()) {
      size_t taken = 0;
      while (status.ok() && taken < calls.size() && store_->pending_bytes() < kMaxWriteBytes) {
        calls[taken++].rows(*store_);
      }
      if (status.ok()) status = CommitUntilDone();
      if (!status.ok()) taken = calls.size();
      for (; taken > 0; --taken) {
        calls.front().durable(status);
        calls.pop_front();
      }
    }
  }
}

absl::Status SessionLog::CommitUntilDone() {
  const int64_t number = last_write_ + 1;
  store_->Put({kLogWrites, number}, "");
  if (number % kForgottenWrites == 0 && number > kKeptWrites) {
    store_->Delete({kLogWrites, 0}, {kLogWrites, number - kKeptWrites});
  }
  absl::Status status = store_->Commit();
  for (auto backoff = kFirstBackoff; !status.ok(); backoff = std::min(2 * backoff, kLastBackoff)) {
    if (!SetHealthAndWait(status, backoff)) {
      return absl::UnavailableError(
          absl::StrCat("closed before the disk took the write: ", status.message()));
    }
    status = store_->Reopen();
    if (status.ok()) status = store_->Commit();
  }
  last_write_ = number;
  MutexLock lock(mu_);
  health_ = absl::OkStatus();
  ++num_writes_;
  return absl::OkStatus();
}

bool SessionLog::SetHealthAndWait(const absl::Status& status, std::chrono::milliseconds time) {
  const auto deadline = std::chrono::steady_clock::now() + time;
  MutexLock lock(mu_);
  health_ = absl::IsResourceExhausted(status) ? status : absl::UnavailableError(status.message());
  created_.SignalAll();
  while (!stopping_ && !given_up_ && std::chrono::steady_clock::now() < deadline) {
    queued_.WaitUntil(mu_, deadline);
  }
  return !stopping_ && !given_up_;
}

}  // namespace rasq
