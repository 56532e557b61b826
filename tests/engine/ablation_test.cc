// Strategy rasq without one of its parts: what is read and kept then, against what a test computes
// from positions alone.
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/support/backends.h"
#include "tests/support/engine_harness.h"
#include "tests/support/model_harness.h"
#include "tests/support/tiny_checkpoint.h"

namespace rasq {
namespace {

using testing::ModelHarness;
using testing::TestStream;

constexpr int32_t kVocab = 256;
// Of the tiny model.
constexpr int32_t kSegment = 16, kWindow = 32, kSinks = 4, kCapacity = 24, kRetrievals = 2,
                  kHeadDim = 16;

std::vector<int32_t> RandomTokens(uint64_t seed, int64_t count) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % kVocab);
  return tokens;
}

// The positions [begin, end) that are no sinks.
std::vector<int64_t> Positions(int64_t begin, int64_t end) {
  std::vector<int64_t> positions(std::max<int64_t>(0, end - std::max<int64_t>(begin, kSinks)));
  std::iota(positions.begin(), positions.end(), std::max<int64_t>(begin, kSinks));
  return positions;
}

class AblationTest : public testing::BackendTest {
 protected:
  static testing::HarnessOptions Tiny() {
    return {.checkpoint = "tests/testdata/tiny", .backend = GetParam()};
  }
};
INSTANTIATE_TEST_SUITE_P(All, AblationTest,
                         ::testing::Values("float32", "bfloat16", "cuda", "cuda_int8"),
                         testing::BackendName);

// A segment at a time: after its step the buffer holds what it could choose from.
TEST_P(AblationTest, WithoutTheRetrieverTheNewestAreRead) {
  constexpr size_t kBudget = 5;
  ModelHarness harness(Tiny());
  TestStream stream = harness.NewStream();
  const std::vector<int32_t> tokens = RandomTokens(/*seed=*/1, 320);
  bool left_out = false;
  for (size_t at = 0; at < tokens.size(); at += kSegment) {
    StreamStep step = harness.Step(stream, {tokens.begin() + at, tokens.begin() + at + kSegment});
    step.read = {.budget = kBudget, .gain = 3, .floor = -1, .newest = true};
    const auto outcomes = harness.model().Step({&step, 1});
    ASSERT_TRUE(outcomes.ok()) << outcomes.status();
    std::vector<int64_t> want;
    for (const int32_t position : harness.EntryPositions(stream)) {
      if (position >= 0) want.push_back(position);
    }
    if (want.size() > kBudget) want.erase(want.begin(), want.end() - kBudget);
    // Where the buffer is full, the newest that it holds are not the newest that there were.
    left_out = left_out || (!want.empty() && want.back() - want.front() >= int64_t{kBudget});
    for (int32_t r = 0; r < kRetrievals; ++r) {
      EXPECT_EQ(*harness.model().SelectedPositions(r, /*segment=*/0), want) << "segment at " << at;
      EXPECT_EQ(outcomes->front().budget[r], kBudget);
      const auto read = harness.model().Retrieved(*stream.layout, stream.state->data(), r);
      ASSERT_TRUE(read.ok()) << read.status();
      EXPECT_EQ(read->size(), want.size());
      for (const RetrievedEntry& entry : *read) {
        EXPECT_EQ(entry.score, 0);
        EXPECT_LT(entry.log_gate, 0);
      }
    }
  }
  EXPECT_TRUE(left_out) << "no gate counted: the test shows nothing";
}

// Of two streams of one step only one is without the retriever.
TEST_P(AblationTest, StreamsOfOneStepDiffer) {
  ModelHarness harness(Tiny());
  const std::vector<int32_t> tokens = RandomTokens(/*seed=*/2, 160);
  const auto logits = [&](bool beside) {
    TestStream usual = harness.NewStream(), newest = harness.NewStream();
    std::vector<StreamStep> steps = {harness.Step(usual, tokens)};
    std::vector<float> got;
    steps[0].logits = &got;
    if (beside) {
      steps.push_back(harness.Step(newest, tokens));
      steps[1].read.newest = true;
      steps[1].write.by_age = true;
    }
    const auto outcomes = harness.model().Step(steps);
    EXPECT_TRUE(outcomes.ok()) << outcomes.status();
    return got;
  };
  EXPECT_EQ(logits(/*beside=*/true), logits(/*beside=*/false));
}

