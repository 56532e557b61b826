#include "engine/step_pace.h"

#include <algorithm>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace rasq {
namespace {

constexpr int32_t kLeast = 9;

// A machine on which steps take what they take.
struct Machine {
  double decode = 0.004;  // one of decoding alone
  double begin = 0;       // what appends add, however few
  double row = 0.0002;    // what each of their rows adds
  double noise = 0;       // of a step's time
  std::mt19937_64 random{1};

  double Seconds(int32_t append_rows) {
    const double plain = decode + (append_rows > 0 ? begin + row * append_rows : 0);
    return plain * (1 + noise * static_cast<double>(random() % 1000) / 1000);
  }
};

struct Steps {
  std::vector<double> seconds;
  std::vector<int32_t> rows;
  double append_seconds = 0;  // more than decoding alone would have taken

  double total() const {
    double sum = 0;
    for (const double s : seconds) sum += s;
    return sum;
  }
};

Steps Saturate(StepPace& pace, Machine& machine, int32_t decoding, int steps) {
  Steps run;
  for (int i = 0; i < steps; ++i) {
    const int32_t rows = pace.AppendRows(decoding);
    const double seconds = machine.Seconds(rows);
    pace.OnStep(decoding, rows, /*waiting=*/true, seconds);
    run.rows.push_back(rows);
    run.seconds.push_back(seconds);
    run.append_seconds += seconds - machine.decode;
  }
  return run;
}

TEST(StepPaceTest, WithoutABoundThereIsNone) { EXPECT_EQ(StepPace(0, kLeast).AppendRows(3), -1); }

TEST(StepPaceTest, DecodingAloneIsLearnedFirst) {
  StepPace pace(1.7, kLeast);
  for (size_t i = 0; i < StepPace::kFirstProbes; ++i) {
    EXPECT_EQ(pace.AppendRows(1), 0);
    pace.OnStep(1, 0, true, 0.004);
  }
  EXPECT_EQ(pace.AppendRows(1), kLeast);  // what a row adds comes next
  EXPECT_EQ(pace.AppendRows(2), kLeast);  // more of them do not take less
  pace.OnStep(1, kLeast, true, 0.004 + kLeast * 0.00021);
  EXPECT_EQ(pace.AppendRows(1), 13);  // 0.7 * 4 ms / 0.21 ms
}

TEST(StepPaceTest, StepsStayWithinTheBound) {
  for (const double begin : {0.0, 0.0008}) {
    StepPace pace(1.7, kLeast);
    Machine machine{.begin = begin};
    const Steps run = Saturate(pace, machine, 4, 1000);
    EXPECT_LE(*std::max_element(run.seconds.begin(), run.seconds.end()), 1.7 * 0.004 + 1e-9)
        << "begin=" << begin;
    EXPECT_GT(run.append_seconds, StepPace::kShare * run.total()) << "begin=" << begin;
  }
}

TEST(StepPaceTest, NoiseDoesNotBreakIt) {
  StepPace pace(1.7, kLeast);
  Machine machine{.noise = 0.3};
  Steps run = Saturate(pace, machine, 4, 5000);
  std::sort(run.seconds.begin(), run.seconds.end());
  EXPECT_LE(run.seconds[4950], 2 * 0.004 * 1.3);  // p99 of decoding alone is 1.3 times its least
  EXPECT_GT(run.append_seconds, StepPace::kShare * run.total());
}

// Not even the least fits: then those steps are as rare as the appends' share allows, not rarer.
TEST(StepPaceTest, AppendsHaveTheirShareInAnyCase) {
  StepPace pace(1.7, kLeast);
  Machine machine{.row = 0.002};  // the least takes 18 ms
  const Steps run = Saturate(pace, machine, 1, 4000);
  for (const int32_t rows : run.rows) EXPECT_TRUE(rows == 0 || rows == kLeast) << rows;
  EXPECT_NEAR(run.append_seconds / run.total(), StepPace::kShare, 0.02);
}

TEST(StepPaceTest, ASlowdownOfOneGivesTheShareAlone) {
  StepPace pace(1, kLeast);
  Machine machine;
  const Steps run = Saturate(pace, machine, 1, 4000);
  EXPECT_EQ(*std::max_element(run.rows.begin(), run.rows.end()), kLeast);
  EXPECT_NEAR(run.append_seconds / run.total(), StepPace::kShare, 0.02);
}

TEST(StepPaceTest, ItFollowsAMachineThatBecomesSlower) {
  StepPace pace(1.7, kLeast);
  Machine machine;
  Saturate(pace, machine, 1, 200);
  machine = {.decode = 0.008, .row = 0.0004};
  Saturate(pace, machine, 1, 200);
  const Steps run = Saturate(pace, machine, 1, 200);
  EXPECT_LE(*std::max_element(run.seconds.begin(), run.seconds.end()), 1.7 * 0.008 + 1e-9);
  EXPECT_GT(run.append_seconds, StepPace::kShare * run.total());
}

// Rows that seem to cost nothing do not open the door to a step of any size.
TEST(StepPaceTest, RowsGrowStepByStep) {
  StepPace pace(1.7, kLeast);
  Machine machine{.row = 0};
  const Steps run = Saturate(pace, machine, 1, 9);
  EXPECT_EQ(run.rows, (std::vector<int32_t>{0, 0, 0, 9, 18, 36, 72, 144, 288}));
}

// So that a crowd that arrives at once does not wait for each number of them to be learned.
TEST(StepPaceTest, MoreGenerationsStartFromWhatFewerTook) {
  StepPace pace(1.7, kLeast);
  Machine machine;
  Saturate(pace, machine, 4, 100);
  EXPECT_EQ(pace.AppendRows(40), 14);
  EXPECT_EQ(pace.AppendRows(3), 0);  // but fewer may take less
}

// A stall while decoding alone is measured does not make room for long steps.
TEST(StepPaceTest, AStallIsNotLearned) {
  StepPace pace(1.7, kLeast);
  Machine machine;
  pace.OnStep(1, 0, true, 0.1);
  const Steps run = Saturate(pace, machine, 1, 200);
  EXPECT_LE(*std::max_element(run.seconds.begin(), run.seconds.end()), 1.7 * 0.004 + 1e-9);
}

TEST(StepPaceTest, DecodingAloneIsLearnedAgainAndAgain) {
  StepPace pace(1.7, kLeast);
  Machine machine;
  const Steps run = Saturate(pace, machine, 1, 17 * 10);
  EXPECT_EQ(std::count(run.rows.begin(), run.rows.end(), 0), 12);  // three and nine
}

}  // namespace
}  // namespace rasq
