// Values hidden under keys: RULER's retrieval tasks (Hsieh et al. 2024, arXiv:2404.06654, section
// 3) in words of our own. What differs between its families is how many keys are told, how many
// values each has, and how many keys a question asks for.
#pragma once

#include <string>
#include <vector>

#include "client/tasks/episode.h"
#include "client/tasks/random.h"

namespace rasq::tasks {

enum class NeedleKind {
  kWords,    // "amber-lantern"
  kNumbers,  // seven digits
  kUuids,    // "b4f09e71-..."
};

struct NeedleOptions {
  int num_keys = 1;     // 1 to 64, told and asked for
  int num_values = 1;   // 1 to 64, of each key
  int num_queries = 1;  // keys of a question, 1 to num_keys
  NeedleKind keys = NeedleKind::kWords;
  NeedleKind values = NeedleKind::kNumbers;
  int num_others = 0;  // at most 4096
};

struct Needles {
  // A fact a value, in random order. Every key is asked for once; judged kContainsAll.
  Episode episode;
  std::vector<std::string> others;  // told of other keys in the same words, never asked for
};
Needles MakeNeedles(Random& random, Split split, const NeedleOptions& options);

// Plain sentences that say the same again and again, RULER's simplest text between needles.
std::vector<std::string> NoiseSentences();

}  // namespace rasq::tasks
