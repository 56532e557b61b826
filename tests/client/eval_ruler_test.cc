// RULER's tasks and SQuAD's passages as streams.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/commands/flags.h"
#include "client/eval/passages.h"
#include "client/eval/ruler.h"
#include "tests/client/fake_eval_service.h"

namespace rasq::client {
namespace {

using tasks::Split;

absl::StatusOr<int64_t> CountTokens(const std::string& text) { return CountWords(text); }

TEST(RulerTest, ParametersAreReadAndWritten) {
  const auto options = ParseRuler({"num_keys=8", "keys=uuids", "haystack=noise", "num_hops=0",
                                   "zipf_exponent=3.5", "common_count=9"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->num_keys, 8);
  EXPECT_EQ(options->keys, tasks::NeedleKind::kUuids);
  EXPECT_EQ(options->haystack, RulerOptions::Between::kNoise);
  EXPECT_EQ(options->tracking.num_hops, 0);
  EXPECT_EQ(options->frequent.exponent, 3.5);
  EXPECT_EQ(Describe(*options),
            "num_keys=8 num_values=4 num_queries=4 keys=uuids values=numbers haystack=noise "
            "num_chains=1 num_hops=0 num_common=10 common_count=9 uncommon_count=3 "
            "zipf_exponent=3.5 num_frequent=3");

  const auto error = [](const std::string& parameter) {
    const absl::Status status = ParseRuler({parameter}).status();
    EXPECT_TRUE(IsUsageError(status)) << status;
    return std::string(status.message());
  };
  EXPECT_EQ(error("num_keys=65"), "--ruler num_keys=65: from 1 to 64");
  EXPECT_EQ(error("num_hops=two"), "--ruler num_hops=two: from 0 to 64");
  EXPECT_EQ(error("zipf_exponent=nan"), "--ruler zipf_exponent=nan: from 1.1 to 8");
  EXPECT_EQ(error("keys=names"), "--ruler keys=names: not among words, numbers, uuids");
  EXPECT_EQ(error("hops=2"), "--ruler hops=2: no such parameter");
  EXPECT_EQ(error("uncommon_count=30"), "--ruler common_count=30: not above uncommon_count=30");
}

Script Make(const std::string& name, const std::vector<std::string>& parameters = {},
            int64_t length = 4096) {
  tasks::Random random(3);
  absl::StatusOr<Script> script =
      MakeRuler(name, random, Split::kHeldOut, *ParseRuler(parameters), length, CountTokens);
  EXPECT_TRUE(script.ok()) << name << script.status();
  return script.value_or(Script());
}

TEST(RulerTest, FamiliesDifferInKeysValuesAndQueries) {
  const auto shape = [](const std::string& name, const std::vector<std::string>& parameters) {
    const Script script = Make(name, parameters);
    EXPECT_EQ(script.tasks, std::vector<std::string>(script.episode.questions.size(), name));
    EXPECT_EQ(script.own_text, nullptr);
    return absl::StrCat(script.episode.facts.size(), " facts, ", script.episode.questions.size(),
                        " questions for ", script.episode.questions[0].references.size());
  };
  EXPECT_EQ(shape("ruler_single", {}), "1 facts, 1 questions for 1");
  EXPECT_EQ(shape("ruler_multikey", {"num_keys=6"}), "6 facts, 6 questions for 1");
  EXPECT_EQ(shape("ruler_multivalue", {"num_values=3"}), "3 facts, 1 questions for 3");
  EXPECT_EQ(shape("ruler_multiquery", {"num_queries=5"}), "5 facts, 1 questions for 5");
  EXPECT_EQ(shape("ruler_vt", {"num_chains=2", "num_hops=3"}), "8 facts, 2 questions for 4");
}

TEST(RulerTest, NeedlesMayStandAmongNeedlesOrNoise) {
  const Script needles = Make("ruler_single", {"haystack=needles"});
  ASSERT_NE(needles.own_text, nullptr);
  Haystack::Cursor cursor(needles.own_text.get(), 0);
  EXPECT_TRUE(absl::StartsWith(cursor.Take(1), "\nOne vault number of "));
  const Script chains = Make("ruler_vt", {"haystack=needles"});
  ASSERT_NE(chains.own_text, nullptr);
  EXPECT_FALSE(
      absl::StrContains(Haystack::Cursor(chains.own_text.get(), 0).Take(1 << 20), "vault"));
  EXPECT_NE(Make("ruler_multikey", {"haystack=noise"}).own_text, nullptr);
}

TEST(RulerTest, ListsHaveTheLengthOfTheStream) {
  for (const char* name : {"ruler_cwe", "ruler_fwe"}) {
    for (const int64_t length : {2000, 4096, 60'000}) {
      SCOPED_TRACE(absl::StrCat(name, " ", length));
      const Script script = Make(name, {}, length);
      EXPECT_TRUE(script.facts_alone);
      const auto tokens = static_cast<double>(CountWords(absl::StrJoin(script.episode.facts, " ")));
      EXPECT_NEAR(tokens, static_cast<double>(length), 0.05 * static_cast<double>(length));
      EXPECT_EQ(script.episode.questions.size(), 1u);
    }
    // "1. word" are two words: the common ones alone are 600.
    tasks::Random random(3);
    const absl::Status status =
        MakeRuler(name, random, Split::kHeldOut, RulerOptions(), /*length_tokens=*/20, CountTokens)
            .status();
    EXPECT_TRUE(absl::IsOutOfRange(status));
    EXPECT_TRUE(absl::StrContains(status.message(), "length=20 tokens: too few for the counts"))
        << status;
  }
}

// "Passage 7 says 700." with a question for the number; those that are divisible by three have
// none.
std::vector<tasks::Episode> Passages(int count) {
  std::vector<tasks::Episode> passages;
  for (int i = 0; i < count; ++i) {
    tasks::Episode episode{.facts = {absl::StrCat("Passage p", i, "p says ", 100 * i, ".")}};
    if (i % 3 != 0) {
      episode.questions.push_back({.text = absl::StrCat("What does p", i, "p say?"),
                                   .answer = absl::StrCat(100 * i),
                                   .evidence = {tasks::WholeFact(episode, 0)},
                                   .references = {absl::StrCat(100 * i), "nothing"}});
    }
    tasks::LetAnswersHoldToTheEnd(episode);
    passages.push_back(std::move(episode));
  }
  return passages;
}

TEST(PassagesTest, AreAskedAboutAmongOthers) {
  for (const auto& [name, told] : {std::pair("squad", 4u), std::pair("ruler_qa", 1u)}) {
    SCOPED_TRACE(name);
    tasks::Random random(5);
    const auto script = MakePassages(name, random, Passages(30), 4096);
    ASSERT_TRUE(script.ok()) << script.status();
    const tasks::Episode& episode = script->episode;
    ASSERT_EQ(episode.facts.size(), told);
    ASSERT_EQ(episode.questions.size(), told);
    const std::string others(Haystack::Cursor(script->own_text.get(), 0).Take(1 << 20));
    std::set<std::string> all;
    for (size_t i = 0; i < told; ++i) {
      const tasks::Question& question = episode.questions[i];
      const std::string& passage = episode.facts[question.evidence[0].fact];
      EXPECT_TRUE(absl::StrContains(passage, absl::StrCat(" ", question.answer, "."))) << passage;
      EXPECT_FALSE(absl::StrContains(others, passage));
      EXPECT_EQ(question.judged, told == 1 ? tasks::Judged::kContainsAny : tasks::Judged::kEqual);
      EXPECT_EQ(question.references.size(), 2u);
      all.insert(passage);
    }
    EXPECT_EQ(all.size(), told);
    EXPECT_EQ(std::count(others.begin(), others.end(), '\n'), static_cast<int64_t>(30 - told));
  }
}

TEST(PassagesTest, TooFewAreRefused) {
  tasks::Random random(5);
  const std::vector<tasks::Episode> one = {Passages(2)[1]};
  EXPECT_EQ(MakePassages("squad", random, one, 4096).status().message(),
            "passages=1: squad wants more than 4 of a split");
  EXPECT_TRUE(MakePassages("squad", random, Passages(2), 4096).ok());
}

}  // namespace
}  // namespace rasq::client
