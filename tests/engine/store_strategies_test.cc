// The published methods that keep exact keys and values behind the window (store_plan.h).
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine_group.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/stream_attention.h"
#include "tests/support/backends.h"
#include "tests/support/engine_harness.h"
#include "tests/support/model_harness.h"
#include "tests/support/temporary_directory.h"

namespace rasq {
namespace {

using testing::Answer;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::HarnessOptions;
using ::testing::HasSubstr;
using testing::ModelHarness;
using testing::TestStream;

std::vector<int32_t> RandomTokens(uint64_t seed, int64_t count, int32_t vocab) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % vocab);
  return tokens;
}

// A segment a step, as these strategies move; the logits of all tokens.
std::vector<float> Feed(ModelHarness& harness, TestStream& stream,
                        const std::vector<int32_t>& tokens) {
  const int32_t segment = harness.memory().segment;
  std::vector<float> all;
  for (size_t at = 0; at < tokens.size(); at += segment) {
    const size_t end = std::min(tokens.size(), at + segment);
    const auto logits = harness.Run(stream, {tokens.begin() + at, tokens.begin() + end});
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

std::vector<std::byte> StateBytes(ModelHarness& harness, const TestStream& stream) {
  std::vector<std::byte> bytes(stream.layout->bytes);
  EXPECT_TRUE(harness.ops().CopyToHost(bytes.data(), stream.state->data(), bytes.size()).ok());
  return bytes;
}

struct Case {
  Strategy strategy;
  std::string backend;
};
void PrintTo(const Case& c, std::ostream* out) { *out << Name(c.strategy) << "_" << c.backend; }

std::vector<Case> Cases(const std::vector<std::string>& backends) {
  std::vector<Case> cases;
  for (const Strategy strategy : {Strategy::kRazor, Strategy::kPyramid, Strategy::kGca}) {
    for (const std::string& backend : backends) cases.push_back({strategy, backend});
  }
  return cases;
}

class StoreTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (testing::IsOnGpu(GetParam().backend)) RASQ_NEEDS_GPU();
  }
  bool is_rough() const { return GetParam().backend != "float32"; }
  HarnessOptions Tiny(BaselineOptions baselines) const {
    return {.checkpoint = "tests/testdata/tiny",
            .backend = GetParam().backend,
            .baselines = std::move(baselines)};
  }
  // Of the shipped model: rings of 512 tokens, and room for some 200 tokens behind them.
  HarnessOptions Bounded() const {
    const int64_t token_bytes = int64_t{8} * 2 * 2 * 64 * (is_rough() ? 2 : 4);
    return {.checkpoint = "models/default",
            .backend = GetParam().backend,
            .baselines = {.state_bytes = (512 + 200) * token_bytes}};
  }
  TestStream NewStream(ModelHarness& harness) const {
    harness.store().retrieval_heads.assign(harness.model().config().num_layers, 0b01);
    return harness.NewStream(GetParam().strategy);
  }
};
INSTANTIATE_TEST_SUITE_P(All, StoreTest,
                         ::testing::ValuesIn(Cases({"float32", "bfloat16", "cuda"})),
                         ::testing::PrintToStringParamName());

// A budget for everything leaves everything in place, as published and bounded.
TEST_P(StoreTest, EqualsFullAttentionWhereEverythingFits) {
  for (const bool bounded : {false, true}) {
    SCOPED_TRACE(bounded ? "bounded" : "as published");
    BaselineOptions baselines{.razor_local_tokens = 1024, .pyramid_beta = 1};
    if (bounded) {
      baselines.state_bytes = int64_t{4} << 20;
      baselines.razor_compression = 1;
    }
    ModelHarness harness(Tiny(baselines));
    TestStream full = harness.NewStream(Strategy::kFull), stream = NewStream(harness);
    // Chunks that are read are fused by the scores' softmax, never by full attention's.
    const int64_t length = GetParam().strategy == Strategy::kGca ? 48 : 300;
    const std::vector<int32_t> tokens = RandomTokens(/*seed=*/1, length, 256);
    const std::vector<float> want = Feed(harness, full, tokens),
                             got = Feed(harness, stream, tokens);
    ASSERT_EQ(got.size(), want.size());
    EXPECT_LT(testing::RelativeError(got.data(), want.data(), static_cast<int64_t>(want.size())),
              is_rough() ? 0.1 : 1e-4);
  }
}

