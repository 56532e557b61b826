// How speakers word open wishes, changes of mind and small talk.
#pragma once

#include "client/tasks/episode.h"
#include "client/tasks/grammar.h"

namespace rasq::tasks {

// Slots: {p} who speaks or is asked about, {v} the value, {d} what it replaces, {w} what the wish
// is about, {n1} any noun, {m1} any name. Rules of both splits' grammars, which share no template:
//   topic_first, topic_change, topic_question   {w} is a relation: "dress code"
//   typed_first, typed_change, typed_question   {w} is a kind of value: "drink"
//   deed_first, deed_change, deed_question      {w} is a verb, {v} a thing without an article
//   opening, reply                              around what is said; opening may be empty
const Grammar& DialogueGrammar(Split split);

}  // namespace rasq::tasks
