// How it is said, and asked, that a thing has a value for a relation. Keys and values, people and
// news are all of this kind.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "client/tasks/grammar.h"
#include "client/tasks/lexicon.h"

namespace rasq::tasks {

// What a wording speaks of; rules want what they name.
struct Speech {
  absl::string_view subject, relation, value;
  absl::string_view old_value;  // of a change: what it replaces; else a value that is denied
  absl::string_view other;      // of a pair: the second subject
  absl::string_view at;         // "at 14:30"
  bool person = false;          // the subject is somebody
};

// Rules of both splits' grammars, which share no template:
//   fact, person_fact, change, person_change   a statement
//   question, now, then, before, first         asks for the value; "before" names the newest
//   reverse, all, pair                         asks for the subject, several values, two subjects'
std::string Say(const Source& from, absl::string_view rule, const Speech& speech);

const Grammar& StatementGrammar(Split split);

}  // namespace rasq::tasks
