// Appends that are scored: the sums are those of the model's own logits, however the text is cut
// and whatever runs beside it, and the session does not know that it was scored.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/engine_group.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/answers.h"
#include "tests/support/backends.h"
#include "tests/support/engine_harness.h"
#include "tests/support/model_harness.h"
#include "tests/support/temporary_directory.h"

namespace rasq {
namespace {

using testing::Answer;
using testing::Append;
using testing::CreateSession;
using testing::Expected;
using testing::ExpectSameAnswer;
using ::testing::HasSubstr;
using testing::ModelHarness;
using testing::Prose;
using testing::ShippedModel;
using testing::StartEngine;
using testing::TestStream;
using Ids = std::vector<int32_t>;

// log softmax(logits)[token], in double precision.
double LogSoftmax(const float* logits, int64_t vocab, int32_t token) {
  const double most = *std::max_element(logits, logits + vocab);
  double sum = 0;
  for (int64_t i = 0; i < vocab; ++i) sum += std::exp(logits[i] - most);
  return logits[token] - most - std::log(sum);
}

Ids RandomIds(uint64_t seed, int64_t count) {
  std::mt19937_64 random(seed);
  Ids ids(count);
  for (int32_t& id : ids) id = 300 + static_cast<int32_t>(random() % 7000);
  return ids;
}

template <typename AnyEngine>
absl::StatusOr<AppendResult> TryScore(AnyEngine& engine, const std::string& session,
                                      Content content) {
  auto pending = std::make_shared<testing::Pending<absl::StatusOr<AppendResult>>>();
  RASQ_RETURN_IF_ERROR(
      engine
          .Append({.session = session, .content = std::move(content), .score = true},
                  [pending](absl::StatusOr<AppendResult> result) { pending->Set(result); })
          .status());
  return pending->Wait();
}

template <typename AnyEngine>
AppendResult Score(AnyEngine& engine, const std::string& session, Content content) {
  const absl::StatusOr<AppendResult> result = TryScore(engine, session, std::move(content));
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *result : AppendResult();
}

template <typename AnyEngine>
Answer Ask(AnyEngine& engine, const std::string& session) {
  GenerateRequest request{.session = session, .prompt = std::string("\nAnswer:"), .logprobs = 5};
  request.stop = {.max_new_tokens = 16, .ignore_eos = true};
  const auto answer = testing::Generate(engine, std::move(request));
  EXPECT_TRUE(answer.ok()) << answer.status();
  return answer.ok() ? *answer : Answer();
}

// The tiny model's reference logits, of 192 tokens in one step: three blocks of rows, of which some
// have no target, beside a stream that asks for none.
TEST(ScoresModelTest, TargetsAreTheReferencesLogSoftmax) {
  constexpr int64_t kVocab = 256, kTokens = 192;
  const auto file =
      SafetensorsFile::Open(testing::SourcePath("tests/testdata/tiny/expected.safetensors"));
  ASSERT_TRUE(file.ok()) << file.status();
  const Ids tokens = *Expected(**file, "tokens").ToInts();
  const std::vector<float> logits = *Expected(**file, "logits_capacity_24").ToFloats();
  ModelHarness harness({.checkpoint = "tests/testdata/tiny", .capacity = 24});
  TestStream other = harness.NewStream(), stream = harness.NewStream();
  std::vector<StreamStep> steps = {
      harness.Step(other, {tokens.begin() + kTokens, tokens.begin() + kTokens + 40}),
      harness.Step(stream, {tokens.begin(), tokens.begin() + kTokens})};
  for (int64_t t = 0; t < kTokens; ++t) {
    steps[1].targets.push_back(t % 5 == 3 ? -1 : tokens[(t + 1) % kTokens]);
  }
  const auto outcomes = harness.model().Step(steps);
  ASSERT_TRUE(outcomes.ok()) << outcomes.status();
  EXPECT_TRUE((*outcomes)[0].target_logprobs.empty());
  const std::vector<float>& got = (*outcomes)[1].target_logprobs;
  ASSERT_EQ(got.size(), static_cast<size_t>(kTokens));
  for (int64_t t = 0; t < kTokens; ++t) {
    const int32_t target = steps[1].targets[t];
    const double want = target < 0 ? 0 : LogSoftmax(logits.data() + t * kVocab, kVocab, target);
    EXPECT_NEAR(got[t], want, 2e-3) << t;  // logits to 20, equal to 1e-4 of the largest
  }
}

using ScoresTest = testing::BackendTest;
INSTANTIATE_TEST_SUITE_P(All, ScoresTest, ::testing::Values("float32", "bfloat16", "cuda"),
                         testing::BackendName);

// Beyond the window, so that the memory is read.
TEST_P(ScoresTest, SumsAreOfTheModelsLogits) {
  const Ids ids = RandomIds(1, 1200);
  ModelHarness harness({.checkpoint = "models/default", .backend = GetParam(), .max_rows = 2048});
  TestStream stream = harness.NewStream();
  const std::vector<float> logits = harness.Run(stream, ids);
  const int64_t vocab = harness.model().config().vocab;
  double want = 0;
  for (size_t t = 0; t + 1 < ids.size(); ++t) {
    want += LogSoftmax(logits.data() + t * vocab, vocab, ids[t + 1]);
  }
  const auto engine = StartEngine(ShippedModel(GetParam()));
  const AppendResult got = Score(*engine, CreateSession(*engine), ids);
  EXPECT_EQ(got.appended_tokens, 1200);
  EXPECT_EQ(got.scored_tokens, 1199);
  // The same logits but for the last segment's, of which the last row is not run.
  EXPECT_NEAR(got.logprob_sum / want, 1, 1e-5);
}

// Text in pieces that cut words, segments and characters, some of a byte.
TEST_P(ScoresTest, CutsChangeNeitherSumsNorTheSession) {
  const auto engine = StartEngine(ShippedModel(GetParam()));
  const std::string text = Prose(/*seed=*/1, /*characters=*/5000) + " caf\u00e9 done";
  const std::string unscored = CreateSession(*engine), whole = CreateSession(*engine);
  const auto appended = Append(*engine, unscored, text);
  ASSERT_TRUE(appended.ok()) << appended.status();
  EXPECT_EQ(appended->scored_tokens, 0);
  EXPECT_EQ(appended->logprob_sum, 0);
  const Answer answer = Ask(*engine, unscored);
  const AppendResult want = Score(*engine, whole, text);
  EXPECT_EQ(want.appended_tokens, appended->appended_tokens);
  EXPECT_EQ(want.scored_tokens, want.appended_tokens - 1);
  EXPECT_LT(want.logprob_sum, 0);
  ExpectSameAnswer(Ask(*engine, whole), answer);

  std::mt19937_64 random(2);
  for (const int64_t longest : {40, 900}) {
    const std::string session = CreateSession(*engine);
    AppendResult sum;
    for (size_t at = 0; at < text.size();) {
      const size_t size = 1 + random() % longest;
      const AppendResult piece = Score(*engine, session, text.substr(at, size));
      EXPECT_EQ(piece.scored_tokens,
                piece.appended_tokens - (sum.appended_tokens == 0 && piece.appended_tokens > 0));
      sum.appended_tokens += piece.appended_tokens;
      sum.scored_tokens += piece.scored_tokens;
      sum.logprob_sum += piece.logprob_sum;
      at += size;
    }
    EXPECT_EQ(sum.scored_tokens, want.scored_tokens) << "pieces to " << longest;
    // Parts of less than 9 rows are equal to rounding alone: of bfloat16, 2^-8 of a logit.
    EXPECT_NEAR(sum.logprob_sum / want.logprob_sum, 1, is_rough() ? 2e-3 : 1e-5)
        << "pieces to " << longest;
    ExpectSameAnswer(Ask(*engine, session), answer);
  }
}

// The scores are of the appends that ask, whatever stands before and behind them.
TEST_P(ScoresTest, OnlyAppendsThatAskAreScored) {
  const auto engine = StartEngine(ShippedModel(GetParam()));
  const Ids ids = RandomIds(3, 500);
  const std::string whole = CreateSession(*engine), parts = CreateSession(*engine);
  const auto part = [&](int64_t begin, int64_t end) {
    return Ids(ids.begin() + begin, ids.begin() + end);
  };
  const AppendResult first = Score(*engine, whole, part(0, 130));
  const AppendResult second = Score(*engine, whole, part(130, 400));
  EXPECT_EQ(first.scored_tokens, 129);
  EXPECT_EQ(second.scored_tokens, 270);  // its first token too
  ASSERT_TRUE(Append(*engine, parts, part(0, 130)).ok());
  // All at once, so that they meet in the same steps.
  std::vector<std::shared_ptr<testing::Pending<absl::StatusOr<AppendResult>>>> pending;
  const std::vector<int64_t> cuts = {130, 131, 399, 400, 500};
  for (size_t i = 0; i + 1 < cuts.size(); ++i) {
    pending.push_back(std::make_shared<testing::Pending<absl::StatusOr<AppendResult>>>());
    ASSERT_TRUE(
        engine
            ->Append({.session = parts, .content = part(cuts[i], cuts[i + 1]), .score = i < 3},
                     [p = pending.back()](absl::StatusOr<AppendResult> r) { p->Set(r); })
            .ok());
  }
  AppendResult sum;
  for (size_t i = 0; i < pending.size(); ++i) {
    const absl::StatusOr<AppendResult> result = pending[i]->Wait();
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->scored_tokens, i < 3 ? result->appended_tokens : 0) << i;
    EXPECT_EQ(result->context_tokens, cuts[i + 1]);
    sum.logprob_sum += result->logprob_sum;
  }
  EXPECT_NEAR(sum.logprob_sum / second.logprob_sum, 1, is_rough() ? 2e-3 : 1e-5);
}

TEST_P(ScoresTest, TheFirstTokenHasNoPrediction) {
  const auto engine = StartEngine(ShippedModel(GetParam()));
  const std::string session = CreateSession(*engine);
  EXPECT_EQ(Score(*engine, session, Ids{400}).scored_tokens, 0);
  const AppendResult second = Score(*engine, session, Ids{401});
  EXPECT_EQ(second.scored_tokens, 1);
  EXPECT_LT(second.logprob_sum, 0);
  EXPECT_EQ(Score(*engine, session, Ids{}).scored_tokens, 0);
}

// Others append, score and generate meanwhile; of the two work slots that scoring needs to read
// ahead, generations want all.
TEST_P(ScoresTest, DoesNotDependOnTheBatch) {
  EngineOptions options = ShippedModel(GetParam());
  options.max_generations = 2;
  const auto engine = StartEngine(options);
  const std::string text = Prose(/*seed=*/5, /*characters=*/4000);
  const AppendResult want = Score(*engine, CreateSession(*engine, "alone"), text);
  const Answer answer = Ask(*engine, "alone");

  std::vector<std::shared_ptr<testing::CollectingSink>> sinks;
  std::vector<std::shared_ptr<testing::Pending<absl::StatusOr<AppendResult>>>> scores;
  for (int i = 0; i < 4; ++i) {
    const std::string other = CreateSession(*engine);
    ASSERT_TRUE(Append(*engine, other, Prose(10 + i, 1000)).ok());
    GenerateRequest request{.session = other, .prompt = std::string("And then")};
    request.stop = {.max_new_tokens = 30, .ignore_eos = true};
    sinks.push_back(std::make_shared<testing::CollectingSink>());
    ASSERT_TRUE(engine->Generate(request, sinks.back()).ok());
    scores.push_back(std::make_shared<testing::Pending<absl::StatusOr<AppendResult>>>());
    ASSERT_TRUE(engine
                    ->Append({.session = other, .content = text, .score = true},
                             [p = scores.back()](absl::StatusOr<AppendResult> r) { p->Set(r); })
                    .ok());
  }
  const AppendResult got = Score(*engine, CreateSession(*engine, "crowded"), text);
  EXPECT_EQ(got.scored_tokens, want.scored_tokens);
  EXPECT_NEAR(got.logprob_sum / want.logprob_sum, 1, 1e-9);
  ExpectSameAnswer(Ask(*engine, "crowded"), answer);
  for (const auto& sink : sinks) EXPECT_TRUE(sink->Wait().ok());
  for (const auto& score : scores) {
    const auto result = score->Wait();
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->scored_tokens, result->appended_tokens);
  }
}

