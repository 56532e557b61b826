// RULER's tasks: each answer is found again by a scan of what was told.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/tasks/needles.h"
#include "client/tasks/variable_tracking.h"
#include "client/tasks/word_counts.h"

namespace rasq::tasks {
namespace {

using Texts = std::vector<std::string>;

// What "One vault number of KEY is VALUE." says, value by value.
std::multimap<std::string, std::string> ScanNeedles(const Texts& sentences) {
  std::multimap<std::string, std::string> values;
  for (const std::string& sentence : sentences) {
    const Texts words = absl::StrSplit(sentence, ' ');
    EXPECT_EQ(words.size(), 7u) << sentence;
    values.emplace(words[4], absl::StripSuffix(words[6], "."));
  }
  return values;
}

struct NeedleCase {
  const char* name;
  NeedleOptions options;
  size_t questions, references;  // of a question
};
void PrintTo(const NeedleCase& c, std::ostream* out) { *out << c.name; }

class NeedlesTest : public ::testing::TestWithParam<NeedleCase> {};

TEST_P(NeedlesTest, EveryValueIsToldAndAskedFor) {
  const NeedleCase& c = GetParam();
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Random random(seed);
    const Needles needles = MakeNeedles(random, Split::kHeldOut, c.options);
    const Episode& episode = needles.episode;
    const auto values = ScanNeedles(episode.facts);
    EXPECT_EQ(values.size(), static_cast<size_t>(c.options.num_keys * c.options.num_values));
    ASSERT_EQ(episode.questions.size(), c.questions);
    std::set<std::string> asked;
    for (const Question& question : episode.questions) {
      EXPECT_EQ(question.judged, Judged::kContainsAll);
      std::set<std::string> want;
      for (const auto& [key, value] : values) {
        if (!absl::StrContains(question.text, key)) continue;
        want.insert(value);
        asked.insert(key);
        EXPECT_TRUE(absl::StrContains(question.answer, value));
      }
      EXPECT_EQ(std::set<std::string>(question.references.begin(), question.references.end()),
                want);
      EXPECT_EQ(question.references.size(), c.references);
      ASSERT_EQ(question.evidence.size(), c.references);
      for (size_t i = 0; i < c.references; ++i) {
        EXPECT_TRUE(
            absl::StrContains(episode.facts[question.evidence[i].fact], question.references[i]));
      }
      EXPECT_EQ(question.until_fact, static_cast<int>(episode.facts.size()));
    }
    EXPECT_EQ(asked.size(), static_cast<size_t>(c.options.num_keys));
    for (const auto& [key, value] : ScanNeedles(needles.others)) {
      EXPECT_FALSE(values.contains(key)) << key;
    }
    EXPECT_EQ(needles.others.size(), static_cast<size_t>(c.options.num_others));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Families, NeedlesTest,
    ::testing::Values(NeedleCase{"single", {}, 1, 1}, NeedleCase{"multikey", {.num_keys = 4}, 4, 1},
                      NeedleCase{
                          "multivalue", {.num_values = 4, .values = NeedleKind::kWords}, 1, 4},
                      NeedleCase{"multiquery", {.num_keys = 5, .num_queries = 5}, 1, 5},
                      NeedleCase{"among_needles",
                                 {.num_keys = 3,
                                  .keys = NeedleKind::kUuids,
                                  .values = NeedleKind::kUuids,
                                  .num_others = 200},
                                 3,
                                 1},
                      NeedleCase{"among_words", {.num_keys = 8, .num_others = 4000}, 8, 1}),
    [](const auto& param) { return std::string(param.param.name); });

TEST(NeedlesTest, TheLastQuestionAsksForTheRest) {
  Random random(1);
  const Episode episode =
      MakeNeedles(random, Split::kTraining, {.num_keys = 5, .num_queries = 2}).episode;
  ASSERT_EQ(episode.questions.size(), 3u);
  EXPECT_EQ(episode.questions[2].references.size(), 1u);
}

TEST(NeedlesTest, ValuesHaveTheirForm) {
  Random random(2);
  const auto value = [&](NeedleKind kind) {
    return MakeNeedles(random, Split::kTraining, {.values = kind})
        .episode.questions[0]
        .references[0];
  };
  EXPECT_EQ(value(NeedleKind::kNumbers).find_first_not_of("0123456789"), std::string::npos);
  EXPECT_EQ(value(NeedleKind::kNumbers).size(), 7u);
  const Texts uuid = absl::StrSplit(value(NeedleKind::kUuids), '-');
  ASSERT_EQ(uuid.size(), 5u);
  EXPECT_EQ(uuid[0].size() * 100 + uuid[4].size(), 812u);
  EXPECT_EQ(static_cast<Texts>(absl::StrSplit(value(NeedleKind::kWords), '-')).size(), 2u);
}

// Runs the assignments, and gives the names by their value.
std::map<std::string, std::set<std::string>> RunAssignments(const Texts& facts) {
  std::map<std::string, std::string> value_of;
  for (const std::string& fact : facts) {
    const Texts words = absl::StrSplit(fact, ' ');  // VAR NAME = VALUE, VAR NAME = VAR OTHER
    EXPECT_FALSE(value_of.contains(words[1])) << fact;
    value_of[words[1]] = words.size() == 4 ? words[3] : value_of.at(words[4]);
  }
  std::map<std::string, std::set<std::string>> names;
  for (const auto& [name, value] : value_of) names[value].insert(name);
  return names;
}

TEST(VariableTrackingTest, AnswersFollowFromTheAssignments) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Random random(seed);
    const VariableTrackingOptions options = {.num_chains = static_cast<int>(1 + seed % 4),
                                             .num_hops = static_cast<int>(seed % 6)};
    const Episode episode = MakeVariableTracking(random, Split::kHeldOut, options);
    const auto names = RunAssignments(episode.facts);
    EXPECT_EQ(names.size(), static_cast<size_t>(options.num_chains));
    ASSERT_EQ(episode.questions.size(), names.size());
    for (const Question& question : episode.questions) {
      const std::string value =
          question.text.substr(question.text.size() - 6, 5);  // "... value 12345?"
      EXPECT_EQ(std::set<std::string>(question.references.begin(), question.references.end()),
                names.at(value));
      EXPECT_EQ(question.references.size(), static_cast<size_t>(options.num_hops + 1));
      EXPECT_EQ(question.evidence.size(), question.references.size());
      EXPECT_EQ(question.judged, Judged::kContainsAll);
    }
  }
}

