#include "client/tasks/lexicon.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <set>
#include <unordered_map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "client/tasks/key_values.h"
#include "client/tasks/lexicon_words.h"
#include "client/tasks/names.h"
#include "client/tasks/news.h"
#include "client/tasks/people.h"
#include "client/tasks/story_words.h"
#include "client/tasks/values.h"
#include "client/tasks/wording.h"

namespace rasq::tasks {
namespace {

constexpr uint64_t kHeldOutShare = 8;  // one of so many words

// What the lists of a fixed size give to each split.
struct Listed {
  std::set<absl::string_view> training, held_out;

  void Add(const Words& list) {
    for (size_t i = 0; i < list.size(); ++i) {
      const bool held = list.size() >= kHeldOutStride && i % kHeldOutStride == kHeldOutStride - 1;
      (held ? held_out : training).insert(list[i]);
    }
  }
};

const Listed& ListedWords() {
  static const Listed* const listed = [] {
    auto* made = new Listed;
    for (const Words* list : NameLists()) made->Add(*list);
    for (const Words* list : ValueLists()) made->Add(*list);
    for (const Words* list : StoryLists()) made->Add(*list);
    made->Add(KeyValueLabels());
    made->Add(PeopleTraits());
    made->Add(NewsTopics());
    return made;
  }();
  return *listed;
}

// What a text tells about a word, written in small letters.
struct Counts {
  int32_t all = 0;
  int32_t capital = 0;    // within a sentence, with a capital
  int32_t noun = 0;       // "the gauge of", "a gauge."
  int32_t adjective = 0;  // "a frugal" before another word, "is frugal."
};
using WordCounts = std::unordered_map<std::string, Counts>;

constexpr size_t kMinLetters = 3, kMaxLetters = 12;
constexpr int32_t kMinCount = 6;

bool IsOneOf(absl::string_view word, std::initializer_list<absl::string_view> list) {
  return std::find(list.begin(), list.end(), word) != list.end();
}
bool IsDeterminer(absl::string_view word) {
  return IsOneOf(word, {"the", "a", "an", "his", "her", "its", "this", "my", "your", "their"});
}
// What may follow a noun that ends its phrase.
bool EndsPhrase(absl::string_view word) {
  return word.empty() || IsOneOf(word, {"of", "is", "was", "and", "in", "to", "that", "with", "for",
                                        "at", "on", "from", "which", "or", "but", "had", "has"});
}
bool LooksLikeAdjective(absl::string_view word) {
  for (absl::string_view end : {"ful", "less", "ous", "ive", "ish", "al", "ic", "able", "ible",
                                "ary", "some", "ant", "ent"}) {
    if (absl::EndsWith(word, end) && word.size() > end.size() + 2) return true;
  }
  return false;
}

void Count(absl::string_view text, WordCounts& counts) {
  struct Word {
    absl::string_view text;    // as written
    absl::string_view before;  // what stands between it and the word before
  };
  Word word;
  absl::string_view previous;
  const auto take = [&](absl::string_view next, absl::string_view between) {
    // `word` is known with its neighbours now; what is behind punctuation is none.
    const absl::string_view after = between == " " ? next : absl::string_view();
    if (word.text.size() >= kMinLetters && word.text.size() <= kMaxLetters) {
      const std::string lower = absl::AsciiStrToLower(word.text);
      Counts& count = counts[lower];
      ++count.all;
      const bool capital = absl::ascii_isupper(word.text[0]) != 0;
      const bool others_small =
          lower.compare(1, lower.npos, word.text.data() + 1, word.text.size() - 1) == 0;
      const bool inside = word.before == " ";
      if (capital && inside && others_small) ++count.capital;
      if (!capital && others_small && inside && IsDeterminer(previous)) {
        if (EndsPhrase(after)) ++count.noun;
        if (!after.empty() && !EndsPhrase(after)) ++count.adjective;
      }
    }
    previous = word.text;
  };
  size_t at = 0, end_of_last = 0;
  while (at < text.size()) {
    while (at < text.size() && !absl::ascii_isalpha(text[at])) ++at;
    const size_t begin = at;
    while (at < text.size() && absl::ascii_isalpha(text[at])) ++at;
    if (begin == at) break;
    const absl::string_view between = text.substr(end_of_last, begin - end_of_last);
    const absl::string_view next = text.substr(begin, at - begin);
    take(next, between);
    word = {.text = next, .before = between};
    end_of_last = at;
  }
  take({}, {});
}

}  // namespace

Lexicon::Lexicon() {
  Add(WordClass::kNoun, BuiltInWords(WordClass::kNoun));
  Add(WordClass::kAdjective, BuiltInWords(WordClass::kAdjective));
  Add(WordClass::kName, BuiltInWords(WordClass::kName));
  Add(WordClass::kRelation, BuiltInWords(WordClass::kRelation));
  Add(WordClass::kVerb, BuiltInWords(WordClass::kVerb));
}

const Lexicon& Lexicon::BuiltIn() {
  static const Lexicon* const lexicon = new Lexicon;
  return *lexicon;
}

Lexicon Lexicon::Harvest(const std::vector<absl::string_view>& texts) {
  WordCounts counts;
  for (const absl::string_view text : texts) Count(text, counts);
  std::vector<std::string> nouns, adjectives, names;
  for (const auto& [word, count] : counts) {
    if (count.all < kMinCount) continue;
    if (count.capital * 10 > count.all * 8) {
      std::string name = word;
      name[0] = absl::ascii_toupper(name[0]);
      names.push_back(std::move(name));
    } else if (count.noun >= 3 && count.noun * 8 > count.all && count.noun > count.adjective &&
               !absl::EndsWith(word, "s")) {
      nouns.push_back(word);
    } else if (count.adjective >= 3 && count.adjective * 10 > count.all &&
               LooksLikeAdjective(word)) {
      adjectives.push_back(word);
    }
  }
  Lexicon lexicon;
  lexicon.Add(WordClass::kNoun, std::move(nouns));
  lexicon.Add(WordClass::kAdjective, std::move(adjectives));
  lexicon.Add(WordClass::kName, std::move(names));
  return lexicon;
}

void Lexicon::Add(WordClass word_class, std::vector<std::string> words) {
  const Listed& listed = ListedWords();
  for (std::string& word : words) {
    const bool held_out = EvenHash(word) % kHeldOutShare == 0;
    if ((held_out ? listed.training : listed.held_out).contains(word)) continue;
    WordLists& lists = held_out ? held_out_ : training_;
    lists[static_cast<size_t>(word_class)].push_back(std::move(word));
  }
  for (WordLists* lists : {&training_, &held_out_}) {
    std::vector<std::string>& list = (*lists)[static_cast<size_t>(word_class)];
    std::sort(list.begin(), list.end());
    list.erase(std::unique(list.begin(), list.end()), list.end());
  }
}

const std::vector<std::string>& Lexicon::Of(Split split, WordClass word_class) const {
  return (split == Split::kTraining ? training_ : held_out_)[static_cast<size_t>(word_class)];
}

absl::string_view Lexicon::Pick(Random& random, Split split, WordClass word_class) const {
  return random.Pick(Of(split, word_class));
}

size_t Lexicon::Size(Split split, WordClass word_class) const {
  return Of(split, word_class).size();
}

}  // namespace rasq::tasks