// Within the window all strategies read the same.
TEST_P(ScoresTest, EveryStrategyWithAStateIsScored) {
  EngineOptions options = ShippedModel(GetParam());
  options.strategies = {Strategy::kRasq, Strategy::kWindow, Strategy::kFull,
                        Strategy::kGca,  Strategy::kRazor,  Strategy::kPyramid};
  options.baselines.razor_prompt_tokens = 64;
  const auto engine = StartEngine(options);
  const Ids ids = RandomIds(7, 200);
  const double want = Score(*engine, CreateSession(*engine), ids).logprob_sum;
  for (const Strategy strategy : options.strategies) {
    const std::string session = CreateSession(*engine, Name(strategy), {.strategy = strategy});
    const AppendResult got = Score(*engine, session, ids);
    EXPECT_EQ(got.scored_tokens, 199) << Name(strategy);
    EXPECT_NEAR(got.logprob_sum / want, 1, is_rough() ? 2e-3 : 1e-5) << Name(strategy);
    EXPECT_EQ(Score(*engine, session, Ids{500, 501}).scored_tokens, 2) << Name(strategy);
  }
}

// Sessions whose states are in host memory, on disk and in the log.
TEST_P(ScoresTest, ParkedAndDurableSessionsAreScored) {
  const testing::TemporaryDirectory directory;
  EngineOptions options = ShippedModel(GetParam());
  options.max_sessions = 1;
  options.state_dir = directory.path();
  options.durable = true;
  const auto group = EngineGroup::Create(options, /*observer=*/nullptr,
                                         [](const std::string& line) { ADD_FAILURE() << line; });
  ASSERT_TRUE(group.ok()) << group.status();
  EngineGroup& engine = **group;
  const Ids ids = RandomIds(9, 300);
  const AppendResult want = Score(engine, CreateSession(engine, "whole"), ids);
  std::vector<AppendResult> sums(2);
  for (int i = 0; i < 2; ++i) CreateSession(engine, std::to_string(i));
  for (int64_t at = 0; at < 300; at += 50) {
    for (int i = 0; i < 2; ++i) {
      const AppendResult part =
          Score(engine, std::to_string(i), Ids(ids.begin() + at, ids.begin() + at + 50));
      sums[i].scored_tokens += part.scored_tokens;
      sums[i].logprob_sum += part.logprob_sum;
    }
  }
  for (const AppendResult& sum : sums) {
    EXPECT_EQ(sum.scored_tokens, want.scored_tokens);
    EXPECT_NEAR(sum.logprob_sum / want.logprob_sum, 1, is_rough() ? 2e-3 : 1e-5);
  }
}

