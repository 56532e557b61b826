// Stories in the manner of bAbI's tasks 1 to 5: where is a person, where is an object, where was it
// before, what lies north of what, who gave what to whom. Half of them are worded as bAbI words
// them, with its names, its frequencies and its lengths; the others have other people, places,
// things and wordings, and may be longer.
#pragma once

#include "client/tasks/episode.h"
#include "client/tasks/lexicon.h"

namespace rasq::tasks {

struct StoryOptions {
  int kind = 0;       // 1 to 5 as bAbI numbers them; 0: any
  int num_facts = 0;  // more, if no question has an answer yet; 0: as many as in bAbI
  bool babi_words = false;
  // Questions all along, as in bAbI, or all at the end.
  bool ask_at_end = false;
};

Episode MakeStory(const Source& from, const StoryOptions& options);

}  // namespace rasq::tasks
