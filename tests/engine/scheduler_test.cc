#include "engine/scheduler.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <string>
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
  SchedulerState state;
  EXPECT_THAT(PlanStep(0, kLimits, flows, state), ElementsAre(256));
}

TEST(SchedulerTest, DecodingComesFirst) {
  std::vector<Flow> flows = {{.key = 1, .parts = Parts(10, 64)}};
  SchedulerState state;
  EXPECT_THAT(PlanStep(100, kLimits, flows, state), ElementsAre(128));  // 156 rows are left
  EXPECT_THAT(
      PlanStep(256, {.max_rows = 256, .max_segments = 300, .max_streams = 300, .quantum = 64},
               flows, state),
      ElementsAre(0));
}

TEST(SchedulerTest, SegmentsAreLimited) {
  std::vector<Flow> flows = {{.key = 1, .parts = Parts(100, 1)}};
  SchedulerState state;
  EXPECT_THAT(PlanStep(2, kLimits, flows, state), ElementsAre(30));
}

TEST(SchedulerTest, StreamsAreLimitedAndTakeTurns) {
  const SchedulerLimits limits{
      .max_rows = 256, .max_segments = 32, .max_streams = 3, .quantum = 64};
  std::vector<Flow> flows;
  for (int64_t key = 1; key <= 5; ++key) flows.push_back({.key = key, .parts = Parts(2, 10)});
  SchedulerState state;
  EXPECT_THAT(PlanStep(1, limits, flows, state), ElementsAre(20, 20, 0, 0, 0));
  EXPECT_THAT(PlanStep(1, limits, flows, state), ElementsAre(0, 0, 20, 20, 0));
  EXPECT_THAT(PlanStep(3, limits, flows, state), ElementsAre(0, 0, 0, 0, 0));
  EXPECT_THAT(PlanStep(0, limits, flows, state), ElementsAre(20, 20, 0, 0, 20));
}

TEST(SchedulerTest, NothingToDo) {
  std::vector<Flow> flows;
  SchedulerState state;
  EXPECT_THAT(PlanStep(3, kLimits, flows, state), ElementsAre());
}

TEST(SchedulerTest, AHigherPriorityIsServedFirst) {
  std::vector<Flow> flows = {{.key = 1, .priority = 0, .parts = Parts(10, 64)},
                             {.key = 2, .priority = 5, .parts = Parts(3, 64)}};
  SchedulerState state;
  EXPECT_THAT(PlanStep(0, kLimits, flows, state), ElementsAre(64, 192));
}

