// Sessions of strategy rag: what a question's generation reads is what full attention reads of the
// same tokens, and a history lives as long as any other session's state.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/engine_group.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/answers.h"
#include "tests/support/backends.h"
#include "tests/support/engine_harness.h"
#include "tests/support/temporary_directory.h"

namespace rasq {
namespace {

using testing::Answer;
using testing::Append;
using testing::CreateSession;
using testing::ExpectError;
using testing::ExpectSameAnswer;
using testing::Generate;
using ::testing::HasSubstr;
using testing::Logprobs;
using testing::NextTokens;
using testing::Prose;
using testing::TemporaryDirectory;
using Ids = std::vector<int32_t>;

SessionOptions Rag(const RagOptions& rag) {
  SessionOptions options{.strategy = Strategy::kRag};
  options.rag = rag;
  return options;
}

template <typename AnyEngine>
Answer Ask(AnyEngine& engine, const std::string& session, Content prompt, bool commit = false) {
  GenerateRequest request{.session = session,
                          .prompt = std::move(prompt),
                          .commit = commit,
                          .logprobs = 5,
                          .evidence = 1000};
  request.stop = {.max_new_tokens = 12, .ignore_eos = true};
  const auto answer = Generate(engine, std::move(request));
  EXPECT_TRUE(answer.ok()) << answer.status();
  return answer.ok() ? *answer : Answer();
}

Ids RandomIds(uint64_t seed, int64_t count) {
  std::mt19937_64 random(seed);
  Ids ids(count);
  for (int32_t& id : ids) id = 300 + static_cast<int32_t>(random() % 7000);
  return ids;
}

class RagTest : public testing::BackendTest {
 protected:
  void SetUp() override {
    BackendTest::SetUp();
    if (!IsSkipped()) engine_ = testing::StartEngine(testing::ShippedModel(GetParam()));
  }
  // What full attention says after these tokens.
  Answer AfterTokens(const Ids& context, const Ids& prompt) {
    const std::string session = CreateSession(*engine_, "", {.strategy = Strategy::kFull});
    EXPECT_TRUE(Append(*engine_, session, context).ok());
    const Answer answer = Ask(*engine_, session, prompt);
    EXPECT_TRUE(testing::DeleteSession(*engine_, session).ok());
    return answer;
  }

