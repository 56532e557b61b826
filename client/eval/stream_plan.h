// What happens at which place of a stream: where facts are told, and what is asked when.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "client/eval/script.h"
#include "client/tasks/random.h"

namespace rasq::client {

struct PlannedFact {
  int fact;
  int64_t position_tokens;  // of the stream, where it begins
};
struct PlannedQuestion {
  int question;                            // of the episode
  int64_t position_tokens;                 // of the stream, where it is asked
  std::optional<int64_t> distance_tokens;  // behind the update that it asks for
};
struct StreamPlan {
  std::vector<PlannedFact> facts;          // all, in their order
  std::vector<PlannedQuestion> questions;  // by position
  int64_t length_tokens;                   // of the whole stream
};

// Facts go to uniformly random places of the text between them, so that all of it has
// `length_tokens`; facts alone have no text between them. Up to `max_questions` of each task are
// chosen at random: of those that hold at the end, to be asked there; or, `along`, of all, each to
// be asked 0, 64, 256, 1024, ... tokens behind its newest fact, for as long as it holds.
// kOutOfRange if the facts do not fit.
absl::StatusOr<StreamPlan> PlanStream(tasks::Random& random, const Script& script,
                                      const std::vector<int64_t>& fact_tokens,
                                      int64_t length_tokens, int64_t max_questions, bool along);

}  // namespace rasq::client
