// Questions about passages that stand among other passages: SQuAD's in a haystack, and RULER's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/eval/script.h"
#include "client/tasks/episode.h"
#include "client/tasks/random.h"

namespace rasq::client {

// `name` is "squad": all questions of a few passages, answered as SQuAD wants it; or "ruler_qa": of
// one passage, and right is what holds one of its answers (Hsieh et al. 2024, arXiv:2404.06654).
// `passages` as ReadSquad gives them; others than the chosen ones fill the stream, again and again
// if they are too few for `length_tokens`. kInvalidArgument if there are none for that.
absl::StatusOr<Script> MakePassages(const std::string& name, tasks::Random& random,
                                    const std::vector<tasks::Episode>& passages,
                                    int64_t length_tokens);

}  // namespace rasq::client
