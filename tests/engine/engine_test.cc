// The engine's calls: what each accepts and refuses, and what it leaves behind.
#include "engine/engine.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "engine/checkpoint.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/answers.h"
#include "tests/support/engine_harness.h"
#include "tests/support/model_harness.h"

namespace rasq {
namespace {

using testing::Answer;
using testing::Append;
using testing::CollectingSink;
using testing::CreateSession;
using testing::DeleteSession;
using testing::ExpectError;
using testing::Generate;
using ::testing::HasSubstr;
using testing::Pending;
using testing::Prose;

class EngineTest : public ::testing::Test {
 protected:
  EngineTest() : engine_(testing::StartEngine(testing::ShippedModel())) {}

  GenerateRequest Request(const std::string& session, const std::string& prompt,
                          int32_t max_new_tokens = 8) {
    GenerateRequest request{.session = session, .prompt = prompt};
    request.stop = {.max_new_tokens = max_new_tokens, .ignore_eos = true};
    return request;
  }
  SessionInfo Info(const std::string& session) { return *engine_->GetSession(session); }

  const std::unique_ptr<Engine> engine_;
};

TEST_F(EngineTest, ModelAndDefaults) {
  const ModelInfo& model = engine_->model();
  EXPECT_EQ(model.name, "default");
  EXPECT_EQ(model.architecture, "Qwen3ForCausalLM");
  EXPECT_EQ(model.vocab, 8192);
  EXPECT_EQ(model.capacity_tokens, 1024);
  EXPECT_EQ(model.session_slots, 8);
  EXPECT_EQ(model.entry_type, "float32");
  const SessionInfo session = *engine_->CreateSession({});
  EXPECT_EQ(session.options.strategy, Strategy::kRasq);
  EXPECT_EQ(session.options.budget_tokens, 128);
  EXPECT_EQ(session.state_bytes, model.session_state_bytes);
  EXPECT_EQ(session.expire_time, absl::InfiniteFuture());
}

TEST_F(EngineTest, CreateRefusesWhatItCannotServe) {
  const auto create = [&](CreateSessionRequest request) {
    return engine_->CreateSession(request).status();
  };
  using Code = absl::StatusCode;
  ExpectError(create({.id = "a b"}), Code::kInvalidArgument, "session_id=\"a b\"");
  ExpectError(create({.id = std::string(129, 'a')}), Code::kInvalidArgument, "session_id=");
  ExpectError(create({.options = {.budget_tokens = 129}}), Code::kInvalidArgument,
              "options.retrieval_budget_tokens=129: must be from 1 to 128");
  ExpectError(create({.options = {.half_life_tokens = -1}}), Code::kInvalidArgument,
              "options.half_life_tokens=-1");
  ExpectError(create({.options = {.replacement_noise = NAN}}), Code::kInvalidArgument,
              "options.replacement_noise=nan");
  ExpectError(create({.options = {.ttl = -absl::Seconds(1)}}), Code::kInvalidArgument,
              "options.ttl=-1s");
  EXPECT_TRUE(create({.id = "taken"}).ok());
  ExpectError(create({.id = "taken"}), Code::kAlreadyExists, "session_id=taken");
}

TEST_F(EngineTest, ARepeatedCreateGivesTheSameSession) {
  const auto first = engine_->CreateSession({.request_id = "r1"});
  const auto again = engine_->CreateSession({.request_id = "r1"});
  ASSERT_TRUE(first.ok() && again.ok());
  EXPECT_EQ(first->id, again->id);
  EXPECT_EQ(engine_->Stats().sessions_open, 1);
  ASSERT_TRUE(DeleteSession(*engine_, first->id).ok());
  EXPECT_NE(engine_->CreateSession({.request_id = "r1"})->id, "");
}

TEST_F(EngineTest, CapacityIsRefusedAndComesBack) {
  std::vector<std::string> sessions;
  for (int i = 0; i < 8; ++i) sessions.push_back(CreateSession(*engine_));
  ExpectError(engine_->CreateSession({}).status(), absl::StatusCode::kResourceExhausted,
              "all 8 places");
  ASSERT_TRUE(DeleteSession(*engine_, sessions[3]).ok());
  EXPECT_TRUE(engine_->CreateSession({}).ok());
}

TEST_F(EngineTest, ListPages) {
  for (const char* id : {"c", "a", "b"}) CreateSession(*engine_, id);
  const auto first = engine_->ListSessions("", 2, "");
  ASSERT_TRUE(first.ok());
  ASSERT_EQ(first->sessions.size(), 2u);
  EXPECT_EQ(first->sessions[0].id, "a");
  EXPECT_EQ(first->sessions[1].id, "b");
  const auto second = engine_->ListSessions("", 2, first->next_page_token);
  ASSERT_EQ(second->sessions.size(), 1u);
  EXPECT_EQ(second->sessions[0].id, "c");
  EXPECT_EQ(second->next_page_token, "");
  EXPECT_EQ(engine_->ListSessions("", -1, "").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(engine_->ListSessions("", 0, "not one").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(EngineTest, UnknownSessionsAreNotFound) {
  using Code = absl::StatusCode;
  ExpectError(engine_->GetSession("x").status(), Code::kNotFound, "session_id=\"x\"");
  ExpectError(Append(*engine_, "x", std::string("a")).status(), Code::kNotFound, "\"x\"");
  ExpectError(Generate(*engine_, Request("x", "a")).status(), Code::kNotFound, "\"x\"");
  ExpectError(DeleteSession(*engine_, "x"), Code::kNotFound, "\"x\"");
}

TEST_F(EngineTest, AppendCountsTokensAndOffsets) {
  const std::string session = CreateSession(*engine_);
  auto result = Append(*engine_, session, std::string("One two three. "));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->next_offset, 15);
  // A BOS token stands first, once; the last word waits for what follows it.
  EXPECT_EQ(Info(session).next_offset, 15);
  result = Append(*engine_, session, std::vector<int32_t>{5, 6, 7});
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->next_offset, 18);
  const int64_t text = engine_->tokenizer().Encode("One two three. ").size();
  EXPECT_EQ(result->context_tokens, 1 + text + 3);
  EXPECT_EQ(Info(session).context_tokens, result->context_tokens);
  EXPECT_EQ(Info(session).backlog_tokens, 0);

  result = Append(*engine_, session, std::string());
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->appended_tokens, 0);
  EXPECT_EQ(result->next_offset, 18);
}

TEST_F(EngineTest, TokenIdsAreTakenAsTheyAre) {
  const std::string session = CreateSession(*engine_);
  EXPECT_EQ(Append(*engine_, session, std::vector<int32_t>{5, 6})->context_tokens, 2);
}

TEST_F(EngineTest, AppendRefusesBadContent) {
  const std::string session = CreateSession(*engine_);
  using Code = absl::StatusCode;
  ExpectError(Append(*engine_, session, std::monostate()).status(), Code::kInvalidArgument,
              "content: is not set");
  ExpectError(Append(*engine_, session, std::vector<int32_t>{1, 8192}).status(),
              Code::kInvalidArgument, "content.token_ids.ids[1]=8192: must be from 0 to 8191");
  ExpectError(Append(*engine_, session, std::vector<int32_t>{-1}).status(), Code::kInvalidArgument,
              "content.token_ids.ids[0]=-1");
  ExpectError(Append(*engine_, session, EmbeddingRows{.rows = 2, .values = {1, 2}}).status(),
              Code::kInvalidArgument, "content.embeddings: rows=2 with 2 values");
  EmbeddingRows rows{.rows = 1, .values = std::vector<float>(384)};
  rows.values[7] = std::numeric_limits<float>::infinity();
  ExpectError(Append(*engine_, session, rows).status(), Code::kInvalidArgument,
              "content.embeddings: value 7 is not finite");
  EXPECT_EQ(Info(session).next_offset, 0);
}

TEST_F(EngineTest, AWrongOffsetIsRefused) {
  const std::string session = CreateSession(*engine_);
  const auto append = [&](int64_t offset) {
    return engine_
        ->Append({.session = session, .content = std::string("abc"), .offset = offset},
                 [](const absl::StatusOr<AppendResult>&) {})
        .status();
  };
  EXPECT_TRUE(append(0).ok());
  ExpectError(append(0), absl::StatusCode::kOutOfRange, "offset=0: next_offset is 3");
  EXPECT_TRUE(append(3).ok());
}

TEST_F(EngineTest, EmbeddingsOfTokensAreThoseTokens) {
  const std::vector<int32_t> ids = engine_->tokenizer().Encode(Prose(1, 3000));
  const auto checkpoint = *Checkpoint::Open(testing::SourcePath("models/default"));
  const std::vector<float> table = *checkpoint->Floats("model.embed_tokens.weight", {8192, 384});
  EmbeddingRows rows{.rows = static_cast<int32_t>(ids.size())};
  for (const int32_t id : ids) {
    rows.values.insert(rows.values.end(), table.begin() + id * 384, table.begin() + (id + 1) * 384);
  }
  const std::string tokens = CreateSession(*engine_), embedded = CreateSession(*engine_);
  ASSERT_TRUE(Append(*engine_, tokens, ids).ok());
  ASSERT_TRUE(Append(*engine_, embedded, rows).ok());
  EXPECT_EQ(Generate(*engine_, Request(tokens, " The"))->ids(),
            Generate(*engine_, Request(embedded, " The"))->ids());
}

TEST(EnginePinnedTest, PinnedTextStaysAndHasAQuota) {
  EngineOptions options = testing::ShippedModel();
  options.capacity_tokens = 128;  // as many as are read: evidence is all of the buffer
  const auto engine = testing::StartEngine(options);
  const std::string session = CreateSession(*engine);
  ASSERT_TRUE(Append(*engine, session, std::string("Begin. ")).ok());
  const std::string pinned = "The harbour master's name is Ysolde Quarrington.";
  ASSERT_TRUE(Append(*engine, session, pinned, /*pinned=*/true).ok());
  ASSERT_TRUE(Append(*engine, session, Prose(2, 20000)).ok());
  GenerateRequest request{.session = session, .prompt = std::string(" The"), .evidence = 1000};
  request.stop.max_new_tokens = 1;
  const auto answer = Generate(*engine, request);
  ASSERT_TRUE(answer.ok()) << answer.status();
  std::string read;
  for (const Evidence& run : answer->summary.evidence) {
    if (run.position < 40) read += run.text;
  }
  EXPECT_THAT(read, HasSubstr(pinned));
  ExpectError(Append(*engine, session, Prose(3, 1000), /*pinned=*/true).status(),
              absl::StatusCode::kResourceExhausted, "pinned:");
  const std::string window = CreateSession(*engine, "", {.strategy = Strategy::kWindow});
  ExpectError(Append(*engine, window, std::string("x"), /*pinned=*/true).status(),
              absl::StatusCode::kFailedPrecondition, "pinned=true");
}

TEST_F(EngineTest, GenerateRefusesBadFields) {
  const std::string session = CreateSession(*engine_);
  ASSERT_TRUE(Append(*engine_, session, std::string("Hello there. ")).ok());
  const auto generate = [&](auto change) {
    GenerateRequest request = Request(session, "x");
    change(request);
    return Generate(*engine_, request).status();
  };
  using Code = absl::StatusCode;
  using R = GenerateRequest;
  ExpectError(generate([](R& r) { r.sampling.temperature = -1; }), Code::kInvalidArgument,
              "sampling.temperature=-1");
  ExpectError(generate([](R& r) { r.sampling.top_p = 1.5; }), Code::kInvalidArgument,
              "sampling.top_p=1.5");
  ExpectError(generate([](R& r) { r.sampling.top_k = -2; }), Code::kInvalidArgument,
              "sampling.top_k=-2");
  ExpectError(generate([](R& r) { r.sampling.presence_penalty = NAN; }), Code::kInvalidArgument,
              "sampling.presence_penalty=nan");
  ExpectError(generate([](R& r) { r.stop.max_new_tokens = 1 << 20; }), Code::kInvalidArgument,
              "stop.max_new_tokens=1048576");
  ExpectError(generate([](R& r) { r.stop.min_new_tokens = 9; }), Code::kInvalidArgument,
              "stop.min_new_tokens=9");
  ExpectError(generate([](R& r) { r.stop.stop_strings = {""}; }), Code::kInvalidArgument,
              "stop.stop_strings[0].size=0");
  ExpectError(generate([](R& r) { r.stop.stop_token_ids = {9000}; }), Code::kInvalidArgument,
              "stop.stop_token_ids[0]=9000");
  ExpectError(generate([](R& r) { r.logprobs = 21; }), Code::kInvalidArgument, "logprobs=21");
  ExpectError(generate([](R& r) { r.evidence = -1; }), Code::kInvalidArgument, "evidence=-1");
  ExpectError(generate([](R& r) { r.prompt = std::vector<int32_t>{8192}; }), Code::kInvalidArgument,
              "ids[0]=8192");
  const std::string empty = CreateSession(*engine_);
  ExpectError(Generate(*engine_, Request(empty, "")).status(), Code::kFailedPrecondition,
              "prompt: is empty");
}

TEST_F(EngineTest, DiscardLeavesNoTrace) {
  const std::string session = CreateSession(*engine_), same = CreateSession(*engine_);
  const std::string text = Prose(4, 5000) + "the last wor";
  for (const auto& id : {session, same}) ASSERT_TRUE(Append(*engine_, id, text).ok());
  const SessionInfo before = Info(session);
  ASSERT_TRUE(Generate(*engine_, Request(session, "What now?", 70)).ok());
  EXPECT_EQ(Info(session).context_tokens, before.context_tokens);
  for (const auto& id : {session, same}) ASSERT_TRUE(Append(*engine_, id, std::string("ds")).ok());
  EXPECT_EQ(Generate(*engine_, Request(session, " And"))->ids(),
            Generate(*engine_, Request(same, " And"))->ids());
}

TEST_F(EngineTest, CommitMakesPromptAndOutputContext) {
  const std::string committed = CreateSession(*engine_);
  ASSERT_TRUE(Append(*engine_, committed, Prose(5, 5000)).ok());
  GenerateRequest request = Request(committed, " What now?", 20);
  request.commit = true;
  const auto answer = Generate(*engine_, request);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(Info(committed).context_tokens,
            answer->summary.context_tokens + answer->summary.prompt_tokens + 20);
  EXPECT_EQ(answer->summary.finish_reason, FinishReason::kLength);

  // With DISCARD and the same text said by hand the next answer is another only by where segments
  // were cut; committed twice from the same start it is the same.
  const std::string again = CreateSession(*engine_);
  ASSERT_TRUE(Append(*engine_, again, Prose(5, 5000)).ok());
  request.session = again;
  ASSERT_EQ(Generate(*engine_, request)->ids(), answer->ids());
  EXPECT_EQ(Generate(*engine_, Request(again, " And then", 20))->ids(),
            Generate(*engine_, Request(committed, " And then", 20))->ids());
}

TEST_F(EngineTest, CommitOfAStopStringLeavesItOut) {
  const std::string session = CreateSession(*engine_);
  ASSERT_TRUE(Append(*engine_, session, Prose(6, 2000)).ok());
  GenerateRequest request = Request(session, " The", 40);
  const std::string text = Generate(*engine_, request)->text;
  ASSERT_GT(text.size(), 12u);
  request.stop.stop_strings = {text.substr(8, 4)};
  request.commit = true;
  const auto answer = Generate(*engine_, request);
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->summary.finish_reason, FinishReason::kStop);
  EXPECT_EQ(answer->text, text.substr(0, text.find(text.substr(8, 4))));
  const int64_t said = engine_->tokenizer().Encode(answer->text).size();
  EXPECT_LE(Info(session).context_tokens,
            answer->summary.context_tokens + answer->summary.prompt_tokens + said + 1);
}

TEST_F(EngineTest, ASecondGenerationIsAborted) {
  const std::string session = CreateSession(*engine_);
  ASSERT_TRUE(Append(*engine_, session, Prose(7, 2000)).ok());
  auto sink = std::make_shared<CollectingSink>();
  const auto generation = engine_->Generate(Request(session, " The", 60000), sink);
  ASSERT_TRUE(generation.ok());
  ExpectError(Generate(*engine_, Request(session, " A")).status(), absl::StatusCode::kAborted,
              "another generation");
  engine_->Cancel(*generation);
  EXPECT_EQ(sink->Wait().status().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(Generate(*engine_, Request(session, " A")).ok());
}

TEST_F(EngineTest, CancelRollsACommitBack) {
  const std::string session = CreateSession(*engine_), same = CreateSession(*engine_);
  const std::string text = Prose(8, 3000) + "half a wor";
  for (const auto& id : {session, same}) ASSERT_TRUE(Append(*engine_, id, text).ok());
  GenerateRequest request = Request(session, " The", 60000);
  request.commit = true;
  auto sink = std::make_shared<CollectingSink>();
  const auto generation = engine_->Generate(request, sink);
  ASSERT_TRUE(generation.ok());
  sink->WaitForTokens(5);
  engine_->Cancel(*generation);
  EXPECT_EQ(sink->Wait().status().code(), absl::StatusCode::kCancelled);
  // The word that the commit cut goes on as if nothing had been.
  for (const auto& id : {session, same}) {
    ASSERT_TRUE(Append(*engine_, id, std::string("d, and more. ")).ok());
  }
  EXPECT_EQ(Info(session).context_tokens, Info(same).context_tokens);
  EXPECT_EQ(Generate(*engine_, Request(session, " And"))->ids(),
            Generate(*engine_, Request(same, " And"))->ids());
  EXPECT_EQ(engine_->Stats().generations_running, 0);
}

TEST_F(EngineTest, ACancelledGenerationDoesNotStandInTheWay) {
  const std::string session = CreateSession(*engine_), same = CreateSession(*engine_);
  for (const auto& id : {session, same}) {
    ASSERT_TRUE(Append(*engine_, id, Prose(8, 3000) + "half a wor").ok());
  }
  const std::vector<int32_t> want = Generate(*engine_, Request(same, " And"))->ids();
  for (int i = 0; i < 20; ++i) {
    GenerateRequest request = Request(session, " The", 60000);
    request.commit = true;
    auto sink = std::make_shared<CollectingSink>();
    const auto generation = engine_->Generate(request, sink);
    ASSERT_TRUE(generation.ok()) << generation.status();
    engine_->Cancel(*generation);
    // At once: the engine may not have come to the end of the last one yet.
    const auto answer = Generate(*engine_, Request(session, " And"));
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(answer->ids(), want) << "at try " << i;
    EXPECT_EQ(sink->Wait().status().code(), absl::StatusCode::kCancelled);
  }
}

TEST_F(EngineTest, TextSaidDuringACommitComesAfterIt) {
  const std::string session = CreateSession(*engine_);
  ASSERT_TRUE(Append(*engine_, session, Prose(9, 3000)).ok());
  GenerateRequest request = Request(session, " The", 200);
  request.commit = true;
  auto sink = std::make_shared<CollectingSink>();
  ASSERT_TRUE(engine_->Generate(request, sink).ok());
  sink->WaitForTokens(1);
  const auto appended = Append(*engine_, session, std::vector<int32_t>{1, 2, 3});
  ASSERT_TRUE(appended.ok());
  const auto answer = sink->Wait();
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(appended->context_tokens,
            answer->summary.context_tokens + answer->summary.prompt_tokens + 200 + 3);
}

TEST_F(EngineTest, MoreGenerationsThanPlacesWaitTheirTurn) {
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (int i = 0; i < 7; ++i) {
    const std::string session = CreateSession(*engine_);
    ASSERT_TRUE(Append(*engine_, session, Prose(10 + i, 500)).ok());
    sinks.push_back(std::make_shared<CollectingSink>());
    ASSERT_TRUE(engine_->Generate(Request(session, " The", 30), sinks.back()).ok());
  }
  for (const auto& sink : sinks) {
    const auto answer = sink->Wait();
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(answer->tokens.size(), 30u);
  }
}

TEST_F(EngineTest, DeleteWaitsForGenerationsAndDropsText) {
  const std::string session = CreateSession(*engine_);
  ASSERT_TRUE(Append(*engine_, session, Prose(11, 500)).ok());
  auto sink = std::make_shared<CollectingSink>();
  ASSERT_TRUE(engine_->Generate(Request(session, " The", 100), sink).ok());
  auto absorbed = std::make_shared<Pending<absl::StatusOr<AppendResult>>>();
  ASSERT_TRUE(engine_
                  ->Append({.session = session, .content = Prose(12, 4'000'000)},
                           [absorbed](const absl::StatusOr<AppendResult>& r) { absorbed->Set(r); })
                  .ok());
  auto deleted = std::make_shared<Pending<absl::Status>>();
  engine_->DeleteSession(session, [deleted](absl::Status status) { deleted->Set(status); });
  ExpectError(Append(*engine_, session, std::string("x")).status(),
              absl::StatusCode::kFailedPrecondition, "is being deleted");
  EXPECT_TRUE(sink->Wait().ok());
  EXPECT_EQ(absorbed->Wait().status().code(), absl::StatusCode::kAborted);
  EXPECT_TRUE(deleted->Wait().ok());
  EXPECT_EQ(engine_->GetSession(session).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(engine_->Stats().backlog_tokens, 0);
  EXPECT_EQ(engine_->Stats().slots_used, 0);
}

TEST_F(EngineTest, DeleteInTheMiddleOfAnAppendLeavesNoBacklog) {
  const std::string session = CreateSession(*engine_);
  auto absorbed = std::make_shared<Pending<absl::StatusOr<AppendResult>>>();
  ASSERT_TRUE(engine_
                  ->Append({.session = session, .content = Prose(12, 4'000'000)},
                           [absorbed](const absl::StatusOr<AppendResult>& r) { absorbed->Set(r); })
                  .ok());
  while (Info(session).context_tokens == 0) absl::SleepFor(absl::Milliseconds(1));
  ASSERT_TRUE(DeleteSession(*engine_, session).ok());
  EXPECT_EQ(absorbed->Wait().status().code(), absl::StatusCode::kAborted);
  EXPECT_EQ(engine_->Stats().backlog_tokens, 0);
}

TEST_F(EngineTest, FullRefusesMoreThanItKeeps) {
  const std::string session = CreateSession(*engine_, "", {.strategy = Strategy::kFull});
  ASSERT_TRUE(Append(*engine_, session, std::vector<int32_t>(2000, 5)).ok());
  ExpectError(Append(*engine_, session, std::vector<int32_t>(49, 5)).status(),
              absl::StatusCode::kFailedPrecondition, "strategy full keeps at most 2048");
  const auto answer = Generate(*engine_, Request(session, "", 1000));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->summary.finish_reason, FinishReason::kLength);
  EXPECT_LE(answer->tokens.size(), 49u);
  ExpectError(engine_->CreateSession({.options = {.strategy = Strategy::kFull}}).status(),
              absl::StatusCode::kResourceExhausted, "places of strategy full");
}

TEST(EngineBacklogTest, IsBounded) {
  EngineOptions options = testing::ShippedModel();
  options.max_backlog_tokens = 1000;
  const auto engine = testing::StartEngine(options);
  const std::string session = CreateSession(*engine);
  ExpectError(Append(*engine, session, std::vector<int32_t>(1001, 5)).status(),
              absl::StatusCode::kResourceExhausted, "backlog_tokens=1001");
  EXPECT_EQ(engine->GetSession(session)->next_offset, 0);
  EXPECT_TRUE(Append(*engine, session, std::vector<int32_t>(1000, 5)).ok());
}

TEST(EngineTtlTest, AnIdleSessionExpires) {
  const auto engine = testing::StartEngine(testing::ShippedModel());
  const std::string session = CreateSession(*engine, "", {.ttl = absl::Milliseconds(1)});
  // It goes at one of the next looks; each call of GetSession is one that does not count as use.
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (engine->GetSession(session).ok() && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  EXPECT_EQ(engine->GetSession(session).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(engine->Stats().slots_used, 0);
}

TEST(EngineStopTest, EndsWhatIsInFlight) {
  auto engine = testing::StartEngine(testing::ShippedModel());
  const std::string session = CreateSession(*engine), other = CreateSession(*engine);
  ASSERT_TRUE(Append(*engine, session, Prose(13, 500)).ok());
  auto sink = std::make_shared<CollectingSink>();
  GenerateRequest request{.session = session, .prompt = std::string(" The")};
  request.stop = {.max_new_tokens = 60000, .ignore_eos = true};
  ASSERT_TRUE(engine->Generate(request, sink).ok());
  sink->WaitForTokens(1);
  auto absorbed = std::make_shared<Pending<absl::StatusOr<AppendResult>>>();
  ASSERT_TRUE(engine
                  ->Append({.session = other, .content = Prose(14, 4'000'000)},
                           [absorbed](const absl::StatusOr<AppendResult>& r) { absorbed->Set(r); })
                  .ok());
  engine.reset();
  EXPECT_EQ(sink->Wait().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(absorbed->Wait().status().code(), absl::StatusCode::kUnavailable);
}

TEST(EngineOptionsTest, SessionsByDevice) {
  EngineOptions options = testing::ShippedModel();
  options.max_sessions = EngineOptions().max_sessions;
  EXPECT_EQ(testing::StartEngine(options)->model().session_slots, 16);
}

// More sessions have work than a step takes: they wait their turn, and come out as if alone.
TEST(EngineOptionsTest, StreamsOfAStepAreLimited) {
  EngineOptions options = testing::ShippedModel();
  options.max_generations = 1;
  options.max_full_sessions = 0;
  options.max_batch_streams = 2;
  const auto engine = testing::StartEngine(options);
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (int i = 0; i < 6; ++i) {
    const std::string session = CreateSession(*engine);
    const auto ignore = [](const absl::StatusOr<AppendResult>&) {};
    ASSERT_TRUE(
        engine->Append({.session = session, .content = Prose(/*seed=*/5, 3000)}, ignore).ok());
    GenerateRequest request{.session = session, .prompt = std::string(" The")};
    request.stop = {.max_new_tokens = 4, .ignore_eos = true};
    sinks.push_back(std::make_shared<CollectingSink>());
    ASSERT_TRUE(engine->Generate(request, sinks.back()).ok());
  }
  const auto first = sinks.front()->Wait();
  ASSERT_TRUE(first.ok()) << first.status();
  for (const auto& sink : sinks) {
    const auto answer = sink->Wait();
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(answer->ids(), first->ids());
  }
}

TEST(EngineOptionsTest, FaultsNameTheField) {
  const auto create = [](auto change) {
    EngineOptions options = testing::ShippedModel();
    change(options);
    return Engine::Create(options, nullptr).status();
  };
  using Code = absl::StatusCode;
  using O = EngineOptions;
  ExpectError(create([](O& o) { o.max_sessions = -2; }), Code::kInvalidArgument, "max_sessions=-2");
  ExpectError(create([](O& o) { o.max_batch_tokens = 64; }), Code::kInvalidArgument,
              "max_batch_tokens=64: must be at least 72");
  ExpectError(create([](O& o) { o.max_batch_streams = 8; }), Code::kInvalidArgument,
              "max_batch_streams=8: must be at least 9");
  ExpectError(create([](O& o) { o.max_sessions = 0, o.device_reserve_bytes = int64_t{1} << 50; }),
              Code::kResourceExhausted, "device_reserve_bytes=1125899906842624");
  ExpectError(create([](O& o) { o.ops.dtype = "int3"; }), Code::kInvalidArgument, "int3");
  ExpectError(create([](O& o) { o.model = "no/such/folder"; }), Code::kNotFound, "no/such/folder");
  ExpectError(create([](O& o) { o.ops.device = "cuda"; }), Code::kUnavailable, "librasq_cuda.so");
}

}  // namespace
}  // namespace rasq
