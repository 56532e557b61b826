#include "client/tasks/episode.h"

#include <algorithm>

namespace rasq::tasks {

Span WholeFact(const Episode& episode, int fact) {
  return {.fact = fact, .begin = 0, .end = episode.facts[fact].size()};
}

void LetAnswersHoldToTheEnd(Episode& episode) {
  for (Question& question : episode.questions) {
    question.after_fact = 0;
    for (const Span& span : question.evidence) {
      question.after_fact = std::max(question.after_fact, span.fact + 1);
    }
    question.until_fact = static_cast<int>(episode.facts.size());
  }
}

}  // namespace rasq::tasks
