// Stories of the bAbI tasks (Weston et al. 2015, arXiv:1502.05698) from a file of JSON lines:
// {"task": "qa1", "story_id", "lines": [{"n", "text"} or {"n", "question", "answer", "support"}]}.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/tasks/episode.h"

namespace rasq::train {

inline constexpr int kNumBabiTasks = 20;

struct BabiStory {
  int task;  // 1 .. kNumBabiTasks
  // Each question may be asked only where the story asks it.
  tasks::Episode episode;
};

// The stories of the split, in the file's order. Errors name file, line and field.
absl::StatusOr<std::vector<BabiStory>> ReadBabi(const std::string& path, tasks::Split split);

}  // namespace rasq::train
