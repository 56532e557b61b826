// A model whose retrieval layers choose how much to read (kernels/budget_head.h), and sessions of
// it.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/backends.h"
#include "tests/support/engine_harness.h"
#include "tests/support/model_harness.h"
#include "tests/support/tiny_with_budget_head.h"

namespace rasq {
namespace {

using ::testing::HasSubstr;
using testing::ModelHarness;
using testing::TestStream;
using testing::TinyWithBudgetHead;

constexpr int32_t kVocab = 256;
const std::vector<float> kFactors = {0.25f, 0.5f, 1, 2};

std::vector<int32_t> RandomTokens(uint64_t seed, int64_t count) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % kVocab);
  return tokens;
}

struct Read {
  std::vector<int32_t> retrieved, budget;
};

// What a stream's segments may read, and do, if its tokens come in parts of `part`.
Read ReadOf(ModelHarness& harness, const std::vector<int32_t>& tokens, size_t part,
            int32_t budget) {
  TestStream stream = harness.NewStream();
  // By layer, since a step tells of one layer after another.
  std::vector<Read> layers(2);
  for (size_t at = 0; at < tokens.size(); at += part) {
    const size_t end = std::min(at + part, tokens.size());
    StreamStep step = harness.Step(stream, {tokens.begin() + at, tokens.begin() + end});
    step.read.budget = budget;
    const auto outcomes = harness.model().Step({&step, 1});
    EXPECT_TRUE(outcomes.ok()) << outcomes.status();
    const StepOutcome& outcome = outcomes->front();
    const size_t segments = outcome.retrieved.size() / 2;
    for (size_t i = 0; i < outcome.retrieved.size(); ++i) {
      layers[i / std::max<size_t>(segments, 1)].retrieved.push_back(outcome.retrieved[i]);
      layers[i / std::max<size_t>(segments, 1)].budget.push_back(outcome.budget[i]);
    }
  }
  Read all;
  for (const Read& layer : layers) {
    all.retrieved.insert(all.retrieved.end(), layer.retrieved.begin(), layer.retrieved.end());
    all.budget.insert(all.budget.end(), layer.budget.begin(), layer.budget.end());
  }
  return all;
}

using BudgetHeadTest = testing::BackendTest;
INSTANTIATE_TEST_SUITE_P(All, BudgetHeadTest,
                         ::testing::Values("float32", "bfloat16", "cuda", "cuda_int8"),
                         testing::BackendName);

TEST_P(BudgetHeadTest, SegmentsReadWhatTheHeadChooses) {
  const TinyWithBudgetHead model(kFactors);
  ModelHarness harness({.checkpoint = model.path(), .backend = GetParam()});
  EXPECT_EQ(harness.memory().budget, 8);
  EXPECT_EQ(harness.memory().max_budget, 16);
  const Read read = ReadOf(harness, RandomTokens(/*seed=*/1, 480), 480, /*budget=*/8);
  const std::set<int32_t> budgets(read.budget.begin(), read.budget.end());
  EXPECT_THAT(budgets, ::testing::IsSubsetOf({2, 4, 8, 16}));
  EXPECT_GT(budgets.size(), 1) << "all segments chose alike: the test shows nothing";
  for (size_t i = 0; i < read.budget.size(); ++i) {
    EXPECT_LE(read.retrieved[i], read.budget[i]) << i;
    // From the sixth segment of a layer on the buffer of 24 is full.
    if (i % 30 < 6) continue;
    EXPECT_EQ(read.retrieved[i], read.budget[i]) << i;
  }
}

// Whole segments, in one step and one after another.
TEST_P(BudgetHeadTest, ParallelEqualsSequential) {
  const TinyWithBudgetHead model(kFactors);
  ModelHarness harness({.checkpoint = model.path(), .backend = GetParam()});
  const std::vector<int32_t> tokens = RandomTokens(/*seed=*/2, 480);
  const Read want = ReadOf(harness, tokens, 480, /*budget=*/8);
  const Read got = ReadOf(harness, tokens, 16, /*budget=*/8);
  EXPECT_EQ(got.budget, want.budget);
  EXPECT_EQ(got.retrieved, want.retrieved);
}