// What little is kept makes a difference: else the test above would say nothing.
TEST_P(StoreTest, DiffersFromFullAttentionWhereLittleFits) {
  ModelHarness harness(Tiny({.state_bytes = int64_t{160} << 10}));
  TestStream full = harness.NewStream(Strategy::kFull), stream = NewStream(harness);
  const std::vector<int32_t> tokens = RandomTokens(/*seed=*/1, 300, 256);
  const std::vector<float> want = Feed(harness, full, tokens), got = Feed(harness, stream, tokens);
  EXPECT_GT(testing::RelativeError(got.data(), want.data(), static_cast<int64_t>(want.size())),
            1e-3);
}

TEST_P(StoreTest, BoundedStatesFillTheirBytes) {
  for (const int64_t bytes : {int64_t{6} << 20, int64_t{9} << 20}) {
    HarnessOptions options = Bounded();
    options.baselines.state_bytes = bytes;
    ModelHarness harness(options);
    const TestStream stream = NewStream(harness);
    EXPECT_LE(stream.layout->bytes, bytes);
    // One chunk of all layers, with its landmark, would not have fitted; else hardly a token.
    const int64_t token = int64_t{8} * 2 * 2 * 64 * (is_rough() ? 2 : 4);
    const bool by_chunks = GetParam().strategy == Strategy::kGca;
    EXPECT_GT(stream.layout->bytes, bytes - (by_chunks ? 66 : 16) * token);
    EXPECT_EQ(stream.layout->max_context(), 0);
  }
}

// A segment that is cut over several steps leaves the bits that it leaves in one.
TEST_P(StoreTest, PiecesOfASegmentEqualTheWhole) {
  ModelHarness harness(Bounded());
  const std::vector<int32_t> tokens = RandomTokens(/*seed=*/8, 1280, 8192);
  TestStream whole = NewStream(harness), pieces = NewStream(harness);
  std::mt19937_64 random(9);
  for (int64_t at = 0; at < 1280; at += 64) {
    const auto segment = tokens.begin() + at;
    harness.Run(whole, {segment, segment + 64});
    for (int64_t done = 0; done < 64;) {
      const int64_t left = 64 - done;
      int64_t piece = kLeastPartRows + static_cast<int64_t>(random() % 20);
      if (left - piece < kLeastPartRows) piece = left;
      harness.Run(pieces, {segment + done, segment + done + piece});
      done += piece;
    }
  }
  EXPECT_EQ(StateBytes(harness, pieces), StateBytes(harness, whole));
  EXPECT_EQ(harness.Run(pieces, {1, 2, 3}), harness.Run(whole, {1, 2, 3}));
}

// Nothing grows with the stream, and what is read stays as much.
TEST_P(StoreTest, BoundedStatesStayOfOneSize) {
  ModelHarness harness(Tiny({.state_bytes = int64_t{160} << 10}));
  TestStream stream = NewStream(harness);
  const auto segment = [&](uint64_t seed) {
    std::vector<StreamStep> step = {harness.Step(stream, RandomTokens(seed, 16, 256))};
    const auto outcomes = harness.model().Step(step);
    EXPECT_TRUE(outcomes.ok()) << outcomes.status();
    return outcomes.ok() ? outcomes->front().retrieved : std::vector<int32_t>();
  };
  for (uint64_t i = 0; i < 100; ++i) segment(i);
  const int64_t bytes = harness.ops().allocated_bytes();
  const std::vector<int32_t> read = segment(100);
  EXPECT_EQ(read.size(), 4u);  // layers
  for (uint64_t i = 101; i < 2000; ++i) segment(i);
  EXPECT_EQ(segment(2000), read);
  EXPECT_EQ(harness.ops().allocated_bytes(), bytes);
  for (const float logit : harness.Run(stream, {1})) ASSERT_TRUE(std::isfinite(logit));
}