// The words of all facts, without the numbers of a list, and how often each comes.
std::map<std::string, int64_t> CountWords(const Episode& episode) {
  std::map<std::string, int64_t> counts;
  for (const std::string& word :
       static_cast<Texts>(absl::StrSplit(absl::StrJoin(episode.facts, " "), ' '))) {
    if (!absl::ascii_isdigit(word.front())) ++counts[word];
  }
  return counts;
}

TEST(CommonWordsTest, TheCountsTellTheAnswer) {
  const CommonWordsOptions options = {.num_common = 3, .common_count = 7, .uncommon_count = 2};
  EXPECT_EQ(MinCommonWordsEntries(options), 23);
  Random random(4);
  const Episode episode = MakeCommonWords(random, Split::kHeldOut, options, 200);
  const std::map<std::string, int64_t> counts = CountWords(episode);
  std::set<std::string> common;
  int64_t total = 0;
  for (const auto& [word, count] : counts) {
    total += count;
    if (count == 7) {
      common.insert(word);
    } else {
      EXPECT_EQ(count, 2) << word;
    }
  }
  EXPECT_EQ(total, 199);  // 21, and as many pairs as fit
  ASSERT_EQ(episode.questions.size(), 1u);
  const Question& question = episode.questions[0];
  EXPECT_EQ(std::set<std::string>(question.references.begin(), question.references.end()), common);
  EXPECT_EQ(common.size(), 3u);
  EXPECT_EQ(question.after_fact, static_cast<int>(episode.facts.size()));
  EXPECT_TRUE(absl::StartsWith(episode.facts[0], "1. "));
  EXPECT_TRUE(absl::StrContains(episode.facts.back(), "199. "));
}

TEST(FrequentWordsTest, CountsFollowZipfsLaw) {
  Random random(5);
  const Episode episode = MakeFrequentWords(random, Split::kHeldOut, {}, 1000);
  std::map<std::string, int64_t> counts = CountWords(episode);
  // zeta(2) = pi^2 / 6: 607.9 of 1000 words are of rank 1, a quarter of these of rank 2, a ninth of
  // rank 3, and so on.
  EXPECT_EQ(counts.at("..."), 607);
  counts.erase("...");
  std::vector<std::pair<int64_t, std::string>> ranks;
  for (const auto& [word, count] : counts) ranks.emplace_back(-count, word);
  std::sort(ranks.begin(), ranks.end());
  EXPECT_EQ(ranks[0].first, -151);
  EXPECT_EQ(ranks[1].first, -67);
  EXPECT_EQ(ranks[2].first, -37);
  EXPECT_EQ(ranks[3].first, -24);
  ASSERT_EQ(episode.questions.size(), 1u);
  EXPECT_EQ(episode.questions[0].references,
            (Texts{ranks[0].second, ranks[1].second, ranks[2].second}));
  // An exponent of 3.5: zeta is 1.1267, rank 2 has 887.5 / 2^3.5.
  const Episode steep = MakeFrequentWords(random, Split::kHeldOut, {.exponent = 3.5}, 1000);
  EXPECT_EQ(CountWords(steep).at(steep.questions[0].references[0]), 78);
}

TEST(FrequentWordsTest, TooFewWordsAskNothing) {
  Random random(6);
  // Ranks 4 and 5 have 37.9 and 24.3 of a thousand: of 30 words, 1 and 0; of 20, none.
  EXPECT_TRUE(MakeFrequentWords(random, Split::kTraining, {}, 20).questions.empty());
  EXPECT_EQ(MakeFrequentWords(random, Split::kTraining, {}, 30).questions.size(), 1u);
}

}  // namespace
}  // namespace rasq::tasks
