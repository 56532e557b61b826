#include "client/tasks/episode.h"

#include <algorithm>
#include <cstdint>

#include "client/tasks/random.h"

namespace rasq::tasks {
namespace {

constexpr uint64_t kHeldOutShare = 20;  // one of so many documents and stories

uint64_t Fnv1a(absl::string_view text) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3u;
  return hash;
}

}  // namespace

bool InSplit(Split split, absl::string_view id) {
  const bool held_out = (Fnv1a(id) >> 32) % kHeldOutShare == 0;
  return held_out == (split == Split::kHeldOut);
}

bool StoryInSplit(Split split, absl::string_view id) {
  const bool held_out = EvenHash(id) % kHeldOutShare == 0;
  return held_out == (split == Split::kHeldOut);
}

uint64_t EvenHash(absl::string_view text) { return Random(Fnv1a(text)).Next(); }

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
