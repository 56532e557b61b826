// Traits of people: look-ups, some of them corrected later, some asked the other way round or
// over two steps.
#pragma once

#include "client/tasks/episode.h"
#include "client/tasks/random.h"

namespace rasq::tasks {

// `num_facts` > 0.
Episode MakePeople(Random& random, Split split, int num_facts);

}  // namespace rasq::tasks
