// Traits of people: look-ups, some of them corrected later, some asked the other way round or
// over two steps. In training also deeds (deeds.h).
#pragma once

#include "client/tasks/episode.h"
#include "client/tasks/lexicon.h"
#include "client/tasks/wording.h"

namespace rasq::tasks {

// `num_facts` > 0.
Episode MakePeople(const Source& from, int num_facts);

// The traits that are listed; others are open.
const Words& PeopleTraits();

}  // namespace rasq::tasks
