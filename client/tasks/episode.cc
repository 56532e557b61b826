#include "client/tasks/episode.h"

#include <algorithm>
#include <cstdint>

namespace rasq::tasks {

bool InSplit(Split split, absl::string_view id) {
  uint64_t hash = 0xCBF29CE484222325u;  // FNV-1a
  for (const char c : id) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3u;
  const bool held_out = (hash >> 32) % 20 == 0;
  return held_out == (split == Split::kHeldOut);
}

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
