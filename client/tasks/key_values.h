// Things with codes, numbers, words: told once, asked later. Some things have several values, some
// questions are about two things, some go from the value to the thing.
#pragma once

#include "client/tasks/episode.h"
#include "client/tasks/lexicon.h"
#include "client/tasks/wording.h"

namespace rasq::tasks {

// `num_facts` > 0.
Episode MakeKeyValues(const Source& from, int num_facts);

// The relations that are listed; others are open.
const Words& KeyValueLabels();

}  // namespace rasq::tasks
