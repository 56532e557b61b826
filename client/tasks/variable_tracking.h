// RULER's variable tracking (Hsieh et al. 2024, arXiv:2404.06654, section 3): chains of variables
// that are given a value through each other; asked for is who has the value.
#pragma once

#include "client/tasks/episode.h"
#include "client/tasks/random.h"

namespace rasq::tasks {

struct VariableTrackingOptions {
  int num_chains = 1;  // 1 to 64, each asked about once
  int num_hops = 4;    // 0 to 64: assignments of a chain behind its first
};

// A fact an assignment: a chain's in their order, those of different chains in any. Judged
// kContainsAll, over the chain's names.
Episode MakeVariableTracking(Random& random, Split split, const VariableTrackingOptions& options);

}  // namespace rasq::tasks
