// Stories of the bAbI tasks (Weston et al. 2015, arXiv:1502.05698) from their files, in the form in
// which they were published, or as JSON lines.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/tasks/episode.h"

namespace rasq::client {

// By the task's number. Each question may be asked only where the story asks it.
using BabiStories = std::map<int, std::vector<tasks::Episode>>;

// `path` is a folder with files qaN_*_test.txt and qaN_*_train.txt, of which the held-out split
// takes the former and training the latter; or one such file; or a file of JSON lines, each
// {"task": "qa1", "story_id", "lines": [{"n", "text"} or {"n", "question", "answer", "support"}]},
// split by story_id as in training. Errors name file, line and field; kNotFound if no file fits.
absl::StatusOr<BabiStories> ReadBabi(const std::string& path, tasks::Split split);

// "1 Mary went home.", "2 Where is Mary?<tab>home<tab>1": each story begins anew with number 1.
absl::StatusOr<std::vector<tasks::Episode>> ParseBabiText(absl::string_view text,
                                                          absl::string_view path);

}  // namespace rasq::client
