// What a task hands out: facts to be told in order, and questions about them. An episode is text
// alone; the trainer lays it out between other text as tokens, the evaluation sends it to a server.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace rasq::tasks {

// Held out are wordings, names and values that no training episode has, so that a measurement does
// not ask for what was learned by heart.
enum class Split { kTraining, kHeldOut };

// Whether a document or passage belongs to the split: 5 % are held out, by a hash of the id.
bool InSplit(Split split, absl::string_view id);
// The same for stories, whose ids differ in their last digits alone: InSplit's hash hardly moves
// with those, and of such a file holds out a fifth or nothing. Documents keep InSplit, so that what
// published models never saw stays what it was.
bool StoryInSplit(Split split, absl::string_view id);

// A hash of which every bit moves with every character, the same on every machine.
uint64_t EvenHash(absl::string_view text);

// A part of a fact's text.
struct Span {
  int fact;
  size_t begin, end;  // bytes
};

// What makes an answer right.
enum class Judged {
  kEqual,        // it is the answer, or one of the references
  kContainsAll,  // as far as it holds the references: RULER's measure of retrieval
  kContainsAny,  // it holds one of the references: RULER's measure of questions about passages
};

struct Question {
  std::string text;
  std::string answer;
  // What must be read to know the answer. Of a value that changed: its last statements, the newest
  // first.
  std::vector<Span> evidence;
  // May be asked when at least `after_fact` and at most `until_fact` facts are told: before, it has
  // no answer, and later it has another.
  int after_fact, until_fact;
  // What it asks of a value that changes: "now", "then" (at a time), "before" (the last change),
  // "first". Of other tasks: empty.
  // Of questions that have none, as nothing that was told answers them: "unknown".
  absl::string_view kind = {};
  // If it asks for the value of one statement, its subject and relation as stated.
  std::string subject = {}, relation = {};
  Judged judged = Judged::kEqual;
  std::vector<std::string> references = {};  // the parts of the answer, or other right answers
};

// What a fact states, as data: lets a reader work answers out without reading English.
struct Statement {
  int fact;
  std::string subject, relation, value;
};

struct Episode {
  std::vector<std::string> facts;  // in time order; may hold line breaks
  std::vector<Question> questions;
  std::vector<Statement> statements = {};  // in time order; of tasks whose facts state values
};

// The whole of a fact.
Span WholeFact(const Episode& episode, int fact);

// For episodes whose answers are those at the end: each question may be asked from its newest
// evidence on.
void LetAnswersHoldToTheEnd(Episode& episode);

}  // namespace rasq::tasks