// Over many steps flows get equal numbers of tokens, however they are cut into segments, whether or
// not a step's end falls into somebody's turn.
TEST(SchedulerTest, FlowsShareEqually) {
  const std::vector<int32_t> sizes = {64, 17, 1, 40};
  std::vector<int64_t> sent(sizes.size()), deficits(sizes.size());
  SchedulerState state;
  for (int step = 0; step < 1000; ++step) {
    std::vector<Flow> flows;
    for (size_t i = 0; i < sizes.size(); ++i) {
      flows.push_back(
          {.key = static_cast<int64_t>(i), .parts = Parts(300, sizes[i]), .deficit = deficits[i]});
    }
    const std::vector<int32_t> plan =
        PlanStep(0, {.max_rows = 230, .max_segments = 1000, .max_streams = 300, .quantum = 64},
                 flows, state);
    int64_t rows = 0;
    for (size_t i = 0; i < sizes.size(); ++i) {
      sent[i] += plan[i];
      rows += plan[i];
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

// Tenants whose flows always have more to send, over many steps: the tokens of each, by name.
struct Load {
  std::string tenant;
  int32_t flows;
  int32_t part;  // tokens of its segments; 0: any number from 1 to 64
  int32_t weight = 1;
  int32_t priorities = 1;
};

std::map<std::string, int64_t> SendOf(const std::vector<Load>& loads, SchedulerLimits limits,
                                      int steps) {
  std::mt19937_64 random(1);
  std::vector<Flow> flows;
  const auto part_of = [&](const Load& load) {
    return load.part > 0 ? load.part : static_cast<int32_t>(1 + random() % 64);
  };
  std::vector<const Load*> load_of;
  for (const Load& load : loads) {
    for (int32_t i = 0; i < load.flows; ++i) {
      flows.push_back({.key = static_cast<int64_t>(flows.size()),
                       .tenant = load.tenant,
                       .priority = i % load.priorities});
      for (int j = 0; j < 300; ++j) flows.back().parts.push_back(part_of(load));
      load_of.push_back(&load);
    }
  }
  SchedulerState state;
  std::map<std::string, int64_t> sent;
  for (int step = 0; step < steps; ++step) {
    for (const Load& load : loads) state.tenants[load.tenant].weight = load.weight;
    const auto decoding = static_cast<int32_t>(random() % 5);
    if (limits.flow_rows >= 0) limits.flow_rows = static_cast<int32_t>(random() % 40);
    const std::vector<int32_t> plan = PlanStep(decoding, limits, flows, state);
    int64_t rows = decoding;
    for (size_t i = 0; i < flows.size(); ++i) {
      sent[flows[i].tenant] += plan[i];
      rows += plan[i];
      int32_t left = plan[i];
      std::vector<int32_t>& parts = flows[i].parts;
      while (left > 0) {  // a piece leaves the rest of its part
        const int32_t taken = std::min(left, parts.front());
        left -= taken;
        if (taken < parts.front()) {
          parts.front() -= taken;
        } else {
          parts.erase(parts.begin());
          parts.push_back(part_of(*load_of[i]));
        }
      }
    }
    EXPECT_LE(rows, limits.max_rows);
  }
  return sent;
}

TEST(SchedulerTest, TenantsShareEquallyWhateverOneDoes) {
  for (const int32_t flow_rows : {-1, 0}) {  // without a pace, and with one that varies
    const SchedulerLimits limits{.max_rows = 256,
                                 .max_segments = 40,
                                 .max_streams = 30,
                                 .quantum = 64,
                                 .flow_rows = flow_rows,
                                 .least_piece = 9};
    for (const Load& flood : {Load{"b", 1, 64}, Load{"b", 200, 64}, Load{"b", 200, 1},
                              Load{"b", 1, 1}, Load{"b", 200, 0, 1, 4}, Load{"b", 3, 0}}) {
      const auto sent = SendOf({{"a", 1, 64}, flood}, limits, 2000);
      EXPECT_NEAR(static_cast<double>(sent.at("b")) / static_cast<double>(sent.at("a")), 1, 0.02)
          << flood.flows << " flows of parts of " << flood.part << ", flow_rows=" << flow_rows;
    }
  }
}

TEST(SchedulerTest, TenantsShareByWeight) {
  const SchedulerLimits limits{
      .max_rows = 256, .max_segments = 40, .max_streams = 30, .quantum = 64};
  auto sent = SendOf({{"a", 50, 17, 1}, {"b", 1, 64, 3}}, limits, 2000);
  EXPECT_NEAR(static_cast<double>(sent.at("b")) / static_cast<double>(sent.at("a")), 3, 0.06);
  sent = SendOf({{"a", 1, 64, 1000}, {"b", 9, 0, 10}, {"c", 9, 64, 1}}, limits, 20000);
  EXPECT_NEAR(static_cast<double>(sent.at("a")) / static_cast<double>(sent.at("b")), 100, 2);
  EXPECT_NEAR(static_cast<double>(sent.at("b")) / static_cast<double>(sent.at("c")), 10, 0.5);
}

// Priority counts within a tenant, not against another.
TEST(SchedulerTest, PriorityIsATenantsOwnMatter) {
  std::vector<Flow> flows = {
      {.key = 1, .tenant = "a", .priority = 9, .parts = Parts(10, 64)},
      {.key = 2, .tenant = "b", .priority = 0, .parts = Parts(10, 64)},
      {.key = 3, .tenant = "b", .priority = 1, .parts = Parts(1, 64)},
  };
  SchedulerState state;
  EXPECT_THAT(PlanStep(0, kLimits, flows, state), ElementsAre(128, 64, 64));
}

// One flow of higher priority in every step does not keep those below from taking turns.
TEST(SchedulerTest, TurnsOfALowPriorityGoOn) {
  SchedulerState state;
  std::vector<Flow> flows = {{.key = 1, .priority = 1, .parts = {64}},
                             {.key = 2, .parts = Parts(9, 64)},
                             {.key = 3, .parts = Parts(9, 64)},
                             {.key = 4, .parts = Parts(9, 64)}};
  std::vector<int32_t> sent(flows.size());
  for (int step = 0; step < 30; ++step) {
    const std::vector<int32_t> plan = PlanStep(
        0, {.max_rows = 128, .max_segments = 9, .max_streams = 9, .quantum = 64}, flows, state);
    for (size_t i = 0; i < flows.size(); ++i) sent[i] += plan[i];
  }
  EXPECT_THAT(sent, ElementsAre(30 * 64, 10 * 64, 10 * 64, 10 * 64));
}

TEST(SchedulerTest, AnAllowanceEndsATenantsTurn) {
  std::vector<Flow> flows = {{.key = 1, .tenant = "a", .parts = Parts(10, 64)},
                             {.key = 2, .tenant = "b", .parts = Parts(10, 64)}};
  SchedulerState state;
  state.tenants["a"].tokens = 65;
  state.tenants["b"].tokens = 0;
  EXPECT_THAT(PlanStep(0, kLimits, flows, state), ElementsAre(128, 0));
  EXPECT_EQ(flows[1].deficit, 0);
}

TEST(SchedulerTest, APaceCutsPartsEvenly) {
  SchedulerLimits limits = kLimits;
  limits.least_piece = 9;
  const auto pieces = [&](int32_t part, int32_t rows) {
    limits.flow_rows = rows;
    std::vector<int32_t> sent;
    int64_t deficit = 0;
    SchedulerState state;
    while (part > 0) {
      std::vector<Flow> flows = {{.key = 1, .parts = {part}, .deficit = deficit}};
      const int32_t tokens = PlanStep(1, limits, flows, state)[0];
      EXPECT_GT(tokens, 0);
      if (tokens == 0) return sent;
      sent.push_back(tokens);
      deficit = flows[0].deficit;
      part -= tokens;
    }
    return sent;
  };
  EXPECT_THAT(pieces(64, 64), ElementsAre(64));
  EXPECT_THAT(pieces(64, 63), ElementsAre(32, 32));
  EXPECT_THAT(pieces(64, 12), ElementsAre(11, 11, 11, 11, 10, 10));
  EXPECT_THAT(pieces(64, 9), ElementsAre(10, 9, 9, 9, 9, 9, 9));
  EXPECT_THAT(pieces(17, 9), ElementsAre(17));  // no two pieces of nine
  EXPECT_THAT(pieces(5, 9), ElementsAre(5));
}

// A piece may be more than the pace gives only if it stands alone.
TEST(SchedulerTest, APaceBoundsAStep) {
  SchedulerLimits limits = kLimits;
  limits.flow_rows = 20;
  limits.least_piece = 9;
  std::vector<Flow> flows = {{.key = 1, .parts = {14}}, {.key = 2, .parts = Parts(9, 64)}};
  SchedulerState state;
  EXPECT_THAT(PlanStep(1, limits, flows, state), ElementsAre(14, 0));
  flows[0].parts.clear();
  EXPECT_THAT(PlanStep(1, limits, flows, state), ElementsAre(0, 16));
  limits.flow_rows = 0;
  EXPECT_THAT(PlanStep(1, limits, flows, state), ElementsAre(0, 0));
}

TEST(SchedulerTest, AFlowThatIsDoneKeepsNoCredit) {
  std::vector<Flow> flows = {{.key = 1, .parts = {10}}, {.key = 2, .parts = Parts(10, 64)}};
  SchedulerState state;
  PlanStep(0, kLimits, flows, state);
  EXPECT_EQ(flows[0].deficit, 0);
}

}  // namespace
}  // namespace rasq
