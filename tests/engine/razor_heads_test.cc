#include "engine/razor_heads.h"

#include <algorithm>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/backends.h"
#include "tests/support/model_harness.h"

namespace rasq {
namespace {

using ::testing::ElementsAre;

// 3 layers of 2 kv heads with 2 query heads each.
ModelConfig Small() { return {.num_layers = 3, .num_heads = 4, .num_kv_heads = 2, .head_dim = 2}; }

TEST(ChooseRetrievalHeadsTest, TakesTheBestGroupsOfAllLayers) {
  HeadScores scores;
  //                  layer 0: head 0, head 1    layer 1                 layer 2
  scores.induction = {0.10, 0.20, 0.05, 0.05, 0.01, 0.02, 0.30, 0.0, 0.19, 0.18, 0.0, 0.29};
  scores.echo = {0.00, 0.00, 0.00, 0.90, 0.10, 0.10, 0.10, 0.1, 0.80, 0.10, 0.0, 0.00};
  BaselineOptions options{.razor_induction_share = 0.34, .razor_echo_share = 0.01};
  // 0.34 * 6 is two, by the best query head: (1, 1) and (2, 1). One by echo at least: (0, 1).
  EXPECT_THAT(ChooseRetrievalHeads(scores, Small(), options), ElementsAre(0b10, 0b10, 0b10));
  // The third is (0, 0), the fourth (2, 0).
  options.razor_induction_share = 0.5;
  EXPECT_THAT(ChooseRetrievalHeads(scores, Small(), options), ElementsAre(0b11, 0b10, 0b10));
  options = {.razor_induction_share = 0, .razor_echo_share = 0.34};
  EXPECT_THAT(ChooseRetrievalHeads(scores, Small(), options), ElementsAre(0b10, 0b10, 0b01));
  options = {.razor_induction_share = 1, .razor_echo_share = 1};
  EXPECT_THAT(ChooseRetrievalHeads(scores, Small(), options), ElementsAre(0b11, 0b11, 0b11));
}

TEST(ChooseRetrievalHeadsTest, OfEqualOnesTheFirst) {
  const HeadScores scores{.echo = std::vector<double>(12), .induction = std::vector<double>(12)};
  const BaselineOptions options{.razor_induction_share = 0.5, .razor_echo_share = 0};
  EXPECT_THAT(ChooseRetrievalHeads(scores, Small(), options), ElementsAre(0b11, 0b01, 0));
}

using ScoreHeadsTest = testing::BackendTest;
INSTANTIATE_TEST_SUITE_P(All, ScoreHeadsTest, ::testing::Values("float32", "bfloat16", "cuda"),
                         testing::BackendName);

// The scores are what the trained model's heads do: means of shares, and some head of it has learnt
// to look behind repeats, which an untrained one does by chance alone.
TEST_P(ScoreHeadsTest, FindsWhatTheShippedModelHasLearnt) {
  testing::ModelHarness harness({.checkpoint = "models/default", .backend = GetParam()});
  const int64_t bytes = harness.ops().allocated_bytes();
  const auto scores = ScoreHeads(harness.model(), harness.ops(), BaselineOptions{});
  ASSERT_TRUE(scores.ok()) << scores.status();
  ASSERT_EQ(scores->induction.size(), 48u);
  ASSERT_EQ(scores->echo.size(), 48u);
  for (const std::vector<double>& all : {scores->induction, scores->echo}) {
    for (const double score : all) {
      EXPECT_GE(score, 0);
      EXPECT_LE(score, 1.01);
    }
  }
  // The prompt has 128 tokens, four times: 512 positions. By chance a head gives a repeat a few
  // thousandths.
  EXPECT_GT(*std::max_element(scores->induction.begin(), scores->induction.end()), 0.2);
  const auto again = ScoreHeads(harness.model(), harness.ops(), BaselineOptions{});
  EXPECT_EQ(again->induction, scores->induction);
  EXPECT_EQ(harness.ops().allocated_bytes(), bytes);
  const auto heads = ChooseRetrievalHeads(*scores, harness.model().config(), BaselineOptions{});
  int count = 0;
  for (const uint64_t layer : heads) count += __builtin_popcountll(layer);
  EXPECT_GE(count, 2);  // 14 % of 16
  EXPECT_LE(count, 3);  // and one by echo
}

}  // namespace
}  // namespace rasq
