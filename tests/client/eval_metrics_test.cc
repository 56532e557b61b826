// Measures against values computed by hand.
#include <gtest/gtest.h>

#include <cmath>

#include "client/eval/answer_metrics.h"
#include "client/eval/memory_metrics.h"

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
  const std::pair<std::string, std::string> near = {"b c d e x g", "b c d e f g"};
  EXPECT_NEAR(Bleu({near}), std::pow(5.0 / 6 * 3 / 5 * 2 / 4 * 1 / 3, 0.25), 1e-12);
  // Another pair adds its counts: precisions 9/10, 6/8, 4/6, 2/4.
  EXPECT_NEAR(Bleu({near, {"p q r s", "p q r s"}}),
              std::pow(9.0 / 10 * 6 / 8 * 4 / 6 * 2 / 4, 0.25), 1e-12);
  // All n-grams match, but 4 words stand for 6.
  EXPECT_NEAR(Bleu({{"b c d e", "b c d e f g"}}), std::exp(1 - 6.0 / 4), 1e-12);
  // A word matches as often as it is wanted: 1/4 for n = 1, and no pair of words.
  EXPECT_EQ(Bleu({{"b b b b", "b c d e"}}), 0);
  EXPECT_EQ(Bleu({{"b", "b"}}), 0);
  EXPECT_EQ(Bleu({}), 0);
}

QuestionResult Answer(int64_t age, bool exact) {
  QuestionResult result;
  result.age_tokens = age;
  result.exact = exact;
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
  const Interval interval = WilsonInterval({.right = 8, .asked = 10});
  EXPECT_NEAR(interval.low, 0.4902, 1e-4);
  EXPECT_NEAR(interval.high, 0.9433, 1e-4);
  EXPECT_EQ(WilsonInterval({.right = 0, .asked = 5}).low, 0);
  EXPECT_NEAR(WilsonInterval({.right = 0, .asked = 5}).high, 0.4345, 1e-4);  // z^2 / (5 + z^2)
  EXPECT_EQ(WilsonInterval({}).high, 1);
}

TEST(MemoryMetricsTest, TemporalConsistencyIsOfValuesThatChanged) {
  std::vector<QuestionResult> results(6);
  results[0].kind = results[1].kind = results[2].kind = "now";
  results[0].replaced_values = 2, results[0].exact = true;
  results[1].replaced_values = 1;
  results[2].exact = true;  // never replaced
  results[3].kind = results[4].kind = "then";
  results[3].exact = true;
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

}  // namespace
}  // namespace rasq::client
