// Measures against values computed by hand.
#include <gtest/gtest.h>

#include <cmath>

#include "client/eval/answer_metrics.h"
#include "client/eval/judge.h"
#include "client/eval/memory_metrics.h"
#include "client/eval/perplexity.h"
#include "client/eval/spread.h"

namespace rasq::client {
namespace {

TEST(AnswerMetricsTest, NormalisesAsSquad) {
  EXPECT_EQ(NormaliseAnswer("  The Cat's  hat,\tan owl. "), "cats hat owl");
  EXPECT_EQ(NormaliseAnswer("A"), "");
  EXPECT_EQ(NormaliseAnswer("half-past nine"), "halfpast nine");
  EXPECT_EQ(NormaliseAnswer("theatre and anthem"), "theatre and anthem");
  EXPECT_EQ(NormaliseAnswer("$12.50"), "1250");
  EXPECT_EQ(NormaliseAnswer("Zürich!"), "zürich");
}

TEST(AnswerMetricsTest, ExactMatch) {
  EXPECT_TRUE(ExactMatch("the Hallway.", "hallway"));
  EXPECT_TRUE(ExactMatch("", "the"));
  EXPECT_FALSE(ExactMatch("the hall", "hallway"));
  EXPECT_FALSE(ExactMatch("in the hallway", "hallway"));
}

TEST(AnswerMetricsTest, TokenF1) {
  // 2 words in common of 3 and 2: precision 2/3, recall 1.
  EXPECT_DOUBLE_EQ(TokenF1("red green blue", "blue red"), 0.8);
  // A word counts as often as both have it: 1 of 3 and 1 of 2.
  EXPECT_DOUBLE_EQ(TokenF1("red red red", "red blue"), 0.4);
  EXPECT_DOUBLE_EQ(TokenF1("red", "blue"), 0);
  EXPECT_DOUBLE_EQ(TokenF1("the", ""), 1);
  EXPECT_DOUBLE_EQ(TokenF1("red", "the"), 0);
}

TEST(AnswerMetricsTest, RougeL) {
  // "police killed gunman" is the longest subsequence: 3 of 4 and 3 of 3.
  EXPECT_DOUBLE_EQ(RougeL("police then killed the gunman", "police killed gunman"), 6.0 / 7);
  // Order counts: one word of "y x" at a time.
  EXPECT_DOUBLE_EQ(RougeL("x y", "y x"), 0.5);
  EXPECT_DOUBLE_EQ(RougeL("x y x", "x z x"), 2.0 / 3);
  EXPECT_DOUBLE_EQ(RougeL("", "x"), 0);
  EXPECT_DOUBLE_EQ(RougeL("", ""), 1);
}

TEST(AnswerMetricsTest, BleuOfACorpus) {
  // Precisions 5/6, 3/5, 2/4, 1/3 and no penalty: the lengths are equal.
  const BleuCounts near = CountForBleu("b c d e x g", "b c d e f g");
  EXPECT_NEAR(near.Bleu(), std::pow(5.0 / 6 * 3 / 5 * 2 / 4 * 1 / 3, 0.25), 1e-12);
  // Another pair adds its counts: precisions 9/10, 6/8, 4/6, 2/4.
  BleuCounts both = near;
  both.Add(CountForBleu("p q r s", "p q r s"));
  EXPECT_NEAR(both.Bleu(), std::pow(9.0 / 10 * 6 / 8 * 4 / 6 * 2 / 4, 0.25), 1e-12);
  // All n-grams match, but 4 words stand for 6.
  EXPECT_NEAR(CountForBleu("b c d e", "b c d e f g").Bleu(), std::exp(1 - 6.0 / 4), 1e-12);
  // A word matches as often as it is wanted: 1/4 for n = 1, and no pair of words.
  EXPECT_EQ(CountForBleu("b b b b", "b c d e").Bleu(), 0);
  EXPECT_EQ(CountForBleu("b", "b").Bleu(), 0);
  EXPECT_EQ(BleuCounts().Bleu(), 0);
}

TEST(AnswerMetricsTest, ContainedShareIsRulers) {
  EXPECT_DOUBLE_EQ(ContainedShare("It is 123 and ABC.", {"123", "abc", "xyz", "12"}), 0.75);
  EXPECT_DOUBLE_EQ(ContainedShare("", {"a"}), 0);
  EXPECT_DOUBLE_EQ(ContainedShare("a-b", {"a b"}), 0);  // nothing is normalised but capitals
}

TEST(AnswerMetricsTest, BabilongTakesTheOnlyLabel) {
  const auto match = [](absl::string_view got) {
    return *BabilongMatch(3, "Where was the milk before the office?", got, "kitchen");
  };
  EXPECT_TRUE(match("kitchen"));
  EXPECT_TRUE(match("It was in the Kitchen. Then in the garden."));
  EXPECT_TRUE(match("the kitchen, before the office"));  // a label of the question
  EXPECT_FALSE(match("the kitchen or the garden"));
  EXPECT_FALSE(match("Well. The kitchen."));
  EXPECT_FALSE(match("the cellar"));
  EXPECT_TRUE(*BabilongMatch(8, "What is Mary carrying?", "milk and apple", "apple,milk"));
  EXPECT_FALSE(*BabilongMatch(8, "What is Mary carrying?", "milk", "apple,milk"));
  EXPECT_TRUE(*BabilongMatch(5, "Who gave the milk to Jeff?", "Fred gave the milk", "Fred"));
  EXPECT_TRUE(*BabilongMatch(7, "How many?", "Two", "two"));
  EXPECT_FALSE(BabilongMatch(11, "?", "kitchen", "kitchen").has_value());
  EXPECT_FALSE(BabilongMatch(0, "?", "kitchen", "kitchen").has_value());
}

TEST(JudgeTest, ScoresAsTheQuestionSays) {
  const auto judge = [](const tasks::Question& question, const char* task, const char* got) {
    QuestionResult result;
    Judge(question, task, got, &result);
    EXPECT_EQ(result.got, got);
    return result;
  };
  const tasks::Question plain = {.answer = "the garden"};
  EXPECT_EQ(judge(plain, "people", "Garden").score, 1);
  EXPECT_FALSE(judge(plain, "people", "Garden").babilong.has_value());
  EXPECT_EQ(judge(plain, "people", "in the garden").score, 0);
  EXPECT_EQ(judge({.answer = "garden"}, "qa1", "in the garden").babilong, 1);
  EXPECT_EQ(judge({.answer = "garden"}, "qa1", "in the office").babilong, 0);

  // Of SQuAD's several answers the best counts: 2 words of 3 and 2 give 0.8.
  const tasks::Question squad = {.answer = "1882", .references = {"1882", "early 1882"}};
  EXPECT_EQ(judge(squad, "squad", "early 1882").score, 1);
  EXPECT_DOUBLE_EQ(judge(squad, "squad", "in early 1882").f1, 0.8);
  EXPECT_EQ(judge(squad, "squad", "in early 1882").score, 0);

  const tasks::Question all = {
      .answer = "12 and 34", .judged = tasks::Judged::kContainsAll, .references = {"12", "34"}};
  EXPECT_EQ(judge(all, "ruler_multivalue", "34, 12").score, 1);
  EXPECT_FALSE(judge(all, "ruler_multivalue", "34, 12").exact);
  EXPECT_EQ(judge(all, "ruler_multivalue", "34").score, 0.5);
  EXPECT_FALSE(judge(all, "ruler_multivalue", "34").exact);  // a part is no answer
  EXPECT_DOUBLE_EQ(judge(all, "ruler_multivalue", "34").f1, 0.5);

  const tasks::Question any = {
      .answer = "x", .judged = tasks::Judged::kContainsAny, .references = {"x", "y"}};
  EXPECT_EQ(judge(any, "ruler_qa", "a y").score, 1);
  EXPECT_EQ(judge(any, "ruler_qa", "z").score, 0);
}

TEST(SpreadTest, MeansHaveStandardErrors) {
  // Deviations -1, -1, 2: a variance of 6/2, and the root of 3/3.
  const Mean mean = MeanOf({1, 1, 4});
  EXPECT_DOUBLE_EQ(mean.value, 2);
  EXPECT_DOUBLE_EQ(*mean.error, 1);
  EXPECT_EQ(MeanOf({5}).value, 5);
  EXPECT_FALSE(MeanOf({5}).error.has_value());
  EXPECT_EQ(MeanOf({}).value, 0);
}

TEST(SpreadTest, BleuIsBootstrapped) {
  // Of two pairs, samples are both right (1/4), both wrong (1/4), or one of each: 4 of 8 words, 3
  // of 6 pairs and so on, 0.5. The deviation of 1, 0.5, 0.5, 0 is the root of 1/8.
  const BleuCounts right = CountForBleu("b c d e", "b c d e"),
                   wrong = CountForBleu("p q r s", "t u v w");
  const Mean bleu = BleuOf({right, wrong});
  EXPECT_NEAR(bleu.value, 0.5, 1e-12);
  EXPECT_NEAR(*bleu.error, std::sqrt(0.125), 0.03);  // three deviations of 500 samples
  EXPECT_EQ(*BleuOf({right, right}).error, 0);
  EXPECT_FALSE(BleuOf({right}).error.has_value());
}

QuestionResult Answer(int64_t age, bool exact) {
  QuestionResult result;
  result.age_tokens = age;
  result.score = exact ? 1 : 0;
  return result;
}

TEST(MemoryMetricsTest, RetentionByAge) {
  const std::vector<RetentionPoint> curve =
      RetentionCurve({Answer(0, true), Answer(511, false), Answer(512, true), Answer(5000, true),
                      Answer(4096, false), Answer(8191, true)});
  ASSERT_EQ(curve.size(), 3u);
  EXPECT_EQ(curve[0].min_age_tokens, 0);
  EXPECT_EQ(curve[0].end_age_tokens, 512);
  EXPECT_DOUBLE_EQ(curve[0].share.value(), 0.5);
  EXPECT_EQ(curve[1].min_age_tokens, 512);
  EXPECT_EQ(curve[1].share.asked, 1);
  EXPECT_EQ(curve[2].min_age_tokens, 4096);
  EXPECT_EQ(curve[2].end_age_tokens, 8192);
  EXPECT_EQ(curve[2].share.right, 2);
  EXPECT_EQ(curve[2].share.asked, 3);
}

TEST(MemoryMetricsTest, WilsonsInterval) {
  // 8 of 10: middle (0.8 + 0.19207) / 1.38415, half width 1.96 * 0.16001 / 1.38415.
  const Interval interval = WilsonInterval(0.8, 10);
  EXPECT_NEAR(interval.low, 0.4902, 1e-4);
  EXPECT_NEAR(interval.high, 0.9433, 1e-4);
  EXPECT_EQ(WilsonInterval(0, 5).low, 0);
  EXPECT_NEAR(WilsonInterval(0, 5).high, 0.4345, 1e-4);  // z^2 / (5 + z^2)
  EXPECT_EQ(WilsonInterval(0, 0).high, 1);
}

TEST(MemoryMetricsTest, TemporalConsistencyIsOfValuesThatChanged) {
  std::vector<QuestionResult> results(6);
  results[0].kind = results[1].kind = results[2].kind = "now";
  results[0].replaced_values = 2, results[0].score = 1;
  results[1].replaced_values = 1;
  results[1].score = 0.5;  // half of an answer is not right
  results[2].score = 1;    // never replaced
  results[3].kind = results[4].kind = "then";
  results[3].score = 1;
  results[5].kind = "before";
  const TemporalConsistency consistency = MeasureTemporalConsistency(results);
  EXPECT_EQ(consistency.now.asked, 2);
  EXPECT_EQ(consistency.now.right, 1);
  EXPECT_EQ(consistency.then.asked, 2);
  EXPECT_EQ(consistency.then.right, 1);
}

// An update of stream 0 that was asked for at 0, 64 and 256 tokens.
void AddUpdate(int64_t index, std::vector<bool> right, std::vector<QuestionResult>& results) {
  const int64_t distances[] = {0, 64, 256};
  for (size_t i = 0; i < right.size(); ++i) {
    QuestionResult result = Answer(0, right[i]);
    result.index = index;
    result.distance_tokens = distances[i];
    results.push_back(result);
  }
}

TEST(MemoryMetricsTest, AdaptationSpeedIsAMedian) {
  std::vector<QuestionResult> results = {Answer(7, true)};  // was not asked along the stream
  EXPECT_EQ(MeasureAdaptationSpeed(results).updates, 0);
  EXPECT_FALSE(MeasureAdaptationSpeed(results).median_tokens.has_value());
  AddUpdate(0, {false, true, false}, results);
  AddUpdate(1, {true, true, true}, results);
  AddUpdate(2, {false, false, true}, results);
  EXPECT_EQ(MeasureAdaptationSpeed(results).median_tokens, 64);
  const std::vector<DistancePoint> curve = AdaptationCurve(results);
  ASSERT_EQ(curve.size(), 3u);
  EXPECT_EQ(curve[1].distance_tokens, 64);
  EXPECT_EQ(curve[1].share.right, 2);
  EXPECT_EQ(curve[1].share.asked, 3);
  EXPECT_EQ(RetentionCurve(results)[0].share.asked, 1);
  AddUpdate(3, {false, false}, results);
  AdaptationSpeed speed = MeasureAdaptationSpeed(results);
  EXPECT_EQ(speed.updates, 4);
  EXPECT_EQ(speed.never, 1);
  EXPECT_EQ(speed.median_tokens, 160);  // between 64 and 256
  AddUpdate(4, {false}, results);
  AddUpdate(5, {false}, results);
  EXPECT_FALSE(MeasureAdaptationSpeed(results).median_tokens.has_value());
}

StreamResult Scored(const std::string& strategy, int64_t length, int64_t tokens, double sum) {
  StreamResult stream{.key = {.strategy = strategy, .task = "perplexity", .length = length}};
  stream.scored_tokens = tokens;
  stream.logprob_sum = sum;
  return stream;
}

TEST(PerplexityTest, TheLastQuarterButAtLeast1024) {
  EXPECT_EQ(ScoredShare(500), 500);
  EXPECT_EQ(ScoredShare(1024), 1024);
  EXPECT_EQ(ScoredShare(4095), 1024);
  EXPECT_EQ(ScoredShare(4103), 1025);
  EXPECT_EQ(ScoredShare(1 << 20), 1 << 18);
}

TEST(PerplexityTest, IsOfTheMeanOverStreams) {
  StreamResult refused{.key = {.strategy = "rasq", .task = "perplexity", .length = 4096}};
  refused.refused = "too long";
  const std::vector<PerplexityCell> cells = MeasurePerplexity(
      {Scored("window", 4096, 10, -10 * std::log(8.0)), Scored("rasq", 8192, 4, -4 * std::log(3.0)),
       refused, Scored("rasq", 4096, 100, -100 * std::log(2.0)),
       Scored("rasq", 4096, 50, -50 * std::log(8.0))});
  ASSERT_EQ(cells.size(), 3u);
  EXPECT_EQ(cells[0].method, "window");
  EXPECT_NEAR(cells[0].perplexity, 8, 1e-12);
  EXPECT_FALSE(cells[0].loss.error.has_value());
  // ln 2 and ln 8 = 3 ln 2: their mean is 2 ln 2, the sample's deviation sqrt(2) ln 2, and the
  // standard error that over sqrt(2).
  EXPECT_EQ(cells[1].method, "rasq");
  EXPECT_EQ(cells[1].length, 4096);
  EXPECT_EQ(cells[1].streams, 2);
  EXPECT_EQ(cells[1].tokens, 150);
  EXPECT_NEAR(cells[1].loss.value, 2 * std::log(2.0), 1e-12);
  EXPECT_NEAR(*cells[1].loss.error, std::log(2.0), 1e-12);
  EXPECT_NEAR(cells[1].perplexity, 4, 1e-12);
  EXPECT_NEAR(cells[1].lowest, 2, 1e-12);
  EXPECT_NEAR(cells[1].highest, 8, 1e-12);
  EXPECT_EQ(cells[2].length, 8192);
  EXPECT_NEAR(cells[2].perplexity, 3, 1e-12);
}

}  // namespace
}  // namespace rasq::client
