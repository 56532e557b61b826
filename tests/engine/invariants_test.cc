// The engine's invariants (DECISIONS.md names them): what must hold whatever the input.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/stream_attention.h"
#include "tests/support/answers.h"
#include "tests/support/backends.h"
#include "tests/support/engine_harness.h"
#include "tests/support/model_harness.h"

namespace rasq {
namespace {

using testing::Answer;
using testing::Logprobs;
using testing::ModelHarness;
using testing::TestStream;

std::vector<std::byte> StateBytes(ModelHarness& harness, const TestStream& stream) {
  std::vector<std::byte> bytes(stream.layout->bytes);
  EXPECT_TRUE(harness.ops().CopyToHost(bytes.data(), stream.state->data(), bytes.size()).ok());
  return bytes;
}

std::vector<int32_t> RandomTokens(uint64_t seed, int64_t count, int32_t vocab) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % vocab);
  return tokens;
}

// Greedy continuation of a question about the text, with its log-probabilities.
Answer Ask(Engine& engine, const std::string& session, const std::string& prompt = "\nAnswer:") {
  GenerateRequest request{.session = session, .prompt = prompt, .logprobs = 5};
  request.stop.max_new_tokens = 24;
  request.stop.ignore_eos = true;
  auto answer = testing::Generate(engine, request);
  EXPECT_TRUE(answer.ok()) << answer.status();
  return answer.ok() ? *answer : Answer();
}

using InvariantsTest = testing::BackendTest;
INSTANTIATE_TEST_SUITE_P(All, InvariantsTest,
                         ::testing::Values("float32", "bfloat16", "bfloat16_int8", "cuda",
                                           "cuda_int8"),
                         testing::BackendName);
// Those that no rounding touches, and long ones: once a device.
using DevicesTest = testing::BackendTest;
INSTANTIATE_TEST_SUITE_P(All, DevicesTest,
                         ::testing::Values("float32", "float32_int8", "cuda", "cuda_int8"),
                         testing::BackendName);

// 1. The same text in any messages gives the same state: next tokens and log-probabilities are
// equal to the last bit.
TEST_P(InvariantsTest, CutInvariance) {
  const auto engine = testing::StartEngine(testing::ShippedModel(GetParam()));
  const std::string text =
      testing::Prose(/*seed=*/1, /*characters=*/9000) + " caf\u00e9 \U0001f600 done";
  const std::string whole = testing::CreateSession(*engine, "whole");
  ASSERT_TRUE(testing::Append(*engine, whole, text).ok());
  const Answer want = Ask(*engine, whole);

  std::mt19937_64 random(2);
  for (const int64_t longest : {1, 7, 500, 4000}) {
    const std::string session = testing::CreateSession(*engine);
    for (size_t at = 0; at < text.size();) {
      const size_t size = 1 + random() % longest;  // may cut a word, or a character
      ASSERT_TRUE(testing::Append(*engine, session, text.substr(at, size)).ok());
      at += size;
    }
    const Answer got = Ask(*engine, session);
    EXPECT_EQ(got.summary.context_tokens, want.summary.context_tokens) << "pieces to " << longest;
    EXPECT_EQ(got.ids(), want.ids()) << "pieces to " << longest;
    EXPECT_EQ(Logprobs(got), Logprobs(want)) << "pieces to " << longest;
    ASSERT_TRUE(testing::DeleteSession(*engine, session).ok());
  }
}

// 2. A session's results do not depend on what else is in the batch, to the last bit.
TEST_P(InvariantsTest, BatchInvariance) {
  const auto engine = testing::StartEngine(testing::ShippedModel(GetParam()));
  const std::string text = testing::Prose(/*seed=*/3, /*characters=*/6000);
  const std::string alone = testing::CreateSession(*engine, "alone");
  ASSERT_TRUE(testing::Append(*engine, alone, text).ok());
  const Answer want = Ask(*engine, alone);

  // The same session again, while others append and generate.
  const std::string crowded = testing::CreateSession(*engine, "crowded");
  std::vector<std::string> others;
  std::vector<std::shared_ptr<testing::CollectingSink>> sinks;
  for (uint64_t i = 0; i < 3; ++i) {
    others.push_back(testing::CreateSession(*engine));
    ASSERT_TRUE(testing::Append(*engine, others.back(), testing::Prose(10 + i, 2000)).ok());
    GenerateRequest request{.session = others.back(), .prompt = std::string("And then")};
    request.stop.max_new_tokens = 60;
    request.stop.ignore_eos = true;
    sinks.push_back(std::make_shared<testing::CollectingSink>());
    ASSERT_TRUE(engine->Generate(request, sinks.back()).ok());
    ASSERT_TRUE(engine
                    ->Append({.session = others.back(), .content = testing::Prose(20 + i, 5000)},
                             [](const absl::StatusOr<AppendResult>&) {})
                    .ok());
  }
  ASSERT_TRUE(testing::Append(*engine, crowded, text).ok());
  const Answer got = Ask(*engine, crowded);
  EXPECT_EQ(got.ids(), want.ids());
  EXPECT_EQ(Logprobs(got), Logprobs(want));
  for (const auto& sink : sinks) EXPECT_TRUE(sink->Wait().ok());
}

