// Talk in which people state wishes, plans and orders, and change their minds. Questions are about
// what holds in the end.
#pragma once

#include "client/tasks/episode.h"
#include "client/tasks/lexicon.h"

namespace rasq::tasks {

// A fact is one turn, often with an answer of somebody else. `num_facts` > 0.
Episode MakeDialogue(const Source& from, int num_facts);

}  // namespace rasq::tasks