// As published, PyramidKV compresses once, when a generation has read its prompt.
TEST(PyramidTest, ChoosesAtThePromptsEnd) {
  ModelHarness harness(
      {.checkpoint = "tests/testdata/tiny", .baselines = {.pyramid_budget_tokens = 64}});
  TestStream stream = harness.NewStream(Strategy::kPyramid);
  Feed(harness, stream, RandomTokens(/*seed=*/2, 320, 256));
  const auto step = [&](bool prompt_ends) {
    std::vector<StreamStep> steps = {harness.Step(stream, {7}, {0})};
    steps[0].prompt_ends = prompt_ends;
    return harness.model().Step(steps)->front().retrieved;
  };
  EXPECT_THAT(step(false), Each(320 - 32));
  // 321 tokens, 32 of a mean of 64 beside the window: from 2 * 32 - 32 / 20 down to 32 / 20.
  EXPECT_THAT(step(true), ElementsAre(63, 42, 22, 1));
  EXPECT_THAT(step(false), ElementsAre(64, 43, 23, 2));  // and what left since
}

// Of the engine: served where it is asked for, and its sessions are like any others.
class StoreEngineTest : public StoreTest {
 protected:
  EngineOptions Options(int64_t state_bytes) const {
    EngineOptions options = testing::ShippedModel(GetParam().backend);
    options.strategies = {Strategy::kRasq, Strategy::kWindow, GetParam().strategy};
    options.max_full_sessions = 4;
    options.full_context_tokens = 2048;
    options.baselines.state_bytes = state_bytes;
    return options;
  }
  std::unique_ptr<EngineGroup> OnDisk(const EngineOptions& options) const {
    auto group = EngineGroup::Create(options, /*observer=*/nullptr);
    if (!group.ok()) ADD_FAILURE() << group.status();
    return group.ok() ? *std::move(group) : nullptr;
  }
  int64_t bounded_bytes() const { return Bounded().baselines.state_bytes; }
  SessionOptions Own() const { return {.strategy = GetParam().strategy}; }

  testing::TemporaryDirectory directory_;
};
INSTANTIATE_TEST_SUITE_P(All, StoreEngineTest, ::testing::ValuesIn(Cases({"float32", "cuda"})),
                         ::testing::PrintToStringParamName());

TEST_P(StoreEngineTest, ForksSnapshotsAndRestartsKeepItsState) {
  std::vector<int32_t> want, later;
  const std::string text = testing::Prose(/*seed=*/3, 6000), more = testing::Prose(4, 3000);
  EngineOptions options = Options(bounded_bytes());
  options.state_dir = directory_.path();
  {
    const auto engine = OnDisk(options);
    ASSERT_NE(engine, nullptr);
    testing::CreateSession(*engine, "first", Own());
    ASSERT_TRUE(testing::Append(*engine, "first", text).ok());
    want = testing::NextTokens(*engine, "first", 20);
    ASSERT_TRUE(testing::Fork(*engine, {.session = "first", .new_id = "fork"}).ok());
    ASSERT_TRUE(testing::Snapshot(*engine, {.session = "first", .snapshot_id = "snap"}).ok());
    ASSERT_TRUE(testing::Append(*engine, "first", more).ok());
    later = testing::NextTokens(*engine, "first", 20);
    EXPECT_EQ(testing::NextTokens(*engine, "fork", 20), want);
    ASSERT_TRUE(testing::Append(*engine, "fork", more).ok());
    EXPECT_EQ(testing::NextTokens(*engine, "fork", 20), later);
  }
  const auto engine = OnDisk(options);
  ASSERT_NE(engine, nullptr);
  EXPECT_EQ(testing::NextTokens(*engine, "first", 20), later);
  ASSERT_TRUE(testing::Restore(*engine, {.snapshot = "snap", .session_id = "restored"}).ok());
  EXPECT_EQ(testing::NextTokens(*engine, "restored", 20), want);
  ASSERT_TRUE(testing::Append(*engine, "restored", more).ok());
  EXPECT_EQ(testing::NextTokens(*engine, "restored", 20), later);
  // A server with another bound must not take it for its own.
  options = Options(bounded_bytes() + (1 << 20));
  options.snapshot_dir = directory_.path() + "/snapshots";
  const auto other = OnDisk(options);
  ASSERT_NE(other, nullptr);
  const auto refused = testing::Restore(*other, {.snapshot = "snap", .session_id = "no"});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
}

