#include "engine/scheduler.h"

#include <numeric>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace rasq {
namespace {

using ::testing::ElementsAre;

constexpr SchedulerLimits kLimits{
    .max_rows = 256, .max_segments = 32, .max_streams = 300, .quantum = 64};

std::vector<int32_t> Parts(int count, int32_t tokens) {
  return std::vector<int32_t>(count, tokens);
}

TEST(SchedulerTest, OneFlowGetsTheWholeStep) {
  std::vector<Flow> flows = {{.key = 1, .parts = Parts(10, 64)}};
  SchedulerTurn turn;
  EXPECT_THAT(PlanStep(0, kLimits, flows, turn), ElementsAre(4));
}

TEST(SchedulerTest, DecodingComesFirst) {
  std::vector<Flow> flows = {{.key = 1, .parts = Parts(10, 64)}};
  SchedulerTurn turn;
  EXPECT_THAT(PlanStep(100, kLimits, flows, turn), ElementsAre(2));  // 156 rows are left
  EXPECT_THAT(
      PlanStep(256, {.max_rows = 256, .max_segments = 300, .max_streams = 300, .quantum = 64},
               flows, turn),
      ElementsAre(0));
}

TEST(SchedulerTest, SegmentsAreLimited) {
  std::vector<Flow> flows = {{.key = 1, .parts = Parts(100, 1)}};
  SchedulerTurn turn;
  EXPECT_THAT(PlanStep(2, kLimits, flows, turn), ElementsAre(30));
}

TEST(SchedulerTest, StreamsAreLimitedAndTakeTurns) {
  const SchedulerLimits limits{
      .max_rows = 256, .max_segments = 32, .max_streams = 3, .quantum = 64};
  std::vector<Flow> flows;
  for (int64_t key = 1; key <= 5; ++key) flows.push_back({.key = key, .parts = Parts(2, 10)});
  SchedulerTurn turn;
  EXPECT_THAT(PlanStep(1, limits, flows, turn), ElementsAre(2, 2, 0, 0, 0));
  EXPECT_THAT(PlanStep(1, limits, flows, turn), ElementsAre(0, 0, 2, 2, 0));
  EXPECT_THAT(PlanStep(3, limits, flows, turn), ElementsAre(0, 0, 0, 0, 0));
  EXPECT_THAT(PlanStep(0, limits, flows, turn), ElementsAre(2, 2, 0, 0, 2));
}

TEST(SchedulerTest, NothingToDo) {
  std::vector<Flow> flows;
  SchedulerTurn turn;
  EXPECT_THAT(PlanStep(3, kLimits, flows, turn), ElementsAre());
}

TEST(SchedulerTest, AHigherPriorityIsServedFirst) {
  std::vector<Flow> flows = {{.key = 1, .priority = 0, .parts = Parts(10, 64)},
                             {.key = 2, .priority = 5, .parts = Parts(3, 64)}};
  SchedulerTurn turn;
  EXPECT_THAT(PlanStep(0, kLimits, flows, turn), ElementsAre(1, 3));
}

// Over many steps flows get equal numbers of tokens, however they are cut into segments, whether or
// not a step's end falls into somebody's turn.
TEST(SchedulerTest, FlowsShareEqually) {
  const std::vector<int32_t> sizes = {64, 17, 1, 40};
  std::vector<int64_t> sent(sizes.size()), deficits(sizes.size());
  SchedulerTurn turn;
  for (int step = 0; step < 1000; ++step) {
    std::vector<Flow> flows;
    for (size_t i = 0; i < sizes.size(); ++i) {
      flows.push_back(
          {.key = static_cast<int64_t>(i), .parts = Parts(300, sizes[i]), .deficit = deficits[i]});
    }
    const std::vector<int32_t> plan = PlanStep(
        0, {.max_rows = 230, .max_segments = 1000, .max_streams = 300, .quantum = 64}, flows, turn);
    int64_t rows = 0;
    for (size_t i = 0; i < sizes.size(); ++i) {
      sent[i] += int64_t{plan[i]} * sizes[i];
      rows += int64_t{plan[i]} * sizes[i];
      deficits[i] = flows[i].deficit;
    }
    ASSERT_LE(rows, 230);
    ASSERT_GT(rows, 230 - 64);  // no room is left that a segment would fit in
  }
  const double mean = std::accumulate(sent.begin(), sent.end(), 0.0) / sent.size();
  for (size_t i = 0; i < sizes.size(); ++i) {
    EXPECT_NEAR(sent[i], mean, 2 * 64) << "flow of " << sizes[i] << "-token segments";
  }
}

TEST(SchedulerTest, AFlowThatIsDoneKeepsNoCredit) {
  std::vector<Flow> flows = {{.key = 1, .parts = {10}}, {.key = 2, .parts = Parts(10, 64)}};
  SchedulerTurn turn;
  PlanStep(0, kLimits, flows, turn);
  EXPECT_EQ(flows[0].deficit, 0);
}

}  // namespace
}  // namespace rasq
