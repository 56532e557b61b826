// Things with codes, numbers, words: told once, asked later. Some things have several values, some
// questions are about two things, some go from the value to the thing.
#pragma once

#include "client/tasks/episode.h"
#include "client/tasks/random.h"

namespace rasq::tasks {

// `num_facts` > 0.
Episode MakeKeyValues(Random& random, Split split, int num_facts);

}  // namespace rasq::tasks
