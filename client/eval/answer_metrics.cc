#include "client/eval/answer_metrics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <map>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace rasq::client {
namespace {

// The answers that bAbI's tasks 1 to 10 have, as BABILong's authors list them.
using Labels = std::vector<absl::string_view>;
const Labels kPlaces = {"bathroom", "bedroom", "garden", "hallway", "kitchen", "office"};
const std::array<Labels, 10> kBabilongLabels = {{
    kPlaces,
    kPlaces,
    kPlaces,
    kPlaces,
    {"bill", "fred", "jeff", "mary", "apple", "football", "milk"},
    {"no", "yes"},
    {"none", "one", "two", "three"},
    {"apple", "football", "milk", "nothing"},
    {"no", "yes"},
    {"maybe", "no", "yes"},
}};

double HarmonicMean(size_t common, size_t got, size_t want) {
  if (got == 0 || want == 0) return got == want ? 1 : 0;
  return 2.0 * static_cast<double>(common) / static_cast<double>(got + want);
}

using Counts = std::map<std::vector<std::string>, int64_t>;
Counts CountNgrams(const std::vector<std::string>& words, size_t n) {
  Counts counts;
  for (size_t i = 0; i + n <= words.size(); ++i) {
    ++counts[std::vector<std::string>(words.begin() + i, words.begin() + i + n)];
  }
  return counts;
}

}  // namespace

std::vector<std::string> AnswerWords(absl::string_view answer) {
  std::string text;
  for (const char c : answer) {
    if (!absl::ascii_ispunct(c)) text += absl::ascii_tolower(c);
  }
  std::vector<std::string> words =
      absl::StrSplit(text, absl::ByAnyChar(" \t\n\v\f\r"), absl::SkipEmpty());
  std::erase_if(words, [](const std::string& w) { return w == "a" || w == "an" || w == "the"; });
  return words;
}

std::string NormaliseAnswer(absl::string_view answer) {
  return absl::StrJoin(AnswerWords(answer), " ");
}

bool ExactMatch(absl::string_view got, absl::string_view want) {
  return AnswerWords(got) == AnswerWords(want);
}

double TokenF1(absl::string_view got, absl::string_view want) {
  const std::vector<std::string> a = AnswerWords(got), b = AnswerWords(want);
  std::map<std::string, int64_t> left;
  for (const std::string& word : b) ++left[word];
  size_t common = 0;
  for (const std::string& word : a) common += left[word]-- > 0 ? 1 : 0;
  return HarmonicMean(common, a.size(), b.size());
}

double RougeL(absl::string_view got, absl::string_view want) {
  const std::vector<std::string> a = AnswerWords(got), b = AnswerWords(want);
  // longest[j]: of the words of `a` so far and the first j of `b`.
  std::vector<size_t> longest(b.size() + 1, 0);
  for (const std::string& word : a) {
    size_t diagonal = 0;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = longest[j];
      longest[j] = word == b[j - 1] ? diagonal + 1 : std::max(above, longest[j - 1]);
      diagonal = above;
    }
  }
  return HarmonicMean(longest.back(), a.size(), b.size());
}

double ContainedShare(absl::string_view got, const std::vector<std::string>& references) {
  const std::string text = absl::AsciiStrToLower(got);
  const auto found =
      std::count_if(references.begin(), references.end(), [&](const std::string& reference) {
        return absl::StrContains(text, absl::AsciiStrToLower(reference));
      });
  return static_cast<double>(found) / static_cast<double>(references.size());
}

std::optional<bool> BabilongMatch(int babi_task, absl::string_view question, absl::string_view got,
                                  absl::string_view want) {
  if (babi_task < 1 || babi_task > static_cast<int>(kBabilongLabels.size())) return std::nullopt;
  const std::string asked = absl::AsciiStrToLower(question);
  const std::string answer = absl::AsciiStrToLower(got.substr(0, got.find('.')));
  std::set<std::string> held;
  for (const absl::string_view label : kBabilongLabels[babi_task - 1]) {
    if (absl::StrContains(answer, label) && !absl::StrContains(asked, label)) {
      held.emplace(label);
    }
  }
  const std::set<std::string> wanted =
      absl::StrSplit(absl::AsciiStrToLower(want), absl::ByAnyChar(", "), absl::SkipEmpty());
  return held == wanted;
}

void BleuCounts::Add(const BleuCounts& other) {
  for (size_t i = 0; i < kOrders; ++i) {
    matches[i] += other.matches[i];
    totals[i] += other.totals[i];
  }
  got_words += other.got_words;
  want_words += other.want_words;
}

double BleuCounts::Bleu() const {
  double log_precision = 0;
  for (size_t i = 0; i < kOrders; ++i) {
    if (matches[i] == 0) return 0;
    log_precision +=
        std::log(static_cast<double>(matches[i]) / static_cast<double>(totals[i])) / kOrders;
  }
  const double brevity =
      std::min(0.0, 1 - static_cast<double>(want_words) / static_cast<double>(got_words));
  return std::exp(brevity + log_precision);
}

BleuCounts CountForBleu(absl::string_view got, absl::string_view want) {
  const std::vector<std::string> a = AnswerWords(got), b = AnswerWords(want);
  BleuCounts counts{.got_words = static_cast<int64_t>(a.size()),
                    .want_words = static_cast<int64_t>(b.size())};
  for (size_t n = 1; n <= BleuCounts::kOrders; ++n) {
    const Counts reference = CountNgrams(b, n);
    for (const auto& [ngram, count] : CountNgrams(a, n)) {
      const auto known = reference.find(ngram);
      counts.matches[n - 1] += known == reference.end() ? 0 : std::min(count, known->second);
      counts.totals[n - 1] += count;
    }
  }
  return counts;
}

}  // namespace rasq::client
