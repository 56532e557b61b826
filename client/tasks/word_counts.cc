#include "client/tasks/word_counts.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/tasks/names.h"
#include "client/tasks/wording.h"

namespace rasq::tasks {
namespace {

constexpr size_t kWordsAFact = 50;
constexpr absl::string_view kNoise = "...";

// The words as facts of equal length, and one question whose answer they are.
Episode MakeEpisodeOf(const std::vector<std::string>& words, std::string question,
                      std::vector<std::string> answers) {
  Episode episode;
  for (size_t begin = 0; begin < words.size(); begin += kWordsAFact) {
    const size_t end = std::min(begin + kWordsAFact, words.size());
    episode.facts.push_back(absl::StrJoin(words.begin() + static_cast<int64_t>(begin),
                                          words.begin() + static_cast<int64_t>(end), " "));
  }
  const auto told = static_cast<int>(episode.facts.size());
  episode.questions.push_back({.text = std::move(question),
                               .answer = JoinList(answers),
                               .after_fact = told,  // all of it is needed
                               .until_fact = told,
                               .judged = Judged::kContainsAll,
                               .references = std::move(answers)});
  return episode;
}

// Riemann's zeta function: the first terms, and the integral of the others from the middle between
// two of them on.
double Zeta(double exponent) {
  constexpr int kTerms = 10'000;
  double sum = 0;
  for (int k = kTerms; k >= 1; --k) sum += std::pow(k, -exponent);
  return sum + std::pow(kTerms + 0.5, 1 - exponent) / (exponent - 1);
}

}  // namespace

int64_t MinCommonWordsEntries(const CommonWordsOptions& options) {
  return int64_t{options.num_common} * options.common_count + options.uncommon_count;
}

Episode MakeCommonWords(Random& random, Split split, const CommonWordsOptions& options,
                        int64_t num_entries) {
  std::set<std::string> used;
  const auto make = [&] { return MakeFresh(used, [&] { return MakeWord(random, split); }); };
  std::vector<std::string> common, entries;
  for (int i = 0; i < options.num_common; ++i) {
    common.push_back(make());
    entries.insert(entries.end(), options.common_count, common.back());
  }
  while (static_cast<int64_t>(entries.size()) + options.uncommon_count <= num_entries) {
    entries.insert(entries.end(), options.uncommon_count, make());
  }
  random.Shuffle(entries);
  for (size_t i = 0; i < entries.size(); ++i) entries[i] = absl::StrCat(i + 1, ". ", entries[i]);
  return MakeEpisodeOf(
      entries, absl::StrCat("Which ", options.num_common, " words come most often in the list?"),
      std::move(common));
}

Episode MakeFrequentWords(Random& random, Split split, const FrequentWordsOptions& options,
                          int64_t num_words) {
  const double scale = static_cast<double>(num_words) / Zeta(options.exponent);
  const auto count_of = [&](int64_t rank) {
    return static_cast<int64_t>(scale * std::pow(rank, -options.exponent));
  };
  const int64_t last_asked = options.num_asked + 1;
  if (count_of(last_asked) <= count_of(last_asked + 1)) return {};
  std::set<std::string> used;
  std::vector<std::string> words, asked;
  words.insert(words.end(), count_of(1), std::string(kNoise));
  for (int64_t rank = 2; count_of(rank) > 0; ++rank) {
    const std::string word = MakeFresh(used, [&] { return MakeWord(random, split); });
    words.insert(words.end(), count_of(rank), word);
    if (rank <= last_asked) asked.push_back(word);
  }
  random.Shuffle(words);
  return MakeEpisodeOf(
      words,
      absl::StrCat("Leaving out the dots, which ", options.num_asked, " words come most often?"),
      std::move(asked));
}

}  // namespace rasq::tasks