// Results do not depend on what else is in the batch, nor on the messages' sizes, to the last bit.
TEST_P(StoreEngineTest, NeitherNeighboursNorCutsMatter) {
  const auto engine = testing::StartEngine(Options(bounded_bytes()));
  const std::string text = testing::Prose(/*seed=*/5, 6000);
  testing::CreateSession(*engine, "alone", Own());
  ASSERT_TRUE(testing::Append(*engine, "alone", text).ok());
  const auto ask = [&](const std::string& session) {
    GenerateRequest request{.session = session, .prompt = std::string("\nAnswer:"), .logprobs = 3};
    request.stop = {.max_new_tokens = 20, .ignore_eos = true};
    const auto answer = testing::Generate(*engine, request);
    EXPECT_TRUE(answer.ok()) << answer.status();
    std::vector<double> values;
    for (const GeneratedToken& token : answer->tokens) {
      values.push_back(token.token_id);
      values.push_back(token.logprob);
    }
    EXPECT_GT(answer->summary.retrieved_tokens, 0);
    return values;
  };
  const std::vector<double> want = ask("alone");
  testing::CreateSession(*engine, "crowded", Own());
  std::vector<std::shared_ptr<testing::CollectingSink>> sinks;
  for (const Strategy strategy : {Strategy::kRasq, GetParam().strategy}) {
    const std::string other = testing::CreateSession(*engine, "", {.strategy = strategy});
    ASSERT_TRUE(testing::Append(*engine, other, testing::Prose(6, 4000)).ok());
    GenerateRequest request{.session = other, .prompt = std::string("And then")};
    request.stop = {.max_new_tokens = 60, .ignore_eos = true};
    sinks.push_back(std::make_shared<testing::CollectingSink>());
    ASSERT_TRUE(engine->Generate(request, sinks.back()).ok());
  }
  for (size_t at = 0; at < text.size(); at += 700) {
    ASSERT_TRUE(testing::Append(*engine, "crowded", text.substr(at, 700)).ok());
  }
  EXPECT_EQ(ask("crowded"), want);
  for (const auto& sink : sinks) EXPECT_TRUE(sink->Wait().ok());
}

TEST_P(StoreEngineTest, AsPublishedRefusesMoreThanItKeeps) {
  const auto engine = testing::StartEngine(Options(/*state_bytes=*/0));
  const std::string session = testing::CreateSession(*engine, "", Own());
  ASSERT_TRUE(testing::Append(*engine, session, std::vector<int32_t>(2000, 5)).ok());
  const absl::Status status =
      testing::Append(*engine, session, std::vector<int32_t>(49, 5)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(
      std::string(status.message()),
      HasSubstr(std::string("strategy ") + Name(GetParam().strategy) + " keeps at most 2048"));
  // " The" is one token: the next are drawn behind 2001 to 2048 of them.
  EXPECT_EQ(testing::NextTokens(*engine, session, 1000).size(), 48u);
  for (int i = 1; i < 4; ++i) testing::CreateSession(*engine, "", Own());
  EXPECT_EQ(engine->CreateSession({.options = Own()}).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST_P(StoreEngineTest, WhatIsNotServedIsRefused) {
  EngineOptions options = Options(/*state_bytes=*/0);
  options.strategies = {Strategy::kRasq};
  const auto engine = testing::StartEngine(options);
  const absl::Status status = engine->CreateSession({.options = Own()}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(), std::string("options.strategy=") + Name(GetParam().strategy) +
                                  ": is not served: the server has strategies=rasq");
}

TEST_P(StoreEngineTest, TooFewBytesAreRefused) {
  const absl::Status status =
      Engine::Create(Options(/*state_bytes=*/1000), /*observer=*/nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(std::string("baseline_state_bytes=1000: strategy ") +
                        Name(GetParam().strategy) + " needs at least"));
  EngineOptions options = Options(/*state_bytes=*/0);
  options.strategies = {GetParam().strategy};
  EXPECT_EQ(Engine::Create(options, /*observer=*/nullptr).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace rasq