  std::unique_ptr<Engine> engine_;
};
INSTANTIATE_TEST_SUITE_P(All, RagTest, ::testing::Values("float32", "bfloat16", "cuda"),
                         testing::BackendName);

// The text ends in the middle of a word and came in pieces.
TEST_P(RagTest, ReadingAllChunksIsFullAttention) {
  const std::string text = Prose(1, 3000) + "Then the lighth";
  const std::string full = CreateSession(*engine_, "full", {.strategy = Strategy::kFull});
  ASSERT_TRUE(Append(*engine_, full, text).ok());
  const Answer want = Ask(*engine_, full, std::string("ouse keeper said: who"));
  ASSERT_GT(want.summary.context_tokens, 600);
  const std::vector<RagOptions> all = {
      {.chunk_tokens = 128, .chunks = 15},
      {.chunk_tokens = 100, .chunks = 20, .retriever = RagRetriever::kEmbeddings},
      {.chunk_tokens = 10, .chunks = 200, .split = RagSplit::kSentences}};
  for (const RagOptions& options : all) {
    const std::string session = CreateSession(*engine_, "", Rag(options));
    for (size_t at = 0; at < text.size(); at += 700) {
      ASSERT_TRUE(Append(*engine_, session, text.substr(at, 700)).ok());
    }
    for (int again = 0; again < 2; ++again) {  // a question leaves no trace
      const Answer got = Ask(*engine_, session, std::string("ouse keeper said: who"));
      ExpectSameAnswer(got, want);
      EXPECT_EQ(got.summary.context_tokens, want.summary.context_tokens);
      EXPECT_EQ(got.summary.prompt_tokens, want.summary.prompt_tokens);
      EXPECT_EQ(got.summary.retrieved_tokens, want.summary.context_tokens);
      ASSERT_EQ(got.summary.evidence.size(), 1u);
      EXPECT_EQ(got.summary.evidence[0].position, 0);
    }
  }
}

// Chunks of 32 tokens; a question has all tokens of chunk 7 and half of those of chunk 2.
TEST_P(RagTest, TheContextIsWhatTheOrderSays) {
  const Ids text = RandomIds(/*seed=*/1, 400);
  const auto chunk = [&](int i) { return Ids(text.begin() + 32 * i, text.begin() + 32 * (i + 1)); };
  Ids question = chunk(7);
  question.insert(question.end(), text.begin() + 64, text.begin() + 80);
  const int32_t bos = engine_->tokenizer().bos_token_id();
  std::vector<std::vector<double>> answers;
  for (const RagOrder order : {RagOrder::kChronological, RagOrder::kScore}) {
    Ids context = {bos};
    for (const int i :
         order == RagOrder::kScore ? std::vector<int>{7, 2} : std::vector<int>{2, 7}) {
      const Ids ids = chunk(i);
      context.insert(context.end(), ids.begin(), ids.end());
    }
    const Answer want = AfterTokens(context, question);
    for (const RagRetriever retriever : {RagRetriever::kBm25, RagRetriever::kEmbeddings}) {
      const std::string session = CreateSession(
          *engine_, "",
          Rag({.chunk_tokens = 32, .chunks = 2, .order = order, .retriever = retriever}));
      ASSERT_TRUE(Append(*engine_, session, text).ok());
      const Answer got = Ask(*engine_, session, question);
      EXPECT_EQ(got.summary.retrieved_tokens, 64);
      EXPECT_EQ(got.summary.context_tokens, 400);
      ASSERT_EQ(got.summary.evidence.size(), 2u);
      EXPECT_EQ(got.summary.evidence[0].position, 7 * 32);  // by score
      EXPECT_EQ(got.summary.evidence[1].position, 2 * 32);
      ExpectSameAnswer(got, want);
      answers.push_back(Logprobs(got));
      ASSERT_TRUE(testing::DeleteSession(*engine_, session).ok());
    }
  }
  EXPECT_EQ(answers[0], answers[1]);
  EXPECT_NE(answers[0], answers[2]) << "order made no difference: the test shows nothing";
}

// A text begins with BOS, and a context has it once, whether its first chunk is read or not.
TEST_P(RagTest, AContextBeginsWithOneBos) {
  const std::string text = Prose(3, 80);
  const Ids more = RandomIds(/*seed=*/2, 400);
  Ids ids = engine_->tokenizer().Encode(text);
  ASSERT_LT(ids.size(), 45u);
  ids.insert(ids.end(), more.begin(), more.end());
  const int32_t bos = engine_->tokenizer().bos_token_id();
  ids.insert(ids.begin(), bos);
  const auto context = [&](int64_t begin) {
    Ids read = {bos};
    for (int64_t i = begin; i < begin + 64; ++i) {
      if (i > 0) read.push_back(ids[i]);
    }
    return read;
  };
  const std::string session = CreateSession(*engine_, "", Rag({.chunk_tokens = 64, .chunks = 1}));
  ASSERT_TRUE(Append(*engine_, session, text).ok());
  ASSERT_TRUE(Append(*engine_, session, more).ok());
  for (const int64_t chunk : {0, 2}) {
    const Ids question(ids.begin() + 64 * chunk + 45, ids.begin() + 64 * chunk + 63);
    const Answer got = Ask(*engine_, session, question);
    ASSERT_EQ(got.summary.evidence[0].position, 64 * chunk);
    ExpectSameAnswer(got, AfterTokens(context(64 * chunk), question));
  }
}

TEST_P(RagTest, WhatIsCommittedIsFound) {
  const std::string session = CreateSession(*engine_, "", Rag({.chunk_tokens = 32, .chunks = 1}));
  ASSERT_TRUE(Append(*engine_, session, Prose(4, 3000)).ok());
  const int64_t before = engine_->GetSession(session)->context_tokens;
  const std::string prompt = " Zanzibar telescope kiwi: the Zanzibar telescope kiwi is";
  const Answer said = Ask(*engine_, session, prompt, /*commit=*/true);
  const SessionInfo info = *engine_->GetSession(session);
  EXPECT_EQ(info.context_tokens,
            said.summary.context_tokens + said.summary.prompt_tokens + said.summary.output_tokens);
  EXPECT_GE(info.context_tokens, before + 20);
  EXPECT_EQ(info.backlog_tokens, 0);
  ASSERT_TRUE(Append(*engine_, session, Prose(5, 3000)).ok());
  const Answer found = Ask(*engine_, session, std::string(" Zanzibar telescope"));
  ASSERT_FALSE(found.summary.evidence.empty());
  EXPECT_THAT(found.summary.evidence[0].text, HasSubstr("Zanzibar telescope"));
}

TEST_P(RagTest, AnEmptyQuestionReadsTheNewest) {
  const std::string session = CreateSession(*engine_, "", Rag({.chunk_tokens = 100, .chunks = 2}));
  ASSERT_TRUE(Append(*engine_, session, Ids(350, 77)).ok());
  const Answer answer = Ask(*engine_, session, Content());
  ASSERT_EQ(answer.summary.evidence.size(), 1u);
  EXPECT_EQ(answer.summary.evidence[0].position, 200);
  EXPECT_EQ(answer.summary.retrieved_tokens, 150);
}

TEST_P(RagTest, ABoundedHistoryForgetsTheOldest) {
  const std::string session =
      CreateSession(*engine_, "", Rag({.chunk_tokens = 64, .chunks = 20, .history_tokens = 600}));
  int64_t most = 0;
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(Append(*engine_, session, Prose(i, 3000)).ok());
    most = std::max(most, engine_->GetSession(session)->state_bytes);
  }
  const SessionInfo info = *engine_->GetSession(session);
  EXPECT_GT(info.context_tokens, 5000);
  // 4 bytes a token, at most 12 a token of the index, and some 100 a chunk.
  EXPECT_GT(most, 500 * 4);
  EXPECT_LT(most, 600 * 16 + 10 * 200);
  const Answer answer = Ask(*engine_, session, std::string(" The"));
  ASSERT_EQ(answer.summary.evidence.size(), 1u);
  EXPECT_GE(answer.summary.evidence[0].position, info.context_tokens - 600);
  EXPECT_LE(answer.summary.retrieved_tokens, 600 + 10);
}

TEST_P(RagTest, AnUnboundedOneCountsWhatItKeeps) {
  const std::string session = CreateSession(*engine_, "", Rag({.chunk_tokens = 64, .chunks = 2}));
  EXPECT_EQ(engine_->GetSession(session)->state_bytes, 0);
  ASSERT_TRUE(Append(*engine_, session, Ids(10000, 5)).ok());
  const int64_t some = engine_->GetSession(session)->state_bytes;
  EXPECT_GT(some, 10000 * 4);
  ASSERT_TRUE(Append(*engine_, session, Ids(30000, 5)).ok());
  EXPECT_GT(engine_->GetSession(session)->state_bytes, 3 * some);
  EXPECT_EQ(engine_->GetSession(session)->context_tokens, 40000);
  EXPECT_EQ(engine_->Stats().slots_used, 0);
}

TEST_P(RagTest, ACancelledQuestionLeavesNoTrace) {
  const std::string session = CreateSession(*engine_, "", Rag({.chunk_tokens = 64, .chunks = 4}));
  ASSERT_TRUE(Append(*engine_, session, Prose(6, 3000) + "The lighth").ok());
  const std::vector<int32_t> want = NextTokens(*engine_, session, 16);
  GenerateRequest request{.session = session, .prompt = std::string(" The"), .commit = true};
  request.stop = {.max_new_tokens = 400, .ignore_eos = true};
  auto sink = std::make_shared<testing::CollectingSink>();
  const auto generation = engine_->Generate(request, sink);
  ASSERT_TRUE(generation.ok()) << generation.status();
  sink->WaitForTokens(3);
  engine_->Cancel(*generation);
  EXPECT_EQ(sink->Wait().status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(NextTokens(*engine_, session, 16), want);
}

TEST(RagOptionsTest, WhatCannotBeServedIsRefused) {
  EngineOptions options = testing::ShippedModel();
  options.max_history_sessions = 2;
  options.max_history_tokens = 3000;
  const auto engine = testing::StartEngine(options);
  using Code = absl::StatusCode;
  const auto create = [&](const SessionOptions& of) {
    return engine->CreateSession({.options = of}).status();
  };
  // 5 chunks of 512 are the default, and this engine's contexts have 2048 tokens.
  ExpectError(create(Rag({})), Code::kInvalidArgument,
              "options.rag.chunks=5: of chunk_tokens=512 they leave no room");
  ExpectError(create(Rag({.chunk_tokens = -1})), Code::kInvalidArgument,
              "options.rag.chunk_tokens=-1: must be from 8 to 65536");
  ExpectError(create(Rag({.chunk_tokens = 64, .chunks = 65537})), Code::kInvalidArgument,
              "options.rag.chunks=65537");
  ExpectError(create(Rag({.chunk_tokens = 64, .history_tokens = 63})), Code::kInvalidArgument,
              "options.rag.history_tokens=63: must be from 64 to 3000");
  SessionOptions window{.strategy = Strategy::kWindow};
  window.rag.chunks = 3;
  ExpectError(create(window), Code::kInvalidArgument, "options.rag");

  const auto session = engine->CreateSession({.id = "a", .options = Rag({.chunk_tokens = 100})});
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_EQ(session->options.rag.chunks, 5);
  ExpectError(
      Append(*engine, "a", EmbeddingRows{.rows = 1, .values = std::vector<float>(384)}).status(),
      Code::kFailedPrecondition, "content.embeddings");
  ExpectError(Append(*engine, "a", std::string("x"), /*pinned=*/true).status(),
              Code::kFailedPrecondition, "pinned=true");
  ASSERT_TRUE(Append(*engine, "a", Ids(2990, 9)).ok());
  ExpectError(Append(*engine, "a", Ids(11, 9)).status(), Code::kFailedPrecondition,
              "context_tokens=3001 with this call's: strategy rag keeps at most 3000");
  GenerateRequest request{.session = "a", .prompt = Ids(1547, 9)};
  ExpectError(Generate(*engine, request).status(), Code::kFailedPrecondition,
              "context_tokens=2048 with 500 of the session's: strategy rag reads at most 2048");
  request.prompt = Ids(11, 9);
  request.commit = true;
  ExpectError(Generate(*engine, request).status(), Code::kFailedPrecondition,
              "context_tokens=3001");
  // To the last token that there is room for, and no further.
  request.commit = false;
  request.prompt = Ids(1546, 9);
  request.stop = {.max_new_tokens = 100, .ignore_eos = true};
  const auto answer = Generate(*engine, request);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->summary.finish_reason, FinishReason::kLength);
  EXPECT_EQ(answer->summary.output_tokens, 2);

  ASSERT_TRUE(create(Rag({.chunk_tokens = 100, .history_tokens = 200})).ok());
  ExpectError(create(Rag({.chunk_tokens = 100})), Code::kResourceExhausted,
              "all 2 places of strategy rag are taken");
  EXPECT_TRUE(create({}).ok());
  ASSERT_TRUE(testing::DeleteSession(*engine, "a").ok());
  EXPECT_TRUE(create(Rag({.chunk_tokens = 100})).ok());
}

TEST(RagOptionsTest, HistoriesAreServedBesideFullAlone) {
  for (const Strategy strategy : {Strategy::kRag, Strategy::kAttentionRag}) {
    EngineOptions options = testing::ShippedModel();
    options.strategies = {Strategy::kRasq, strategy};
    const absl::Status status = Engine::Create(options, /*observer=*/nullptr).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(status.message(), std::string("strategies: ") + Name(strategy) +
                                    " reads in places of strategy full, which must be named beside "
                                    "it");
  }
}

TEST(RagOptionsTest, AServerMayServeNone) {
  for (const bool full : {false, true}) {
    EngineOptions options = testing::ShippedModel();
    (full ? options.max_full_sessions : options.max_history_sessions) = 0;
    const auto engine = testing::StartEngine(options);
    ExpectError(engine->CreateSession({.options = Rag({.chunk_tokens = 64})}).status(),
                absl::StatusCode::kFailedPrecondition, "options.strategy=rag: is not served");
  }
}

// Copies and files of a session, over the end of a server.
class RagCopiesTest : public testing::BackendTest {
 protected:
  EngineOptions Options(const std::string& directory) {
    EngineOptions options = testing::ShippedModel(GetParam());
    options.state_dir = directory;
    options.durable = true;
    return options;
  }
  std::unique_ptr<EngineGroup> Start(const EngineOptions& options) {
    auto group = EngineGroup::Create(options, nullptr,
                                     [](const std::string& line) { ADD_FAILURE() << line; });
    if (!group.ok()) ADD_FAILURE() << group.status();
    return group.ok() ? *std::move(group) : nullptr;
  }
  std::string running() const { return directory_.path() + "/running"; }
  static SessionOptions Bounded(RagRetriever retriever) {
    return Rag({.chunk_tokens = 64, .chunks = 8, .retriever = retriever, .history_tokens = 1500});
  }
  // That both are the same now, and after more of the same text.
  static void ExpectSame(EngineGroup& a, const std::string& of_a, EngineGroup& b,
                         const std::string& of_b) {
    EXPECT_EQ(a.GetSession(of_a)->next_offset, b.GetSession(of_b)->next_offset);
    EXPECT_EQ(NextTokens(a, of_a, 24), NextTokens(b, of_b, 24));
    EXPECT_EQ(a.GetSession(of_a)->context_tokens, b.GetSession(of_b)->context_tokens);
    const std::string more = "ouse keeper came. " + Prose(2, 3000);
    ASSERT_TRUE(Append(a, of_a, more).ok());
    ASSERT_TRUE(Append(b, of_b, more).ok());
    EXPECT_EQ(NextTokens(a, of_a, 24), NextTokens(b, of_b, 24));
    EXPECT_EQ(a.GetSession(of_a)->state_bytes, b.GetSession(of_b)->state_bytes);
  }

