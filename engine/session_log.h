// The durable log of what sessions absorbed: with the state that a session had at its last
// checkpoint, enough to make every acknowledged call again after a crash.
//
// It is an embedded store (RocksDB) in a directory that one process holds. One thread writes: it
// takes all that is queued, writes it as one record, syncs the disk once, then calls back (group
// commit), so the cost of a sync is shared by as many calls as came in during the last one. While
// the disk refuses writes nothing is lost or reordered: the same record is tried again until it is
// on disk or the log is destroyed. The queue is not bounded here: who appends looks at Health() and
// bounds what it has in flight.
//
// Each entry carries its number in its session and a checksum, and each write its number in the
// log. Recover tells from these what a fault of the disk took, keeps the rest, and says so.
//
// Disk space: what a checkpoint or a deletion forgets is gone for readers at once, and from the
// files when RocksDB next rewrites them: at most 32 MiB of the youngest writes, then by compaction,
// no later than a day after they left these. A log thus holds what lives, plus some 100 MiB.
//
// Threads: any may call anything, callbacks excepted: these run on the log's thread, must return
// soon and may not call Create, which waits for that thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/input_queue.h"
#include "kernels/base/mutex.h"

namespace rasq {

class SessionLogStore;

// One absorbed call, in the order in which it entered the session's state.
struct LogEntry {
  std::vector<std::shared_ptr<const Input>> input;
  int64_t next_offset = 0;  // of the session after it
  std::string held_text;    // what the session's text held back after it; any bytes
  bool begun = false;       // the session's text has begun
};

// A session as Recover finds it. Rows of embeddings are as many as ids, of equal width; that the
// width is the model's is the reader's to check.
struct LoggedSession {
  int64_t key = 0;
  std::string record;             // of the session itself, from Create or the last Checkpoint
  std::string state_file;         // of the last Checkpoint; empty: there was none
  int64_t state_sequence = 0;     // entries that state_file holds
  std::vector<LogEntry> entries;  // those after it, in order, without a gap
  bool damaged = false;           // entries after these were lost
};

struct LogReport {
  int64_t sessions = 0;               // handed out
  int64_t entries = 0;                // in them
  int64_t damaged_sessions = 0;       // handed out with less than they had, or not at all
  int64_t dropped_entries = 0;        // that were there, but beyond damage
  std::vector<std::string> problems;  // a line each, for a person; names key and sequence
};

class SessionLog {
 public:
  // Makes the directory if need be. kFailedPrecondition if another process holds it, kDataLoss if
  // it cannot be read, kResourceExhausted if the disk is full, kUnavailable if it refuses.
  static absl::StatusOr<std::unique_ptr<SessionLog>> Open(const std::string& directory);
  // Writes what is queued; if the disk refuses it, those callbacks get kUnavailable.
  ~SessionLog();

  // Hands out each session in turn and removes what lies beyond damage, so that it does not come
  // back. Called once, before anything else is. On an error nothing was removed:
  // kFailedPrecondition if a newer version of the program wrote an entry, else as Open.
  absl::StatusOr<LogReport> Recover(const std::function<void(LoggedSession)>& session);

  // Durable on return. `key` >= 0, of no other session that is or was since Open. While the disk
  // refuses writes: Health(), and the session is not in the log.
  absl::Status Create(int64_t key, std::string record);

  // The three below take a key that Create or Recover gave and Delete has not taken back. They
  // return at once; `durable` is called when the disk has it, in the order of the calls.
  void Append(int64_t key, LogEntry entry, std::function<void(absl::Status)> durable);
  // `state_file` holds the first `sequence` entries, counted from the session's beginning: they are
  // forgotten. Until `durable` is called the file that the last Checkpoint named must stay.
  void Checkpoint(int64_t key, int64_t sequence, std::string state_file, std::string record,
                  std::function<void(absl::Status)> durable);
  void Delete(int64_t key, std::function<void(absl::Status)> durable);

  // From now on nothing waits for a disk that refuses: what it has not taken, and all that comes,
  // gets kUnavailable. For a server that stops.
  void GiveUp();

  // Not OK while the disk refuses writes: kResourceExhausted if it is full, else kUnavailable. New
  // appends should then be refused: they would wait in memory.
  absl::Status Health() const;

  // Syncs of the disk so far, one a group of calls.
  int64_t num_writes() const;

 private:
  // Of one session, since it was made.
  struct Counts {
    int64_t entries = 0;
    int64_t forgotten = 0;  // of them; after Recover, since then
  };
  struct Call {
    std::function<void(SessionLogStore&)> rows;  // puts the call's rows into the next write
    std::function<void(absl::Status)> durable;
  };

  explicit SessionLog(std::unique_ptr<SessionLogStore> store);
  void Push(Call call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void PushDelete(int64_t key, std::function<void(absl::Status)> durable)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Run();
  // Not OK only if the disk refuses and the log is given up or being destroyed: kUnavailable.
  absl::Status CommitUntilDone();
  // False if the log is given up or being destroyed.
  bool SetHealthAndWait(const absl::Status& status, std::chrono::milliseconds time);

  mutable Mutex mu_;
  CondVar queued_;   // a call, or stopping_
  CondVar created_;  // a Create is through, or health_ has changed
  std::deque<Call> queue_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<int64_t, Counts> counts_ ABSL_GUARDED_BY(mu_);  // by key
  absl::Status health_ ABSL_GUARDED_BY(mu_);
  int64_t num_writes_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool given_up_ ABSL_GUARDED_BY(mu_) = false;

  // Recover's, then the thread's.
  std::unique_ptr<SessionLogStore> store_;
  int64_t last_write_ = 0;  // its number, on disk

  std::thread thread_;  // from Recover on
};

}  // namespace rasq