TEST_P(AblationTest, WithoutTheCacheEntriesAreReplacedByAge) {
  ModelHarness harness(Tiny());
  TestStream usual = harness.NewStream(), by_age = harness.NewStream();
  const std::vector<int32_t> tokens = RandomTokens(/*seed=*/3, 320);
  for (size_t at = 0; at < tokens.size(); at += 80) {  // five segments a step
    const std::vector<int32_t> part(tokens.begin() + at, tokens.begin() + at + 80);
    harness.Run(usual, part);
    StreamStep step = harness.Step(by_age, part);
    step.write = {.log_growth = -1, .noise = 1, .seed = 4, .by_age = true};
    ASSERT_TRUE(harness.model().Step({&step, 1}).ok());
    const int64_t left = static_cast<int64_t>(at) + 80 - kSegment - kWindow;
    std::vector<int64_t> want = Positions(left - kCapacity, left);
    want.resize(kCapacity, -1);
    const std::vector<int32_t> got = harness.EntryPositions(by_age);
    EXPECT_EQ(std::vector<int64_t>(got.begin(), got.end()), want) << at;
  }
  EXPECT_NE(harness.EntryPositions(usual), harness.EntryPositions(by_age));
}

// In a model with clusters, a state without them reads as a model without them: the same bits.
TEST_P(AblationTest, WithoutClustersAllIsReadExactly) {
  testing::HarnessOptions with_clusters = Tiny();
  with_clusters.num_clusters = 4;
  with_clusters.read_clusters = 1;
  with_clusters.cluster_min_entries = 2;
  ModelHarness harness(with_clusters), plain(Tiny());
  MemoryConfig without = harness.memory();
  without.num_clusters = 0;
  const StateLayout layout = *MakeStateLayout(Strategy::kRasq, harness.model().config(), without,
                                              harness.ops().element(), {});
  TestStream usual = harness.NewStream(), want_stream = plain.NewStream();
  TestStream exact{.layout = &layout, .state = *harness.ops().Allocate(layout.bytes)};
  ASSERT_TRUE(ResetState(layout, harness.ops(), exact.state->data()).ok());
  const std::vector<int32_t> tokens = RandomTokens(/*seed=*/4, 400);
  const std::vector<float> want = plain.Run(want_stream, tokens);
  EXPECT_EQ(harness.Run(exact, tokens), want);
  EXPECT_NE(harness.Run(usual, tokens), want);
  // Both kinds in one step, and each as alone.
  std::vector<StreamStep> steps = {harness.Step(usual, {1, 2, 3}), harness.Step(exact, {1, 2, 3})};
  ASSERT_TRUE(harness.model().Step(steps).ok());
  EXPECT_EQ(harness.Run(exact, {4, 5}),
            (plain.Run(want_stream, {1, 2, 3}), plain.Run(want_stream, {4, 5})));
}

// The tiny model whose adapter compresses nothing: P is the identity.
class TinyUncompressed : public testing::TinyCheckpoint {
 public:
  TinyUncompressed() : TinyCheckpoint({{"compressed_dim", kHeadDim}}, Identities()) {}

 private:
  static Tensors Identities() {
    constexpr int64_t kHeads = 2;  // kv heads
    Tensor identity{{kHeads, kHeadDim, kHeadDim}, {}};
    identity.values.resize(kHeads * kHeadDim * kHeadDim);
    for (int64_t i = 0; i < kHeads * kHeadDim; ++i) {
      identity.values[i * kHeadDim + i % kHeadDim] = 1;
    }
    Tensors tensors;
    for (const int layer : {1, 2, 3}) {  // those that read memory
      const std::string memory = "layers." + std::to_string(layer) + ".memory.";
      tensors[memory + "key_down.weight"] = tensors[memory + "value_down.weight"] = identity;
    }
    return tensors;
  }
};