TEST_P(ScoresTest, ADeletedSessionsScoresEnd) {
  const auto engine = StartEngine(ShippedModel(GetParam()));
  const std::string session = CreateSession(*engine);
  auto pending = std::make_shared<testing::Pending<absl::StatusOr<AppendResult>>>();
  ASSERT_TRUE(engine
                  ->Append({.session = session, .content = Prose(1, 8000), .score = true},
                           [pending](absl::StatusOr<AppendResult> r) { pending->Set(r); })
                  .ok());
  EXPECT_TRUE(testing::DeleteSession(*engine, session).ok());
  const absl::Status status = pending->Wait().status();
  EXPECT_TRUE(status.ok() || absl::IsAborted(status)) << status;
}

TEST_P(ScoresTest, RefusesWhatHasNoScores) {
  const auto engine = StartEngine(ShippedModel(GetParam()));
  SessionOptions options{.strategy = Strategy::kRag};
  options.rag.chunk_tokens = 64;
  const std::string rag = CreateSession(*engine, "rag", options);
  const absl::Status of_rag = TryScore(*engine, rag, std::string("A text.")).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(of_rag)) << of_rag;
  EXPECT_THAT(std::string(of_rag.message()), HasSubstr("score=true: strategy rag"));

  const std::string session = CreateSession(*engine);
  const int32_t hidden = engine->model().hidden;
  const EmbeddingRows rows{.rows = 1, .values = std::vector<float>(hidden, 0.1f)};
  const absl::Status of_rows = TryScore(*engine, session, rows).status();
  EXPECT_TRUE(absl::IsInvalidArgument(of_rows)) << of_rows;
  EXPECT_THAT(std::string(of_rows.message()), HasSubstr("score=true"));
  EXPECT_THAT(std::string(of_rows.message()), HasSubstr("content.embeddings"));
  EXPECT_EQ(engine->GetSession(session)->next_offset, 0);
  // Tokens behind rows have a prediction.
  ASSERT_TRUE(Append(*engine, session, rows).ok());
  EXPECT_EQ(Score(*engine, session, Ids{400, 401}).scored_tokens, 2);
}

}  // namespace
}  // namespace rasq