// 4. Many segments in one step give what one after another gives; here to the last bit.
TEST_P(InvariantsTest, ParallelEqualsSequential) {
  ModelHarness harness({.checkpoint = "models/default", .backend = GetParam(), .max_rows = 1024});
  const std::vector<int32_t> tokens = RandomTokens(/*seed=*/4, 4096, 8192);
  TestStream sequential = harness.NewStream(), parallel = harness.NewStream();
  for (size_t at = 0; at < tokens.size(); at += 64) {
    std::vector<StreamStep> step = {
        harness.Step(sequential, {tokens.begin() + at, tokens.begin() + at + 64})};
    ASSERT_TRUE(harness.model().Step(step).ok());
  }
  for (size_t at = 0; at < tokens.size(); at += 1024) {
    std::vector<StreamStep> step = {
        harness.Step(parallel, {tokens.begin() + at, tokens.begin() + at + 1024})};
    ASSERT_TRUE(harness.model().Step(step).ok());
  }
  EXPECT_EQ(harness.EntryPositions(sequential), harness.EntryPositions(parallel));
  EXPECT_EQ(harness.Run(sequential, {1, 2, 3}), harness.Run(parallel, {1, 2, 3}));
}

// A segment that is cut over several steps, as beside generations that decode, is what it is in
// one.
TEST_P(InvariantsTest, PiecesOfASegmentEqualTheWhole) {
  ModelHarness harness({.checkpoint = "models/default", .backend = GetParam()});
  const std::vector<int32_t> tokens = RandomTokens(/*seed=*/8, 2048, 8192);
  TestStream whole = harness.NewStream(), pieces = harness.NewStream();
  std::mt19937_64 random(9);
  for (int64_t at = 0; at < 2048; at += 64) {
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
  EXPECT_EQ(harness.EntryPositions(pieces), harness.EntryPositions(whole));
  EXPECT_EQ(StateBytes(harness, pieces), StateBytes(harness, whole));
  EXPECT_EQ(harness.Run(pieces, {1, 2, 3}), harness.Run(whole, {1, 2, 3}));
}

// A segment that is decoded token by token is what it is when it is appended at once.
TEST_P(DevicesTest, DecodeEqualsAppend) {
  ModelHarness harness({.checkpoint = "models/default", .backend = GetParam()});
  const std::vector<int32_t> tokens = RandomTokens(/*seed=*/5, 1024 + 100, 8192);
  TestStream at_once = harness.NewStream(), one_by_one = harness.NewStream();
  const std::vector<int32_t> first(tokens.begin(), tokens.begin() + 1024);
  for (TestStream* stream : {&at_once, &one_by_one}) {
    for (int part = 0; part < 2; ++part) {
      harness.Run(*stream, {first.begin() + 512 * part, first.begin() + 512 * (part + 1)});
    }
  }
  const std::vector<float> want = harness.Run(at_once, {tokens.begin() + 1024, tokens.end()});
  std::vector<float> got;
  for (auto token = tokens.begin() + 1024; token != tokens.end(); ++token) {
    const std::vector<float> logits = harness.Run(one_by_one, {*token});
    got.insert(got.end(), logits.begin(), logits.end());
  }
  // As of the shipped model's vectors (shipped_model_test.cc).
  EXPECT_LT(testing::RelativeError(got.data(), want.data(), static_cast<int64_t>(want.size())),
            is_rough() ? 0.1 : 1e-4);
}

// 5. Bytes after a million tokens are those after ten thousand, by the allocator's own count.
TEST_P(DevicesTest, ConstantMemoryOfAMillionTokens) {
  ModelHarness harness(
      {.checkpoint = "tests/testdata/tiny", .backend = GetParam(), .max_rows = 1024});
  TestStream stream = harness.NewStream();
  const auto append = [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += 1024) {
      std::vector<StreamStep> step = {
          harness.Step(stream, RandomTokens(/*seed=*/at, std::min<int64_t>(1024, end - at), 256))};
      ASSERT_TRUE(harness.model().Step(step).ok());
    }
  };
  append(0, 10'000);
  const int64_t bytes = harness.ops().allocated_bytes();
  append(10'000, 1'000'000);
  EXPECT_EQ(harness.ops().allocated_bytes(), bytes);
  EXPECT_EQ(stream.cursor.position, 1'000'000);
  // And what stands in the buffer is from the whole stream, not from its end alone.
  const std::vector<int32_t> positions = harness.EntryPositions(stream);
  EXPECT_LT(positions.front(), 900'000);
}

// 7. Same seed, same text; another seed, another text.
TEST_P(DevicesTest, SameSeedSameText) {
  const auto engine = testing::StartEngine(testing::ShippedModel(GetParam()));
  const std::string session = testing::CreateSession(*engine);
  ASSERT_TRUE(testing::Append(*engine, session, testing::Prose(6, 4000)).ok());
  const auto sample = [&](int64_t seed) {
    GenerateRequest request{.session = session, .prompt = std::string(" The")};
    request.sampling = {.temperature = 1.2, .has_seed = true, .seed = seed};
    request.stop = {.max_new_tokens = 40, .ignore_eos = true};
    return testing::Generate(*engine, request)->ids();
  };
  EXPECT_EQ(sample(1), sample(1));
  EXPECT_NE(sample(1), sample(2));
}

TEST_P(DevicesTest, ReplacementNoiseFollowsTheSessionsSeed) {
  const auto engine = testing::StartEngine(testing::ShippedModel(GetParam()));
  const std::string text = testing::Prose(7, 40000);
  const auto evidence = [&](int64_t seed) {
    SessionOptions options{.replacement_noise = 1, .seed = seed};
    const std::string session = testing::CreateSession(*engine, "", options);
    EXPECT_TRUE(testing::Append(*engine, session, text).ok());
    GenerateRequest request{.session = session, .prompt = std::string(" The"), .evidence = 1000};
    request.stop.max_new_tokens = 1;
    const auto answer = testing::Generate(*engine, request);
    EXPECT_TRUE(answer.ok()) << answer.status();
    std::vector<int64_t> positions;
    for (const Evidence& run : answer->summary.evidence) positions.push_back(run.position);
    EXPECT_TRUE(testing::DeleteSession(*engine, session).ok());
    return positions;
  };
  EXPECT_EQ(evidence(1), evidence(1));
  EXPECT_NE(evidence(1), evidence(2));
}

// 8. Counters come from the work itself: each retrieval reads its budget, and with a half-life so
// short that the newest always wins, each token that leaves the window takes the place of another.
TEST_P(DevicesTest, CountersAreOfRealWork) {
  ModelHarness harness({.checkpoint = "models/default", .backend = GetParam(), .max_rows = 512});
  TestStream stream = harness.NewStream();
  const MemoryConfig& memory = harness.memory();
  int64_t replaced = 0;
  std::vector<int32_t> retrieved;
  constexpr int64_t kTokens = 4096;
  for (int64_t at = 0; at < kTokens; at += 512) {
    StreamStep step = harness.Step(stream, RandomTokens(at, 512, 8192));
    step.write.log_growth = 100;
    const auto outcomes = harness.model().Step({&step, 1});
    ASSERT_TRUE(outcomes.ok()) << outcomes.status();
    replaced += outcomes->front().num_replaced;
    retrieved.insert(retrieved.end(), outcomes->front().retrieved.begin(),
                     outcomes->front().retrieved.end());
  }
  const int64_t left = kTokens - memory.segment - memory.window - memory.sinks;
  EXPECT_EQ(replaced, left - memory.capacity);
  const std::vector<int32_t> positions = harness.EntryPositions(stream);
  EXPECT_EQ(positions.front(), left + memory.sinks - memory.capacity);
  EXPECT_EQ(positions.back(), left + memory.sinks - 1);
  EXPECT_EQ(retrieved.size(), kTokens / memory.segment * memory.retrieval_layers.size());
  EXPECT_EQ(*std::max_element(retrieved.begin(), retrieved.end()), memory.budget);
  // Nothing has left the window when the first eight segments begin.
  EXPECT_EQ(std::count(retrieved.begin(), retrieved.end(), 0),
            memory.retrieval_layers.size() * (memory.window / memory.segment + 1));
}

// Isolation: a slot's next owner finds nothing of the last one.
TEST_P(DevicesTest, ASlotIsClearedBeforeReuse) {
  EngineOptions options = testing::ShippedModel(GetParam());
  options.max_sessions = 1;
  const auto engine = testing::StartEngine(options);
  const std::string text = testing::Prose(8, 3000);
  std::string session = testing::CreateSession(*engine);
  ASSERT_TRUE(testing::Append(*engine, session, text).ok());
  const Answer want = Ask(*engine, session);
  ASSERT_TRUE(testing::DeleteSession(*engine, session).ok());

  session = testing::CreateSession(*engine);
  ASSERT_TRUE(testing::Append(*engine, session, testing::Prose(9, 60000)).ok());
  ASSERT_TRUE(testing::DeleteSession(*engine, session).ok());
  session = testing::CreateSession(*engine);
  ASSERT_TRUE(testing::Append(*engine, session, text).ok());
  const Answer got = Ask(*engine, session);
  EXPECT_EQ(got.ids(), want.ids());
  EXPECT_EQ(Logprobs(got), Logprobs(want));
}

TEST_P(DevicesTest, AResetStateIsThatOfANewStream) {
  ModelHarness harness({.checkpoint = "tests/testdata/tiny", .backend = GetParam()});
  TestStream used = harness.NewStream(), fresh = harness.NewStream();
  harness.Run(used, RandomTokens(/*seed=*/11, 400, 256));
  EXPECT_NE(StateBytes(harness, used), StateBytes(harness, fresh));
  ASSERT_TRUE(ResetState(*used.layout, harness.ops(), used.state->data()).ok());
  EXPECT_EQ(StateBytes(harness, used), StateBytes(harness, fresh));
}

}  // namespace
}  // namespace rasq