// Exact entries are what an adapter that compresses nothing makes, in whole steps and one token at
// a time.
TEST_P(AblationTest, ExactEntriesAreUncompressedOnes) {
  constexpr int32_t kExact = 11;
  const TinyUncompressed model;
  // Entries in int8 are not exact; those of this layout always are.
  const std::string element = testing::IsOnGpu(GetParam()) ? "cuda" : GetParam();
  ModelHarness tiny(Tiny());
  ModelHarness uncompressed({.checkpoint = model.path(), .backend = element, .capacity = kExact});
  MemoryConfig memory = tiny.memory();
  memory.exact_entries = true;
  memory.capacity = kExact;
  const StateLayout layout =
      *MakeStateLayout(Strategy::kRasq, tiny.model().config(), memory, tiny.ops().element(), {});
  EXPECT_FALSE(layout.has_clusters());
  const std::vector<int32_t> tokens = RandomTokens(/*seed=*/5, 400);
  const auto logits = [&](ModelHarness& harness, TestStream stream, size_t part) {
    std::vector<float> all;
    for (size_t at = 0; at < tokens.size(); at += part) {
      const size_t end = std::min(at + part, tokens.size());
      std::vector<float> some;
      StreamStep step = harness.Step(stream, {tokens.begin() + at, tokens.begin() + end});
      step.write.by_age = true;
      step.read.newest = true;  // what the index keys' rounding says does not matter
      step.logits = &some;
      EXPECT_TRUE(harness.model().Step({&step, 1}).ok());
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  };
  const auto exact_stream = [&] {
    TestStream stream{.layout = &layout, .state = *tiny.ops().Allocate(layout.bytes)};
    EXPECT_TRUE(ResetState(layout, tiny.ops(), stream.state->data()).ok());
    return stream;
  };
  const std::vector<float> compressed = logits(tiny, tiny.NewStream(), 400);
  for (const size_t part : {400, 16, 1}) {
    const std::vector<float> want = logits(uncompressed, uncompressed.NewStream(), part);
    const std::vector<float> got = logits(tiny, exact_stream(), part);
    EXPECT_LT(testing::RelativeError(got.data(), want.data(), static_cast<int64_t>(want.size())),
              is_rough() ? 0.1 : 1e-4)
        << "parts of " << part;
    EXPECT_GT(
        testing::RelativeError(compressed.data(), want.data(), static_cast<int64_t>(want.size())),
        is_rough() ? 0.01 : 1e-3);
  }
}

// Sessions of the shipped model: what the last token of a question read.
TEST_P(AblationTest, ASessionReadsTheNewestInOneRun) {
  const auto engine = testing::StartEngine(testing::ShippedModel(GetParam()));
  SessionOptions options{.budget_tokens = 40};
  options.ablation = {.no_dsr = true, .no_rckv = true};
  const std::string session = testing::CreateSession(*engine, "a", options);
  ASSERT_TRUE(testing::Append(*engine, session, testing::Prose(1, 9000)).ok());
  GenerateRequest request{.session = session, .prompt = std::string("\nWho came?"), .evidence = 9};
  request.stop = {.max_new_tokens = 2, .ignore_eos = true};
  const auto answer = testing::Generate(*engine, request);
  ASSERT_TRUE(answer.ok()) << answer.status();
  const GenerateSummary& summary = answer->summary;
  ASSERT_EQ(summary.evidence.size(), 1u);
  const int64_t last = summary.context_tokens + summary.prompt_tokens - 1;
  EXPECT_EQ(summary.evidence[0].position, last - engine->model().window_tokens - 40);
  EXPECT_EQ(summary.retrieved_tokens, 40);
}

TEST(AblationSessionTest, SessionsWithoutClustersHaveNoRoomForThem) {
  const testing::TinyCheckpoint model(
      nlohmann::json({{"clusters", 4}, {"read_clusters", 1}, {"cluster_min_entries", 2}}));
  EngineOptions options = testing::ShippedModel("float32");
  options.model = model.path();
  options.load_format = LoadFormat::kDummy;  // it has no tokenizer
  options.full_context_tokens = 64;
  const auto engine = testing::StartEngine(options);
  SessionOptions exact;
  exact.ablation.no_sqa = true;
  const int64_t usual_bytes = engine->CreateSession({.id = "usual"})->state_bytes;
  EXPECT_LT(engine->CreateSession({.id = "exact", .options = exact})->state_bytes, usual_bytes);
  // Both at once, and copies of each.
  for (const std::string id : {"usual", "exact"}) {
    ASSERT_TRUE(testing::Append(*engine, id, testing::Prose(1, 600)).ok());
    ASSERT_TRUE(testing::Fork(*engine, {.session = id, .new_id = id + "-copy"}).ok());
    EXPECT_EQ(testing::NextTokens(*engine, id, 8), testing::NextTokens(*engine, id + "-copy", 8));
    EXPECT_EQ(engine->GetSession(id)->state_bytes, engine->GetSession(id + "-copy")->state_bytes);
  }
}

TEST(AblationSessionTest, OptionsAreKeptAndChecked) {
  EngineOptions options = testing::ShippedModel("float32");
  const auto engine = testing::StartEngine(options);
  SessionOptions all;
  all.ablation = {.no_dsr = true, .no_sqa = true};
  // The shipped model has no clusters: without them its sessions are as they were.
  EXPECT_EQ(engine->CreateSession({.options = all})->state_bytes,
            engine->model().session_state_bytes);
  all.ablation.no_rckv = true;
  const auto session = engine->CreateSession({.id = "a", .options = all});
  ASSERT_TRUE(session.ok()) << session.status();
  // As many exact entries as fit: of 6 layers' keys and values, and less than three are left over.
  EXPECT_LE(session->state_bytes, engine->model().session_state_bytes);
  EXPECT_GT(session->state_bytes,
            engine->model().session_state_bytes - 3 * (6 * 2 * 128 + 2 * 64) * 4);
  const auto fork = testing::Fork(*engine, {.session = "a", .new_id = "b"});
  ASSERT_TRUE(fork.ok()) << fork.status();
  EXPECT_TRUE(fork->options.ablation.no_dsr && fork->options.ablation.no_sqa &&
              fork->options.ablation.no_rckv);
  all.strategy = Strategy::kWindow;
  const absl::Status refused = engine->CreateSession({.options = all}).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()), ::testing::HasSubstr("options.ablation"));
}

}  // namespace
}  // namespace rasq
