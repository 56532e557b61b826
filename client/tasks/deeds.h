// What people did with things: who, what, where, when, with whom, for how much. Training has it
// among the traits of people, so that questions with other words than "what is" come with many
// verbs; evaluations ask for traits alone.
#pragma once

#include "client/tasks/episode.h"
#include "client/tasks/lexicon.h"

namespace rasq::tasks {

// `num_facts` > 0. Of the split's words, in training's wordings.
Episode MakeDeeds(const Source& from, int num_facts);

}  // namespace rasq::tasks
