// What stories are made of.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "client/tasks/episode.h"
#include "client/tasks/grammar.h"
#include "client/tasks/lexicon.h"
#include "client/tasks/random.h"
#include "client/tasks/wording.h"

namespace rasq::tasks {

// Patterns with {p} a person, {q} another, {o} an object, {l} a place.
struct StoryWords {
  Words moves, takes, drops, gives;
  Words where_person, where_object, where_before;
  // Of a gift of {o} by {p} to {q}, by what is asked.
  Words what_given, who_gave_to, who_gave, to_whom, who_received;
};
const StoryWords& BabiStoryWords();
const StoryWords& OwnStoryWords();
// Other wordings of the same, put together anew each time, by rules that are named as the lists of
// StoryWords are. The splits' share no template.
const Grammar& StoryGrammar(Split split);

// Relations of places: {a} is on a side of {b}. Opposites are neighbours: 0 and 1, 2 and 3.
struct SideWords {
  std::array<absl::string_view, 4> sides;  // "north of"
  Words facts;                             // with {a}, {s}, {b}
  Words what_is_there;                     // what is {s} {b}?
  Words of_what;                           // what is {a} {s}?
};
const SideWords& BabiSideWords();
const SideWords& PickOwnSideWords(Random& random, Split split);

// Who and what a story is about; places and objects are without an article.
struct Cast {
  std::vector<std::string> people, places, objects;
};
Cast BabiCast(Random& random, int kind);
Cast MakeCast(const Source& from);

// The lists of places and objects.
std::vector<const Words*> StoryLists();

}  // namespace rasq::tasks
