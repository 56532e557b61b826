// Words of open classes. A training run harvests them from its corpora, so that no noun, name or
// relation comes often enough to be learned by heart; without a corpus there are this folder's
// lists.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "client/tasks/episode.h"
#include "client/tasks/random.h"

namespace rasq::tasks {

enum class WordClass {
  kNoun,       // "gauge", singular as a rule
  kAdjective,  // "frugal"
  kName,       // "Pemberton": of whomever or whatever
  kRelation,   // "tare weight", "sponsor": fits "the ... of"; built in
  kVerb,       // "polish": with a regular past tense in "ed"; built in
};
inline constexpr size_t kNumWordClasses = 5;

class Lexicon {
 public:
  // The words of this folder's lists. Lives as long as the program.
  static const Lexicon& BuiltIn();
  // The same, and words of the texts that stand where nouns, adjectives and names stand, by their
  // shape, the words around them and how often they come. The result does not depend on the texts'
  // order.
  static Lexicon Harvest(const std::vector<absl::string_view>& texts);

  // Held out is an eighth of all, by EvenHash, and what the lists of names, values and relations
  // hold out. Valid as long as the lexicon.
  absl::string_view Pick(Random& random, Split split, WordClass word_class) const;
  size_t Size(Split split, WordClass word_class) const;

 private:
  using WordLists = std::array<std::vector<std::string>, kNumWordClasses>;

  Lexicon();
  void Add(WordClass word_class, std::vector<std::string> words);
  const std::vector<std::string>& Of(Split split, WordClass word_class) const;

  WordLists training_, held_out_;  // sorted, each word once
};

// What generators draw from.
struct Source {
  Random& random;
  Split split;
  const Lexicon& lexicon;

  bool training() const { return split == Split::kTraining; }
  absl::string_view Word(WordClass word_class) const {
    return lexicon.Pick(random, split, word_class);
  }
};

}  // namespace rasq::tasks
