// Sessions of strategy attention_rag: what a question's generation reads is what a plain forward
// pass over its chunks attends to, others are served meanwhile, and a history lives as long as any
// other session's state.
#include <algorithm>
#include <atomic>
#include <cctype>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <numeric>
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
#include "tests/support/plain_decoder.h"
#include "tests/support/temporary_directory.h"

namespace rasq {
namespace {

using testing::Answer;
using testing::Append;
using testing::CreateSession;
using testing::ExpectError;
using testing::ExpectSameAnswer;
using testing::Generate;
using testing::NextTokens;
using testing::Prose;
using Ids = std::vector<int32_t>;

SessionOptions ByAttention(const AttentionRagOptions& rag) {
  SessionOptions options{.strategy = Strategy::kAttentionRag};
  options.attention_rag = rag;
  return options;
}

EngineOptions Serving(const std::string& backend = "float32") {
  EngineOptions options = testing::ShippedModel(backend);
  options.strategies.push_back(Strategy::kAttentionRag);
  return options;
}

GenerateRequest Question(const std::string& session, Content prompt) {
  GenerateRequest request{
      .session = session, .prompt = std::move(prompt), .logprobs = 5, .evidence = 1000};
  request.stop = {.max_new_tokens = 8, .ignore_eos = true};
  return request;
}

template <typename AnyEngine>
Answer Ask(AnyEngine& engine, const std::string& session, Content prompt) {
  const auto answer = Generate(engine, Question(session, std::move(prompt)));
  EXPECT_TRUE(answer.ok()) << answer.status();
  return answer.ok() ? *answer : Answer();
}

// A run of tokens of the session that was read.
struct Stretch {
  int64_t begin, end;
  bool operator==(const Stretch&) const = default;
};
void PrintTo(const Stretch& run, std::ostream* out) { *out << run.begin << ".." << run.end; }

std::vector<Stretch> RunsOf(const Tokenizer& tokenizer, const Answer& answer, const Ids& text) {
  std::vector<Stretch> runs;
  for (const Evidence& evidence : answer.summary.evidence) {
    Stretch run{evidence.position, evidence.position};
    std::string read;
    while (read.size() < evidence.text.size()) {
      read = tokenizer.Decode(absl::MakeConstSpan(text).subspan(run.begin, ++run.end - run.begin));
    }
    EXPECT_EQ(read, evidence.text);
    runs.push_back(run);
  }
  std::sort(runs.begin(), runs.end(),
            [](const Stretch& a, const Stretch& b) { return a.begin < b.begin; });
  return runs;
}

class AttentionRagTest : public testing::BackendTest {
 protected:
  void SetUp() override {
    BackendTest::SetUp();
    if (!IsSkipped()) engine_ = testing::StartEngine(Serving(GetParam()));
  }
  int32_t bos() const { return engine_->tokenizer().bos_token_id(); }
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
INSTANTIATE_TEST_SUITE_P(All, AttentionRagTest, ::testing::Values("float32", "bfloat16", "cuda"),
                         testing::BackendName);

// Whether a token of this text ends a sentence, as the documentation has it.
bool EndsSentence(const std::string& text) {
  if (text.find('\n') != std::string::npos) return true;
  const size_t last = text.find_last_not_of(" \"')]}");
  return last != std::string::npos && std::string(".!?").find(text[last]) != std::string::npos;
}

// The sentences of a chunk that hold one of the `top` tokens of highest weight, by index; empty if
// the anchor drops the chunk.
std::vector<Stretch> ExpectedRuns(testing::PlainDecoder& plain, const Tokenizer& tokenizer,
                                  const Ids& chunk, const Ids& question, size_t top) {
  plain.Reset();
  plain.Read(tokenizer.bos_token_id());
  for (const int32_t id : chunk) plain.Read(id);
  for (const int32_t id : question) plain.Read(id);
  const std::vector<double> logits = plain.Logits();
  const auto anchor =
      static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  const std::string said = tokenizer.Decode({&anchor, 1});
  const bool is_blank =
      std::all_of(said.begin(), said.end(), [](unsigned char c) { return std::isspace(c); });
  if (is_blank || tokenizer.IsSpecial(anchor)) return {};
  plain.Read(anchor);
  const std::vector<double>& weights = plain.weights();
  std::vector<size_t> order(chunk.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return weights[1 + a] > weights[1 + b]; });
  order.resize(std::min(order.size(), top));
  std::vector<Stretch> runs;
  for (size_t begin = 0, end = 0; begin < chunk.size(); begin = end) {
    do {
      ++end;
    } while (end < chunk.size() && !EndsSentence(tokenizer.Decode({&chunk[end - 1], 1})));
    if (std::any_of(order.begin(), order.end(), [&](size_t i) { return i >= begin && i < end; })) {
      runs.push_back({static_cast<int64_t>(begin), static_cast<int64_t>(end)});
    }
  }
  return runs;
}

// The session's text begins with BOS, ends inside a chunk, and its last words came with the
// question.
TEST(AttentionRagSearchTest, ReadsTheSentencesThatAPlainForwardPassAttendsTo) {
  constexpr int64_t kChunk = 48;
  constexpr size_t kTop = 2;
  const auto engine = testing::StartEngine(Serving());
  const Tokenizer& tokenizer = engine->tokenizer();
  testing::PlainDecoder plain(testing::SourcePath("models/default"));
  const std::string said = "The key of the old mill is at the bakery. " + Prose(11, 700) +
                           "Mary went to the garden. John took the lighth";
  Ids text = tokenizer.Encode(said);
  text.insert(text.begin(), tokenizer.bos_token_id());
  const Ids question = tokenizer.Encode("\nQuestion: Where is Mary?\nAnswer:");
  std::vector<Stretch> want;
  Ids context = {tokenizer.bos_token_id()};
  int64_t tokens = 0;
  for (int64_t at = 0; at < static_cast<int64_t>(text.size()); at += kChunk) {
    const int64_t begin = std::max<int64_t>(at, 1);  // BOS is no text
    const Ids chunk(text.begin() + begin,
                    text.begin() + std::min<int64_t>(text.size(), at + kChunk));
    const std::vector<Stretch> runs = ExpectedRuns(plain, tokenizer, chunk, question, kTop);
    for (Stretch run : runs) {
      run = {run.begin + begin, run.end + begin};
      context.insert(context.end(), text.begin() + run.begin, text.begin() + run.end);
      if (run.begin == 1) run.begin = 0;  // BOS goes with the first sentence
      tokens += run.end - run.begin;
      const bool goes_on = !want.empty() && want.back().end == run.begin;
      goes_on ? void(want.back().end = run.end) : want.push_back(run);
    }
  }
  ASSERT_LT(tokens, static_cast<int64_t>(text.size()) / 2) << "nothing was left out";
  ASSERT_GT(want.size(), 2u);

  const std::string session = CreateSession(
      *engine, "", ByAttention({.chunk_tokens = kChunk, .top_tokens = static_cast<int32_t>(kTop)}));
  for (size_t i = 0; i < said.size(); i += 100) {
    ASSERT_TRUE(Append(*engine, session, said.substr(i, 100)).ok());
  }
  const Answer got = Ask(*engine, session, std::string("\nQuestion: Where is Mary?\nAnswer:"));
  EXPECT_EQ(RunsOf(tokenizer, got, text), want);
  EXPECT_EQ(got.summary.retrieved_tokens, tokens);
  EXPECT_EQ(got.summary.context_tokens, text.size());
  for (const Evidence& evidence : got.summary.evidence) {
    EXPECT_GT(evidence.score, 0);
    EXPECT_LT(evidence.score, 1);
  }
  const std::string full = CreateSession(*engine, "", {.strategy = Strategy::kFull});
  ASSERT_TRUE(Append(*engine, full, context).ok());
  ExpectSameAnswer(got, Ask(*engine, full, question));
}

// As rag that finds every chunk, in order.
TEST_P(AttentionRagTest, KeepingAllTokensIsFullAttention) {
  const std::string text = Prose(1, 3000) + "Then the lighth";
  const std::string full = CreateSession(*engine_, "", {.strategy = Strategy::kFull});
  ASSERT_TRUE(Append(*engine_, full, text).ok());
  const std::string prompt = "ouse keeper said: who went to the";
  const Answer want = Ask(*engine_, full, prompt);
  for (const int32_t chunk : {64, 300, 1500}) {  // many at once, two, and one
    const std::string session =
        CreateSession(*engine_, "", ByAttention({.chunk_tokens = chunk, .top_tokens = 5000}));
    ASSERT_TRUE(Append(*engine_, session, text).ok());
    for (int again = 0; again < 2; ++again) {  // a question leaves no trace
      const Answer got = Ask(*engine_, session, prompt);
      ExpectSameAnswer(got, want);
      EXPECT_EQ(got.summary.retrieved_tokens, want.summary.context_tokens);
      ASSERT_EQ(got.summary.evidence.size(), 1u);
      EXPECT_EQ(got.summary.evidence[0].position, 0);
    }
    ASSERT_TRUE(testing::DeleteSession(*engine_, session).ok());
  }
}

// After many lines of one word the model ends another: it says nothing about any chunk, and one is
// read whole.
TEST_P(AttentionRagTest, OneChunkIsReadIfAllSayNothing) {
  const std::string session = CreateSession(
      *engine_, "",
      ByAttention({.chunk_tokens = 40,
                   .top_tokens = 1,
                   .anchor_prompt = "{chunk}\nyes\nyes\nyes\nyes\nyes\nyes\nyes{question}{hint}",
                   .hint = "\nyes"}));
  ASSERT_TRUE(Append(*engine_, session, Prose(2, 900)).ok());
  const Answer answer = Ask(*engine_, session, std::string("\nyes"));
  EXPECT_EQ(answer.summary.retrieved_tokens, 40);
  ASSERT_EQ(answer.summary.evidence.size(), 1u);
  EXPECT_EQ(answer.summary.evidence[0].position % 40, 0);
  EXPECT_EQ(answer.summary.evidence[0].score, 0);
}

TEST_P(AttentionRagTest, ABoundedHistoryForgetsTheOldest) {
  const std::string session = CreateSession(
      *engine_, "", ByAttention({.chunk_tokens = 64, .top_tokens = 5000, .history_tokens = 300}));
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(Append(*engine_, session, Prose(i, 3000)).ok());
  const SessionInfo info = *engine_->GetSession(session);
  EXPECT_GT(info.context_tokens, 2000);
  EXPECT_LT(info.state_bytes, 300 * 4 + 6 * 200);
  const Answer answer = Ask(*engine_, session, std::string(" The"));
  ASSERT_FALSE(answer.summary.evidence.empty());
  for (const Evidence& evidence : answer.summary.evidence) {
    EXPECT_GE(evidence.position, info.context_tokens - 300);
  }
  EXPECT_LE(answer.summary.retrieved_tokens, 300 + 10);
}

// Of a history that is longer than contexts, sentences of least attention are left out.
TEST_P(AttentionRagTest, WhatIsKeptFitsInTheContext) {
  const std::string session =
      CreateSession(*engine_, "", ByAttention({.chunk_tokens = 128, .top_tokens = 5000}));
  ASSERT_TRUE(Append(*engine_, session, Prose(3, 16000)).ok());
  ASSERT_GT(engine_->GetSession(session)->context_tokens, 2500);
  const Answer answer = Ask(*engine_, session, std::string(" The"));
  EXPECT_EQ(answer.summary.output_tokens, 8);
  EXPECT_LE(answer.summary.retrieved_tokens, 2048 - 8);
  EXPECT_GT(answer.summary.retrieved_tokens, 1900);
  EXPECT_GT(answer.summary.evidence.size(), 1u);
}

// Each answer is what it is alone, the hint is asked for or not.
TEST_P(AttentionRagTest, SearchesDoNotDisturbEachOther) {
  std::vector<std::string> sessions;
  std::vector<Answer> alone;
  for (int i = 0; i < 4; ++i) {
    AttentionRagOptions options{.chunk_tokens = 40 + 50 * i, .top_tokens = 3};
    if (i % 2 == 0) options.hint_prompt = "{question} It is said:";
    sessions.push_back(CreateSession(*engine_, "", ByAttention(options)));
    ASSERT_TRUE(Append(*engine_, sessions.back(), Prose(20 + i, 2500)).ok());
    alone.push_back(Ask(*engine_, sessions.back(), std::string(" The miller")));
    EXPECT_GT(alone.back().summary.retrieved_tokens, 0);
  }
  std::vector<std::shared_ptr<testing::CollectingSink>> sinks;
  for (const std::string& session : sessions) {
    sinks.push_back(std::make_shared<testing::CollectingSink>());
    ASSERT_TRUE(
        engine_->Generate(Question(session, std::string(" The miller")), sinks.back()).ok());
  }
  for (int i = 0; i < 4; ++i) {
    const auto answer = sinks[i]->Wait();
    ASSERT_TRUE(answer.ok()) << answer.status();
    ExpectSameAnswer(*answer, alone[i]);
    EXPECT_EQ(answer->summary.retrieved_tokens, alone[i].summary.retrieved_tokens);
  }
}

// A question about a text that takes minutes to read; steps count.
class LongSearchTest : public testing::BackendTest, public EngineObserver {
 protected:
  void SetUp() override {
    BackendTest::SetUp();
    if (IsSkipped()) return;
    engine_ = testing::StartEngine(Serving(GetParam()), this);
    CreateSession(*engine_, "long", ByAttention({.chunk_tokens = 300, .top_tokens = 2}));
    ASSERT_TRUE(Append(*engine_, "long", Ids(400'000, 77)).ok());
  }
  void OnStep(StepKind /*kind*/, absl::Duration /*time*/, int32_t /*tokens*/) override {
    MutexLock lock(mu_);
    ++steps_;
    changed_.SignalAll();
  }
  // Until the question's search has read something.
  int64_t Start(bool commit) {
    GenerateRequest request = Question("long", std::string(" The"));
    request.commit = commit;
    sink_ = std::make_shared<testing::CollectingSink>();
    const auto generation = engine_->Generate(request, sink_);
    EXPECT_TRUE(generation.ok()) << generation.status();
    MutexLock lock(mu_);
    const int64_t before = steps_;
    while (steps_ < before + 3) changed_.Wait(mu_);
    return *generation;
  }

  Mutex mu_;
  CondVar changed_;
  int64_t steps_ ABSL_GUARDED_BY(mu_) = 0;
  std::shared_ptr<testing::CollectingSink> sink_;
  std::unique_ptr<Engine> engine_;  // last: its thread calls what stands above
};
INSTANTIATE_TEST_SUITE_P(All, LongSearchTest, ::testing::Values("float32", "cuda"),
                         testing::BackendName);

TEST_P(LongSearchTest, OthersAreServedMeanwhileAndItIsCancelled) {
  for (const bool commit : {false, true}) {
    const int64_t generation = Start(commit);
    const std::string other = CreateSession(*engine_, "");
    ASSERT_TRUE(Append(*engine_, other, Prose(1, 3000)).ok());
    EXPECT_EQ(NextTokens(*engine_, other, 5).size(), 5u);
    EXPECT_EQ(engine_->Stats().generations_running, 1);
    ASSERT_TRUE(Append(*engine_, other, Prose(2, 100)).ok());
    if (!commit) {  // what comes after a question that leaves no trace need not wait for it
      ASSERT_TRUE(testing::Fork(*engine_, {.session = "long", .new_id = "fork"}).ok());
      EXPECT_EQ(engine_->GetSession("fork")->context_tokens, 400'000);
      ASSERT_TRUE(testing::DeleteSession(*engine_, "fork").ok());
    }
    engine_->Cancel(generation);
    EXPECT_EQ(sink_->Wait().status().code(), absl::StatusCode::kCancelled);
    EXPECT_EQ(engine_->Stats().generations_running, 0);
    EXPECT_EQ(engine_->GetSession("long")->context_tokens, 400'000);
  }
  const int64_t again = Start(/*commit=*/false);
  auto deleted = std::make_shared<testing::Pending<absl::Status>>();
  engine_->DeleteSession("long", [deleted](absl::Status status) { deleted->Set(status); });
  engine_->Cancel(again);
  EXPECT_TRUE(deleted->Wait().ok());
}

TEST_P(LongSearchTest, TheEngineEndsInTheMiddle) {
  Start(/*commit=*/true);
  engine_ = nullptr;
  EXPECT_EQ(sink_->Wait().status().code(), absl::StatusCode::kUnavailable);
}

TEST(AttentionRagOptionsTest, WhatCannotBeServedIsRefused) {
  EngineOptions options = Serving();
  options.max_history_sessions = 1;
  options.max_history_tokens = 3000;
  const auto engine = testing::StartEngine(options);
  using Code = absl::StatusCode;
  const auto create = [&](const AttentionRagOptions& of) {
    return engine->CreateSession({.options = ByAttention(of)}).status();
  };
  ExpectError(create({.chunk_tokens = 7}), Code::kInvalidArgument,
              "options.attention_rag.chunk_tokens=7: must be from 8 to 65536");
  ExpectError(create({.top_tokens = -1}), Code::kInvalidArgument,
              "options.attention_rag.top_tokens=-1");
  ExpectError(create({.chunk_tokens = 64, .history_tokens = 63}), Code::kInvalidArgument,
              "options.attention_rag.history_tokens=63: must be from 64 to 3000");
  ExpectError(create({.chunk_tokens = 2045}), Code::kInvalidArgument,
              "options.attention_rag.chunk_tokens=2045: with prompts and hint there are 2048");
  ExpectError(create({.anchor_prompt = "{chunk}"}), Code::kInvalidArgument,
              "options.attention_rag.anchor_prompt: has {question} 0 times");
  SessionOptions window{.strategy = Strategy::kWindow};
  window.attention_rag.top_tokens = 3;
  ExpectError(engine->CreateSession({.options = window}).status(), Code::kInvalidArgument,
              "options.attention_rag: is of strategy attention_rag");

  const auto session = engine->CreateSession({.id = "a", .options = ByAttention({})});
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_EQ(session->options.attention_rag.chunk_tokens, 300);
  EXPECT_EQ(session->options.attention_rag.top_tokens, 12);
  ExpectError(create({}), Code::kResourceExhausted, "all 1 places of strategy attention_rag");
  ExpectError(
      Append(*engine, "a", EmbeddingRows{.rows = 1, .values = std::vector<float>(384)}).status(),
      Code::kFailedPrecondition, "content.embeddings");
  ExpectError(
      engine->Append({.session = "a", .content = Ids(5, 9), .score = true}, nullptr).status(),
      Code::kFailedPrecondition, "score=true: strategy attention_rag keeps text alone");
  EXPECT_EQ(Ask(*engine, "a", std::string("Hello")).summary.retrieved_tokens, 0);
  ASSERT_TRUE(Append(*engine, "a", Ids(20, 9)).ok());
  EXPECT_EQ(Ask(*engine, "a", Ids(1745, 9)).summary.retrieved_tokens, 20);
  ASSERT_TRUE(Append(*engine, "a", Ids(2970, 9)).ok());
  ExpectError(Append(*engine, "a", Ids(11, 9)).status(), Code::kFailedPrecondition,
              "context_tokens=3001 with this call's: strategy attention_rag keeps at most 3000");
  ExpectError(Generate(*engine, {.session = "a", .prompt = Ids(1746, 9)}).status(),
              Code::kFailedPrecondition,
              "context_tokens=2048 with a chunk of 300: strategy attention_rag reads at most 2048");
}

TEST(AttentionRagOptionsTest, AServerMayServeNone) {
  const auto engine = testing::StartEngine(testing::ShippedModel());
  ExpectError(engine->CreateSession({.options = ByAttention({})}).status(),
              absl::StatusCode::kFailedPrecondition,
              "options.strategy=attention_rag: is not served");
}

// Copies and files of a session, over the end of a server and a crash: what a crash leaves is what
// is on disk at that moment.
TEST(AttentionRagCopiesTest, GoOnAsTheirOrigin) {
  const testing::TemporaryDirectory directory;
  const std::string running = directory.path() + "/running", copy = directory.path() + "/copy";
  EngineOptions options = Serving();
  options.durable = true;
  const auto start = [&](const std::string& state_dir) {
    options.state_dir = state_dir;
    auto group = EngineGroup::Create(options, nullptr,
                                     [](const std::string& line) { ADD_FAILURE() << line; });
    RASQ_CHECK(group.ok());
    return *std::move(group);
  };
  auto group = start(running);
  const AttentionRagOptions rag{.chunk_tokens = 64,
                                .top_tokens = 3,
                                .history_tokens = 800,
                                .anchor_prompt = "Read: {chunk}\n{question}{hint}",
                                .hint = " a"};
  CreateSession(*group, "a", ByAttention(rag));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(Append(*group, "a", Prose(i, 2000) + "The lig").ok());
  ASSERT_TRUE(testing::Fork(*group, {.session = "a", .new_id = "fork"}).ok());
  ASSERT_TRUE(testing::Snapshot(*group, {.session = "a", .snapshot_id = "s"}).ok());
  ASSERT_TRUE(testing::Restore(*group, {.snapshot = "s", .session_id = "restored"}).ok());
  const std::string question = "hthouse and The";
  const Answer want = Ask(*group, "a", question);
  EXPECT_GT(want.summary.retrieved_tokens, 0);
  for (const char* id : {"fork", "restored"}) ExpectSameAnswer(Ask(*group, id, question), want);
  EXPECT_EQ(group->GetSession("restored")->options.attention_rag, rag);

  std::filesystem::copy(running, copy, std::filesystem::copy_options::recursive);
  ExpectSameAnswer(Ask(*start(copy), "a", question), want);
  group = nullptr;
  group = start(running);
  ExpectSameAnswer(Ask(*group, "a", question), want);
  // One whose question needs more than there is says so.
  group = nullptr;
  options.full_context_tokens = 64;
  group = start(running);
  ExpectError(Generate(*group, {.session = "a", .prompt = std::string(" The")}).status(),
              absl::StatusCode::kFailedPrecondition,
              "with a chunk of 64: strategy attention_rag reads at most 64");
}

}  // namespace
}  // namespace rasq
