// Names that are given values through other names, as in RULER's variable tracking, in the
// notations of several programming languages and in prose.
#pragma once

#include "client/tasks/episode.h"
#include "client/tasks/lexicon.h"

namespace rasq::tasks {

// `num_facts` > 0.
Episode MakeVariableChains(const Source& from, int num_facts);

}  // namespace rasq::tasks
