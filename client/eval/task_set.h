// The tasks of an evaluation by name, and the episode that each of its streams tells.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/eval/babi_files.h"
#include "client/tasks/episode.h"
#include "client/tasks/random.h"

namespace rasq::client {

struct TaskSetOptions {
  tasks::Split split = tasks::Split::kHeldOut;
  int64_t seed = 1;
  int64_t num_facts = 32;  // of an episode; stories have the lengths that bAbI's have
  // Questions for the newest value all along; else for what holds at the end. Only news has them.
  bool along = false;
  BabiStories babi;  // for qa1 to qa20; empty: qa1 to qa5 are simulated
};

class TaskSet {
 public:
  explicit TaskSet(TaskSetOptions options) : options_(std::move(options)) {}

  // What there is, in the order of tables.
  std::vector<std::string> Names() const;
  // kInvalidArgument, as a usage error, names a task that is not there.
  absl::Status Check(const std::vector<std::string>& names) const;

  // The episode of stream 0, 1, ... of a task that is there: the same for the same seed, whatever
  // the stream's length and strategy. Has at least one question to be asked.
  tasks::Episode Make(absl::string_view name, int64_t stream) const;

  const TaskSetOptions& options() const { return options_; }

 private:
  tasks::Episode MakeOnce(absl::string_view name, tasks::Random& random) const;

  const TaskSetOptions options_;
};

// Random numbers of their own for each stream of each task and each use.
tasks::Random StreamRandom(int64_t seed, absl::string_view use, int64_t stream);

}  // namespace rasq::client
