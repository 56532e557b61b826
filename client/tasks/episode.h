// What a task hands out: facts to be told in order, and questions about them. An episode is text
// alone; the trainer lays it out between other text as tokens, the evaluation sends it to a server.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace rasq::tasks {

// Held out are wordings, names and values that no training episode has, so that a measurement does
// not ask for what was learned by heart.
enum class Split { kTraining, kHeldOut };

// A part of a fact's text.
struct Span {
  int fact;
  size_t begin, end;  // bytes
};

struct Question {
  std::string text;
  std::string answer;
  // What must be read to know the answer. Of a value that changed: its last statements, the newest
  // first.
  std::vector<Span> evidence;
  // May be asked as soon as so many facts are told, and before the next one: later facts may
  // change the answer, unless it is all of them.
  int after_fact;
};

struct Episode {
  std::vector<std::string> facts;   // in time order; may hold line breaks
  std::vector<Question> questions;  // by ascending after_fact
};

}  // namespace rasq::tasks
