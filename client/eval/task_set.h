// The tasks of an evaluation by name, and what each of its streams tells.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/eval/babi_files.h"
#include "client/eval/ruler.h"
#include "client/eval/script.h"
#include "client/tasks/episode.h"
#include "client/tasks/random.h"

namespace rasq::client {

struct TaskSetOptions {
  tasks::Split split = tasks::Split::kHeldOut;
  int64_t seed = 1;
  int32_t num_facts = 32;  // of an episode; stories have the lengths that bAbI's have
  // Questions for the newest value all along; else for what holds at the end. Only news has them.
  bool along = false;
  BabiStories babi;                      // for qa1 to qa20; empty: qa1 to qa5 are simulated
  std::vector<tasks::Episode> passages;  // for squad and ruler_qa; empty: there are neither
  RulerOptions ruler;
};

class TaskSet {
 public:
  explicit TaskSet(TaskSetOptions options) : options_(std::move(options)) {}

  // What there is, in the order of tables.
  std::vector<std::string> Names() const;
  // The tasks of a list: "news", "ruler" for all of RULER's, "news+people" for streams that tell
  // both; an empty list are all but RULER's and perplexity. A usage error names a task that is not
  // there, and tasks that cannot share a stream: those with text of their own, and two of bAbI's,
  // whose people walk through the same rooms.
  absl::StatusOr<std::vector<std::string>> Resolve(const std::vector<std::string>& list) const;

  // Stream 0, 1, ... of a task that Resolve gave. The same for the same seed, whatever the
  // strategy, and but for lists of words (facts_alone) whatever the length; a task tells the same
  // beside others as alone. Has at least one question to be asked, or is scored (perplexity).
  // kOutOfRange if the task has no stream so short.
  absl::StatusOr<Script> Make(const std::string& name, int64_t stream, int64_t length_tokens,
                              const TokenCounter& count_tokens) const;

  const TaskSetOptions& options() const { return options_; }

 private:
  absl::Status CheckShared(const std::string& names) const;
  absl::StatusOr<Script> MakePart(const std::string& name, int64_t stream, int64_t length_tokens,
                                  const TokenCounter& count_tokens) const;
  tasks::Episode MakeOnce(absl::string_view name, tasks::Random& random) const;

  const TaskSetOptions options_;
};

// 3 of "qa3", 0 of other tasks.
int BabiTask(absl::string_view name);

// Random numbers of their own for each stream of each task and each use.
tasks::Random StreamRandom(int64_t seed, absl::string_view use, int64_t stream);

}  // namespace rasq::client