  TemporaryDirectory directory_;
};
INSTANTIATE_TEST_SUITE_P(All, RagCopiesTest, ::testing::Values("float32", "cuda"),
                         testing::BackendName);

TEST_P(RagCopiesTest, ForksAndSnapshotsGoOnAsTheirOrigin) {
  const auto group = Start(Options(running()));
  ASSERT_NE(group, nullptr);
  for (const auto retriever : {RagRetriever::kBm25, RagRetriever::kEmbeddings}) {
    const std::string id = retriever == RagRetriever::kBm25 ? "words" : "vectors";
    CreateSession(*group, id, Bounded(retriever));
    ASSERT_TRUE(Append(*group, id, Prose(1, 9000) + "The lighth").ok());
    const auto fork = testing::Fork(*group, {.session = id, .new_id = id + "-fork"});
    ASSERT_TRUE(fork.ok()) << fork.status();
    EXPECT_EQ(fork->context_tokens, group->GetSession(id)->context_tokens);
    const auto snapshot = testing::Snapshot(*group, {.session = id, .snapshot_id = id});
    ASSERT_TRUE(snapshot.ok()) << snapshot.status();
    ExpectSame(*group, id, *group, id + "-fork");
    const auto restored =
        testing::Restore(*group, {.snapshot = id, .session_id = id + "-restored"});
    ASSERT_TRUE(restored.ok()) << restored.status();
    EXPECT_EQ(restored->context_tokens, snapshot->context_tokens);
    EXPECT_EQ(restored->options.rag.history_tokens, 1500);
    ASSERT_TRUE(Append(*group, id + "-restored", "ouse keeper came. " + Prose(2, 3000)).ok());
    EXPECT_EQ(NextTokens(*group, id + "-restored", 24), NextTokens(*group, id, 24));
    // They have nothing in common any more.
    const auto before = NextTokens(*group, id + "-fork", 16);
    ASSERT_TRUE(Append(*group, id, Prose(9, 4000)).ok());
    ASSERT_TRUE(testing::DeleteSession(*group, id).ok());
    EXPECT_EQ(NextTokens(*group, id + "-fork", 16), before);
  }
}

TEST_P(RagCopiesTest, ASnapshotIsRestoredWhereContextsAreOthers) {
  EngineOptions options = Options(running());
  auto group = Start(options);
  ASSERT_NE(group, nullptr);
  CreateSession(*group, "a", Bounded(RagRetriever::kBm25));
  ASSERT_TRUE(Append(*group, "a", Prose(1, 3000)).ok());
  ASSERT_TRUE(testing::Snapshot(*group, {.session = "a", .snapshot_id = "s"}).ok());
  const std::vector<int32_t> want = NextTokens(*group, "a", 24);
  group = nullptr;
  options.full_context_tokens = 1024;
  group = Start(options);
  ASSERT_NE(group, nullptr);
  EXPECT_EQ(NextTokens(*group, "a", 24), want);
  ASSERT_TRUE(testing::Restore(*group, {.snapshot = "s", .session_id = "b"}).ok());
  EXPECT_EQ(NextTokens(*group, "b", 24), want);
  // One whose question needs more than there is says so; none at all is served without places.
  group = nullptr;
  options.full_context_tokens = 64;
  group = Start(options);
  ASSERT_NE(group, nullptr);
  ExpectError(Generate(*group, {.session = "a", .prompt = std::string(" The")}).status(),
              absl::StatusCode::kFailedPrecondition, "strategy rag reads at most 64");
}

// What a crash leaves is what is on disk at that moment: the directory is copied while the server
// runs, and another server starts from the copy.
TEST_P(RagCopiesTest, WhatIsAcknowledgedSurvives) {
  const auto group = Start(Options(running()));
  ASSERT_NE(group, nullptr);
  CreateSession(*group, "a", Bounded(RagRetriever::kEmbeddings));
  CreateSession(*group, "all", Rag({.chunk_tokens = 64, .chunks = 8}));
  CreateSession(*group, "empty", Rag({.chunk_tokens = 64, .chunks = 8}));
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(Append(*group, "a", Prose(i, 3000) + "The lig").ok());
  // Enough for files between the log's entries.
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(Append(*group, "all", Prose(i, 80000)).ok());
  Ask(*group, "a", std::string("hthouse"), /*commit=*/true);
  EXPECT_GE(group->Stats().snapshots_written, 1);
  ASSERT_TRUE(Append(*group, "a", std::string(" and the lighth")).ok());
  const std::string copy = directory_.path() + "/copy";
  std::filesystem::copy(running(), copy, std::filesystem::copy_options::recursive);
  const auto after = Start(Options(copy));
  ASSERT_NE(after, nullptr);
  EXPECT_EQ(after->GetSession("empty")->context_tokens, 0);
  ExpectSame(*after, "a", *group, "a");
  ExpectSame(*after, "all", *group, "all");
}

TEST_P(RagCopiesTest, AnOrderlyEndAndManyStarts) {
  for (const bool durable : {true, false}) {
    EngineOptions options = Options(absl::StrCat(running(), durable));
    options.durable = durable;
    std::vector<int32_t> wanted;
    for (int run = 0; run < 3; ++run) {
      const auto group = Start(options);
      ASSERT_NE(group, nullptr);
      if (run == 0) CreateSession(*group, "a", Bounded(RagRetriever::kEmbeddings));
      if (run > 0) {
        EXPECT_EQ(NextTokens(*group, "a", 24), wanted) << run;
      }
      ASSERT_TRUE(Append(*group, "a", Prose(run, 4000)).ok());
      wanted = NextTokens(*group, "a", 24);
    }
  }
}

}  // namespace
}  // namespace rasq
