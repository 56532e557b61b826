// Runs the streams of an evaluation, several at once, and keeps their results.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/commands/progress.h"
#include "client/eval/haystack.h"
#include "client/eval/result_file.h"
#include "client/eval/results.h"
#include "client/eval/stream_run.h"
#include "client/eval/task_set.h"
#include "client/rasq_client.h"

namespace rasq::client {

class Evaluation {
 public:
  // All are borrowed. What to run stands in the header: `strategies` x `settings` x `tasks` x
  // `lengths` x `streams`, `parallel` at once, less what `file` already has.
  Evaluation(const ClientOptions& client, const RunHeader& header, const TaskSet* tasks,
             const Haystack* haystack, ResultFile* file);

  // The first error ends all streams. Each finished one is in the file.
  absl::Status Run();
  int64_t num_streams() const { return static_cast<int64_t>(streams_.size()); }
  // May be called by any thread.
  Progress progress();

 private:
  void Work();
  absl::StatusOr<StreamRecord> RunOne(const StreamKey& key);

  const ClientOptions options_;
  const RunHeader& header_;
  const TaskSet* const tasks_;
  const Haystack* const haystack_;
  Client client_, cleaner_;
  std::vector<StreamKey> streams_;  // to run

  std::mutex mu_;
  ResultFile* const file_;  // guarded by mu_
  size_t next_ = 0;         // guarded by mu_
  absl::Status status_;     // guarded by mu_: the first error
  Progress progress_;       // guarded by mu_
  absl::Time started_;      // constant while Run runs
};

}  // namespace rasq::client