// Decoding rounds otherwise than appending, but in float32 by so little that choices stay.
TEST_P(BudgetHeadTest, DecodeEqualsAppend) {
  if (is_rough()) GTEST_SKIP() << "choices depend on rounding";
  const TinyWithBudgetHead model(kFactors);
  ModelHarness harness({.checkpoint = model.path(), .backend = GetParam()});
  const std::vector<int32_t> tokens = RandomTokens(/*seed=*/3, 240);
  EXPECT_EQ(ReadOf(harness, tokens, 1, 8).budget, ReadOf(harness, tokens, 240, 8).budget);
}

TEST_P(BudgetHeadTest, ASessionsBudgetIsScaledAndBounded) {
  const TinyWithBudgetHead model(kFactors);
  ModelHarness harness({.checkpoint = model.path(), .backend = GetParam()});
  const std::vector<int32_t> tokens = RandomTokens(/*seed=*/1, 480);
  const Read eight = ReadOf(harness, tokens, 480, /*budget=*/8);
  const Read one = ReadOf(harness, tokens, 480, /*budget=*/1);
  const Read most = ReadOf(harness, tokens, 480, /*budget=*/16);
  // The first layer's queries do not depend on what was read: its choices stay.
  for (size_t i = 0; i < eight.budget.size() / 2; ++i) {
    EXPECT_EQ(one.budget[i], std::max(1, (eight.budget[i] + 4) / 8)) << i;
    EXPECT_EQ(most.budget[i], std::min(16, 2 * eight.budget[i])) << i;
  }
}

TEST(BudgetHeadSessionTest, GainIsRefusedAndDefaultsAreTheModels) {
  const TinyWithBudgetHead model(kFactors);
  EngineOptions options = testing::ShippedModel("float32");
  options.model = model.path();
  options.load_format = LoadFormat::kDummy;  // it has no tokenizer
  options.full_context_tokens = 64;
  const auto engine = testing::StartEngine(options);
  EXPECT_EQ(engine->model().budget_tokens, 8);
  EXPECT_EQ(engine->model().max_budget_tokens, 16);
  const auto session = engine->CreateSession({});
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_EQ(session->options.budget_tokens, 8);
  EXPECT_TRUE(engine->CreateSession({.options = {.budget_tokens = 16}}).ok());
  const absl::Status gain = engine->CreateSession({.options = {.budget_gain = 0.5}}).status();
  EXPECT_EQ(gain.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(gain.message()),
              HasSubstr("options.retrieval_budget_gain=0.5: the model has a budget head"));
}

// Hears of what was read.
struct Retrievals : EngineObserver {
  void OnStep(StepKind, absl::Duration, int32_t) override {}
  void OnFirstToken(absl::Duration) override {}
  void OnNextToken(absl::Duration) override {}
  void OnAbsorbed(absl::Duration) override {}
  void OnRetrieval(int32_t budget_tokens, int32_t read_tokens) override {
    budgets.insert(budget_tokens);
    most_read = std::max(most_read, read_tokens);
  }
  std::set<int32_t> budgets;
  int32_t most_read = 0;
};

TEST(BudgetHeadSessionTest, CountersShowTheBudget) {
  const TinyWithBudgetHead model({0.5f});
  EngineOptions options = testing::ShippedModel("float32");
  options.model = model.path();
  options.load_format = LoadFormat::kDummy;
  options.full_context_tokens = 64;
  Retrievals retrievals;  // written by the engine's thread, read when it is gone
  {
    const auto engine = testing::StartEngine(options, &retrievals);
    const std::string session = testing::CreateSession(*engine);
    ASSERT_TRUE(testing::Append(*engine, session, testing::Prose(1, 500)).ok());
  }
  EXPECT_EQ(retrievals.budgets, (std::set<int32_t>{4}));
  EXPECT_EQ(retrievals.most_read, 4);
}

TEST(ScoreFloorTest, LowEntriesAreNotRead) {
  for (const double floor : {double{-INFINITY}, 1e9}) {
    EngineOptions options = testing::ShippedModel("float32");
    Retrievals retrievals;
    {
      const auto engine = testing::StartEngine(options, &retrievals);
      const std::string session = testing::CreateSession(*engine, "a", {.score_floor = floor});
      EXPECT_EQ(engine->GetSession(session)->options.score_floor, floor);
      ASSERT_TRUE(testing::Append(*engine, session, testing::Prose(1, 6000)).ok());
    }
    EXPECT_EQ(retrievals.most_read > 0, floor < 0);
  }
}

}  // namespace
}  // namespace rasq
