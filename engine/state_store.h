// What sessions leave on disk: files of parked and checkpointed states, snapshots, and the log of a
// durable server; and the threads that read and write files while the engines go on. Engines of a
// group share one.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/session_file.h"
#include "engine/session_log.h"
#include "engine/session_record.h"
#include "engine/types.h"
#include "kernels/base/mutex.h"

namespace rasq {

// A session that an earlier run of the server left.
struct StoredSession {
  SessionRecord record;
  int64_t key = 0;                // see StateStore::NewKey
  std::string state_file;         // of the record and its slab; empty: there is none
  bool has_state = false;         // the file has a slab
  int64_t logged = 0;             // entries of the log that `record` holds
  std::vector<LogEntry> entries;  // those after it
};

// The refusal of all that has to do with snapshots where there are none.
absl::Status NoSnapshotDirectory();
// What a snapshot of that file says of itself.
SnapshotInfo SnapshotOf(const std::string& id, const SessionFileHeader& header);

// Any thread may call any method.
class StateStore {
 public:
  // Makes the directories that `options` names. Without any, the store is of no use but harmless.
  // kInvalidArgument if options do not fit together; else as SessionLog::Open.
  static absl::StatusOr<std::shared_ptr<StateStore>> Open(const EngineOptions& options);
  // Finishes what was submitted.
  ~StateStore();

  bool has_states() const { return !state_dir_.empty(); }
  SessionLog* log() const { return log_.get(); }  // null: the server is not durable

  // Hands out what is on disk; `problem` hears a line for each thing that is lost and why. Called
  // once, before all else. Errors are the log's.
  absl::Status Recover(const std::function<void(StoredSession)>& session,
                       const std::function<void(std::string)>& problem);

  // Names a session for ever, in the log and in names of files.
  int64_t NewKey();
  // Of a session's state after so many entries of its log and so many tokens in its slab.
  std::string StatePath(int64_t key, int64_t logged, int64_t position) const;

  // NoSnapshotDirectory, or kInvalidArgument if the name is none.
  absl::StatusOr<std::string> SnapshotPath(const ScopedName& name) const;
  // The tenant's, before one is written to it. kUnavailable begins with `where`.
  absl::Status MakeSnapshotDirectory(const std::string& tenant, absl::string_view where) const;
  absl::StatusOr<SnapshotPage> ListSnapshots(const std::string& tenant, int32_t page_size,
                                             const std::string& page_token) const;
  absl::Status DeleteSnapshot(const ScopedName& name) const;

  // Runs `task` on a thread of the store; tasks may overtake one another.
  void Submit(std::function<void()> task);
  void Remove(std::string path);

 private:
  StateStore(std::string state_dir, std::string snapshot_dir);
  void Run();
  std::string TenantDirectory(const std::string& tenant) const;
  absl::Status RecoverFiles(const std::function<void(StoredSession)>& session,
                            const std::function<void(std::string)>& problem);
  absl::Status RecoverLog(const std::function<void(StoredSession)>& session,
                          const std::function<void(std::string)>& problem);

  const std::string state_dir_;     // empty: none
  const std::string snapshot_dir_;  // empty: none
  std::unique_ptr<SessionLog> log_;

  Mutex mu_;
  CondVar work_or_stop_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  int64_t next_key_ ABSL_GUARDED_BY(mu_) = 1;
  std::vector<std::thread> threads_;
};

}  // namespace rasq
