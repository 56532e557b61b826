// News: dated statements about firms, towns, teams and people in which newer values replace older
// ones, many times for some. Questions ask for the newest, for the one before, and for the one at a
// time.
#pragma once

#include "client/tasks/episode.h"
#include "client/tasks/lexicon.h"
#include "client/tasks/wording.h"

namespace rasq::tasks {

// `num_facts` > 0.
Episode MakeNews(const Source& from, int num_facts);
// The same news, and for each statement that replaces a value the question for the newest, to be
// asked until the next one of its kind.
Episode MakeNewsUpdates(const Source& from, int num_facts);

// The topics that are listed; others are open.
const Words& NewsTopics();

}  // namespace rasq::tasks
