// Passages with questions whose answers stand in them: SQuAD's own JSON, versions 1.1 and 2
// (Rajpurkar et al. 2016, arXiv:1606.05250), or JSON lines {"title", "context", "qas":
// [{"question", "answers": [{"text"}]}]}.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/tasks/episode.h"

namespace rasq::client {

// Passages of the split, by their articles' titles as in training, or `all`; each an episode of one
// fact, a line. A question's references are all answers that people gave; questions that version 2
// holds to have none are left out, but not the passages without any. Errors name the file, the
// place and the field; kInvalidArgument if no question is left.
absl::StatusOr<std::vector<tasks::Episode>> ReadSquad(const std::string& path, tasks::Split split,
                                                      bool all);

}  // namespace rasq::client
