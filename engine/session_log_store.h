// The rows of a session log on disk: RocksDB, set up for a small log that is written all the time
// and read once, at start. Owned by one thread at a time.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/session_log_format.h"

namespace rasq {

class SessionLogStore {
 public:
  // Errors as SessionLog::Open.
  static absl::StatusOr<std::unique_ptr<SessionLogStore>> Open(const std::string& directory);
  ~SessionLogStore();
  // A damaged record, which could not be skipped, ends what was read: all behind it is lost.
  bool cut_off() const;

  // What the next Commit writes, in this order.
  void Put(LogRow row, absl::string_view value);
  void Delete(LogRow from, LogRow end);  // all rows in [from, end)
  int64_t pending_bytes() const;
  // All of it or nothing, and on disk; then nothing is pending. On an error all is pending still,
  // and may be on disk or not: committing it again is right in both cases.
  absl::Status Commit();
  // After a Commit that was not OK, before the next. RocksDB refuses all writes after one that
  // failed. Its own DB::Resume brings it back after some errors; after others it does not, and in
  // version 7.8 can run into an assertion that Debian's build has on. What always works is to open
  // the directory again, which reads at most what the memory held.
  absl::Status Reopen();

  // Hands out every row in order. Where a block of a file is corrupt, hands out the places between
  // which rows can not be read, and goes on behind it; of several such blocks far apart it may take
  // the rows between two for unreadable too.
  absl::Status Walk(const std::function<void(LogRow row, absl::string_view value)>& good,
                    const std::function<void(LogRow from, LogRow end)>& unreadable) const;
  // Copies all rows that can be read to new files and drops the old ones: compaction would come
  // upon a corrupt block, and RocksDB then writes nothing any more.
  absl::Status Rewrite();
  // Until called, files are only added, never merged.
  absl::Status StartCompaction();

 private:
  struct Impl;
  explicit SessionLogStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace rasq
