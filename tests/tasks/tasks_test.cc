#include "client/tasks/tasks.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/tasks/names.h"
#include "client/tasks/values.h"
#include "client/tasks/wording.h"

namespace rasq::tasks {
namespace {

TEST(RandomTest, IsSplitMix64) {
  // From the algorithm's definition, seed 0.
  Random random(0);
  EXPECT_EQ(random.Next(), 0xE220A8397B1DCDAFu);
  EXPECT_EQ(random.Next(), 0x6E789E6AA1B965F4u);
}

TEST(RandomTest, LogUniformHasEveryOrder) {
  Random random(1);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(random.LogUniform(0), 0);
  std::set<int64_t> small;
  for (int i = 0; i < 300; ++i) small.insert(random.LogUniform(3));
  EXPECT_EQ(small, (std::set<int64_t>{0, 1, 2, 3}));
  constexpr int kDraws = 20'000;
  int below_ten = 0, below_thousand = 0;
  for (int i = 0; i < kDraws; ++i) {
    const int64_t drawn = random.LogUniform(1'000'000);
    EXPECT_LE(drawn, 1'000'000);
    below_ten += drawn < 10 ? 1 : 0;
    below_thousand += drawn < 1000 ? 1 : 0;
  }
  // ln 11 / ln 1,000,002 and ln 1001 / ln 1,000,002; 0.02 are seven deviations at least.
  EXPECT_NEAR(below_ten / double{kDraws}, 0.1736, 0.02);
  EXPECT_NEAR(below_thousand / double{kDraws}, 0.5001, 0.02);
}

TEST(WordingTest, FillsSlotsAndAlternatives) {
  Random random(1);
  EXPECT_EQ(Fill(random, "the {a} is <{b}>.", {{"a", "sky"}, {"b", "blue"}}), "The sky is blue.");
  EXPECT_EQ(Fill(random, "{a}!", {{"a", "oh"}}), "oh!");
  EXPECT_EQ(Fill(random, "{a}!", {{"a", "the sea"}}), "The sea!");
  EXPECT_EQ(Fill(random, "~let x", {}), "let x");
  std::set<std::string> seen;
  for (int i = 0; i < 50; ++i) seen.insert(Fill(random, "<|now >go", {}));
  EXPECT_EQ(seen, (std::set<std::string>{"Go", "Now go"}));
}

TEST(WordingTest, SplitsShareNoEntryOfAList) {
  for (const size_t size : {8, 9, 15, 16, 23, 40}) {
    std::set<size_t> training, held_out;
    Random random(size);
    for (int i = 0; i < 2000; ++i) {
      training.insert(PickIndex(random, Split::kTraining, size));
      held_out.insert(PickIndex(random, Split::kHeldOut, size));
    }
    EXPECT_EQ(held_out.size(), size / 8);
    EXPECT_EQ(training.size(), size - size / 8);  // together all of them
    for (const size_t i : held_out) EXPECT_FALSE(training.contains(i)) << i;
  }
}

TEST(WordingTest, ListsAndArticles) {
  EXPECT_EQ(JoinList({"a"}), "a");
  EXPECT_EQ(JoinList({"a", "b", "c"}), "a, b and c");
  EXPECT_EQ(WithArticle("owl"), "an owl");
  EXPECT_EQ(WithArticle("cat"), "a cat");
}

TEST(NamesTest, AreManyAndDiffer) {
  const std::set<absl::string_view> names(FirstNames().begin(), FirstNames().end());
  EXPECT_GE(names.size(), 300u);
  EXPECT_EQ(names.size(), FirstNames().size());
  const std::set<absl::string_view> cities(Cities().begin(), Cities().end());
  EXPECT_EQ(cities.size(), Cities().size());
}

TEST(ValuesTest, MadeUpOnesOfTheSplitsDiffer) {
  Random random(3);
  std::set<std::string> training;
  for (int i = 0; i < 20'000; ++i) {
    training.insert(MakeValue(random, Split::kTraining, ValueKind::kDigits));
    training.insert(MakeValue(random, Split::kTraining, ValueKind::kMadeUp));
    training.insert(MakeValue(random, Split::kTraining, ValueKind::kCity));
  }
  for (int i = 0; i < 2000; ++i) {
    for (const ValueKind kind : {ValueKind::kDigits, ValueKind::kMadeUp, ValueKind::kCity}) {
      const std::string value = MakeValue(random, Split::kHeldOut, kind);
      EXPECT_FALSE(training.contains(value)) << value;
    }
  }
}

struct Case {
  Task task;
  Split split;
};

class EveryTaskTest : public ::testing::TestWithParam<Case> {};

TEST_P(EveryTaskTest, EvidenceLiesInToldFactsAndHoldsTheAnswer) {
  const auto [task, split] = GetParam();
  for (uint64_t seed = 0; seed < 300; ++seed) {
    Random random(seed);
    const int num_facts = static_cast<int>(1 + seed % 40);
    const Episode episode = MakeEpisode(task, {random, split, Lexicon::BuiltIn()}, num_facts);
    ASSERT_FALSE(episode.questions.empty()) << seed;
    if (task != Task::kStories) {
      EXPECT_EQ(episode.facts.size(), static_cast<size_t>(num_facts));
    }
    for (const Question& question : episode.questions) {
      SCOPED_TRACE(absl::StrCat("seed ", seed, ": ", question.text, " ", question.answer));
      EXPECT_FALSE(question.text.empty());
      EXPECT_FALSE(absl::StrContains(question.text, '{'));
      ASSERT_LE(question.after_fact, question.until_fact);
      ASSERT_LE(question.until_fact, static_cast<int>(episode.facts.size()));
      ASSERT_FALSE(question.evidence.empty());
      std::string evidence;
      for (const Span& span : question.evidence) {
        ASSERT_GE(span.fact, 0);
        ASSERT_LT(span.fact, question.after_fact);
        ASSERT_LT(span.begin, span.end);
        ASSERT_LE(span.end, episode.facts[span.fact].size());
        absl::StrAppend(&evidence,
                        episode.facts[span.fact].substr(span.begin, span.end - span.begin), "\n");
      }
      if (question.kind == "unknown") continue;
      // Of an answer that lists things, each is there.
      for (absl::string_view list : absl::StrSplit(question.answer, ", ")) {
        for (absl::string_view item : absl::StrSplit(list, " and ")) {
          EXPECT_TRUE(
              absl::StrContains(absl::AsciiStrToLower(evidence), absl::AsciiStrToLower(item)))
              << evidence;
        }
      }
    }
    for (const std::string& fact : episode.facts) {
      EXPECT_EQ(fact.find_first_of("{}"), std::string::npos) << fact;
    }
  }
}

TEST_P(EveryTaskTest, TheSameSeedGivesTheSameEpisode) {
  const auto [task, split] = GetParam();
  std::set<std::string> different;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Random a(seed), b(seed);
    const Lexicon& lexicon = Lexicon::BuiltIn();
    const Episode first = MakeEpisode(task, {a, split, lexicon}, 12);
    const Episode second = MakeEpisode(task, {b, split, lexicon}, 12);
    EXPECT_EQ(first.facts, second.facts);
    ASSERT_EQ(first.questions.size(), second.questions.size());
    for (size_t i = 0; i < first.questions.size(); ++i) {
      EXPECT_EQ(first.questions[i].text, second.questions[i].text);
      EXPECT_EQ(first.questions[i].answer, second.questions[i].answer);
    }
    EXPECT_EQ(a.Next(), b.Next());
    different.insert(first.facts[0]);
  }
  EXPECT_GT(different.size(), 10u);
}

std::vector<Case> AllCases() {
  std::vector<Case> cases;
  for (const Task task : kTasks) {
    cases.push_back({task, Split::kTraining});
    cases.push_back({task, Split::kHeldOut});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Tasks, EveryTaskTest, ::testing::ValuesIn(AllCases()),
                         [](const auto& param) {
                           return absl::StrCat(
                               TaskName(param.param.task),
                               param.param.split == Split::kHeldOut ? "_held_out" : "_training");
                         });

TEST(TasksTest, NewestNewsIsTheAnswer) {
  int changed = 0;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Random random(seed);
    const Episode episode =
        MakeEpisode(Task::kNews, {random, Split::kTraining, Lexicon::BuiltIn()}, 30);
    for (const Question& question : episode.questions) {
      if (question.evidence.size() < 3) continue;  // a question about the newest of several
      ++changed;
      EXPECT_TRUE(absl::StrContains(episode.facts[question.evidence[0].fact], question.answer));
      for (size_t i = 1; i < question.evidence.size(); ++i) {
        EXPECT_LT(question.evidence[i].fact, question.evidence[i - 1].fact);
      }
    }
  }
  EXPECT_GT(changed, 200);
}

TEST(TasksTest, FramesOtherThanTheMainOneAreForTraining) {
  Random random(5);
  std::set<absl::string_view> training;
  for (int i = 0; i < 200; ++i) {
    EXPECT_EQ(PickFrame(random, Split::kHeldOut).closing, MainFrame().closing);
    training.insert(PickFrame(random, Split::kTraining).opening);
  }
  EXPECT_GT(training.size(), 4u);
}

}  // namespace
}  // namespace rasq::tasks
