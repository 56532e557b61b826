// Evaluations against a server that remembers everything: their results, and how they go on after
// an end.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/eval/evaluation.h"
#include "client/eval/summary.h"
#include "tests/client/fake_eval_service.h"
#include "tests/support/files.h"

namespace rasq::client {
namespace {

class EvalRunTest : public ::testing::Test {
 protected:
  EvalRunTest() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&sessions_);
    builder.RegisterService(&models_);
    server_ = builder.BuildAndStart();
    path_ = TemporaryPath(
        absl::StrCat(::testing::UnitTest::GetInstance()->current_test_info()->name(), ".jsonl"));
    std::remove(path_.c_str());
    header_ = {.fingerprint = "f1",
               .window_tokens = 64,
               .seed = 1,
               .split = "held-out",
               .facts = 32,
               .questions = 2,
               .text = haystack_.Describe(),
               .strategies = {"rasq"},
               .tasks = {"qa1"},
               .settings = {""},
               .session_options = {""},
               .lengths = {500},
               .streams = 3,
               .parallel = 2};
  }

  // How many streams it had to run.
  absl::StatusOr<int64_t> Run(bool along = false) {
    ClientOptions options;
    options.address = absl::StrCat("127.0.0.1:", port_);
    absl::StatusOr<ResultFile> file = ResultFile::Open(path_, header_);
    if (!file.ok()) return file.status();
    const TaskSet tasks({.seed = header_.seed, .along = along});
    Evaluation evaluation(options, header_, &tasks, &haystack_, &*file);
    if (absl::Status status = evaluation.Run(); !status.ok()) return status;
    return evaluation.num_streams();
  }
  Results Read() const {
    const absl::StatusOr<Results> results = ParseResults(ReadFile(path_), path_);
    EXPECT_TRUE(results.ok()) << results.status();
    return results.value_or(Results());
  }

  Haystack haystack_ = Haystack::MadeUp();
  FakeEvalService sessions_;
  FakeModelService models_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  std::string path_;
  RunHeader header_;
};

TEST_F(EvalRunTest, AsksWhatWasTold) {
  ASSERT_EQ(*Run(), 3);
  const Results results = Read();
  ASSERT_EQ(results.runs.size(), 1u);
  EXPECT_EQ(results.runs[0].text, haystack_.Describe());
  ASSERT_EQ(results.streams.size(), 3u);
  ASSERT_GE(results.questions.size(), 3u);
  for (const QuestionResult& question : results.questions) {
    EXPECT_TRUE(question.exact) << question.question << " " << question.got;
    EXPECT_EQ(question.score, 1);
    EXPECT_EQ(question.f1, 1);
    EXPECT_EQ(question.babilong, 1);
    EXPECT_GE(question.position_tokens, 500);
    EXPECT_GE(question.age_tokens, 0);
    EXPECT_LT(question.age_tokens, 500);
    EXPECT_EQ(question.time_to_first_token_seconds, 0.005);
    // The fake tells no evidence: none of the facts that left the window was read.
    if (question.age_tokens >= 64) {
      EXPECT_EQ(question.evidence_recall, 0);
    }
  }
  for (const StreamResult& stream : results.streams) {
    EXPECT_NEAR(stream.context_tokens, 500, 3);
    EXPECT_EQ(stream.state_bytes, 1000);
    EXPECT_GT(stream.append_tokens_per_second, 0);
    EXPECT_TRUE(stream.token_gaps_us.empty());
  }
  EXPECT_EQ(sessions_.open_sessions(), 0);
  for (const std::string& prompt : sessions_.prompts()) {
    EXPECT_TRUE(absl::StartsWith(prompt, "\nQuestion: Where is ")) << prompt;
    EXPECT_TRUE(absl::EndsWith(prompt, "?\nAnswer:")) << prompt;
  }
  EXPECT_TRUE(absl::StrContains(SummaryTable(results), "100.0 % of"));
}

TEST_F(EvalRunTest, TheSameSeedSendsTheSameText) {
  ASSERT_TRUE(Run().ok());
  std::vector<std::string> first = sessions_.texts();
  std::remove(path_.c_str());
  ASSERT_TRUE(Run().ok());
  std::vector<std::string> all = sessions_.texts();
  std::vector<std::string> second(all.begin() + 3, all.end());
  std::sort(first.begin(), first.end());
  std::sort(second.begin(), second.end());
  EXPECT_EQ(first, second);
  EXPECT_EQ(std::set<std::string>(first.begin(), first.end()).size(), 3u);
}

TEST_F(EvalRunTest, GoesOnWhereItsResultsEnd) {
  header_.parallel = 1;
  sessions_.set_generations_left(3);
  const absl::Status broken = Run().status();
  EXPECT_TRUE(absl::IsUnavailable(broken)) << broken;
  EXPECT_TRUE(absl::StrContains(broken.message(), "rasq, qa1, 500 tokens, stream ")) << broken;
  EXPECT_EQ(sessions_.open_sessions(), 0);
  const size_t finished = Read().streams.size();
  ASSERT_GE(finished, 1u);
  ASSERT_LT(finished, 3u);
  // A run that was killed while it wrote.
  WriteFile(path_, ReadFile(path_) + R"({"type":"question","strategy":"ra)");

  sessions_.set_generations_left(1000);
  EXPECT_EQ(*Run(), static_cast<int64_t>(3 - finished));
  EXPECT_EQ(Read().streams.size(), 3u);
  EXPECT_EQ(Read().runs.size(), 2u);
  EXPECT_EQ(*Run(), 0);
  header_.streams = 4;
  EXPECT_EQ(*Run(), 1);
}

TEST_F(EvalRunTest, ResultsOfOtherSettingsAreNotMixed) {
  ASSERT_TRUE(Run().ok());
  header_.fingerprint = "f2";
  const absl::Status other = Run().status();
  EXPECT_TRUE(absl::IsFailedPrecondition(other));
  EXPECT_TRUE(absl::StrContains(other.message(), R"(fingerprint="f1", not "f2")")) << other;
}

TEST_F(EvalRunTest, OneRunAtATimeWritesAFile) {
  {
    const absl::StatusOr<ResultFile> other = ResultFile::Open(path_, header_);
    ASSERT_TRUE(other.ok()) << other.status();
    const absl::Status both = Run().status();
    EXPECT_TRUE(absl::IsFailedPrecondition(both)) << both;
    EXPECT_TRUE(absl::StrContains(both.message(), path_ + ": another run")) << both;
  }
  EXPECT_EQ(*Run(), 3);
}

TEST_F(EvalRunTest, StreamsPastAStrategysLengthAreRefusedNotFailed) {
  header_.strategies = {"full", "window"};
  header_.lengths = {500, 800};
  header_.streams = 1;
  ASSERT_EQ(*Run(), 4);
  for (const StreamResult& stream : Read().streams) {
    const bool refused = stream.key.strategy == "full" && stream.key.length == 800;
    EXPECT_EQ(!stream.refused.empty(), refused) << stream.key.strategy << " " << stream.refused;
  }
  EXPECT_EQ(sessions_.open_sessions(), 0);
}

// Of words of one letter and of many: no estimate from the one holds for the other.
TEST_F(EvalRunTest, ScoresBeginAndEndWhereTheyShall) {
  std::string text;
  for (int i = 0; i < 40; ++i) {
    for (int j = 0; j < 300; ++j) text += i % 2 == 0 ? " a" : " interminably";
  }
  haystack_ = Haystack::FromText(text);
  header_.text = haystack_.Describe();
  header_.tasks = {"perplexity"};
  header_.lengths = {2000};
  ASSERT_EQ(*Run(), 3);
  for (const StreamResult& stream : Read().streams) {
    EXPECT_NEAR(static_cast<double>(stream.context_tokens), 2000, 1);
    EXPECT_NEAR(static_cast<double>(*stream.scored_tokens), 1024, 1);
  }
}

// Words of one letter, much denser in tokens than any guess, and between them long ones.
TEST_F(EvalRunTest, LengthsHoldWhereTextIsDenser) {
  std::string text;
  for (int i = 0; i < 40; ++i) {
    for (int j = 0; j < 1000; ++j) text += i % 2 == 0 ? " a" : " interminably";
  }
  haystack_ = Haystack::FromText(text);
  header_.text = haystack_.Describe();
  header_.lengths = {500, 1500};
  header_.streams = 8;
  ASSERT_EQ(*Run(), 16);
  const Results results = Read();
  ASSERT_EQ(results.streams.size(), 16u);
  for (const StreamResult& stream : results.streams) {
    EXPECT_GE(stream.context_tokens, stream.key.length);
    EXPECT_LE(stream.context_tokens, stream.key.length + 16);
  }
  // Questions stand at the end, and no fact stands past it.
  for (const QuestionResult& question : results.questions) {
    EXPECT_LE(question.position_tokens, question.key.length + 16);
    EXPECT_TRUE(question.exact) << question.question << " " << question.got;
  }
}

TEST_F(EvalRunTest, TheEndOfATextIsScored) {
  header_.tasks = {"perplexity"};
  header_.lengths = {500, 6000};
  header_.streams = 2;
  ASSERT_EQ(*Run(), 4);
  const Results results = Read();
  EXPECT_TRUE(results.questions.empty());
  ASSERT_EQ(results.streams.size(), 4u);
  for (const StreamResult& stream : results.streams) {
    EXPECT_EQ(stream.questions, 0);
    // All of a short stream; of the other the last quarter, which begins with a word's end.
    EXPECT_NEAR(static_cast<double>(*stream.scored_tokens), stream.key.length == 500 ? 500 : 1500,
                2);
    EXPECT_DOUBLE_EQ(*stream.logprob_sum, -kWordLoss * static_cast<double>(*stream.scored_tokens));
  }
  const std::string table = SummaryTable(results);
  EXPECT_TRUE(absl::StrContains(table,
                                "perplexity: rasq at 6000 tokens: 2.117 (2.117 to 2.117 of "
                                "2 streams)"))
      << table;
}

TEST_F(EvalRunTest, OneStreamServesSeveralTasks) {
  header_.tasks = {"qa1+people+ruler_vt"};
  header_.lengths = {2000};
  ASSERT_EQ(*Run(), 3);
  const Results results = Read();
  EXPECT_EQ(results.streams.size(), 3u);
  EXPECT_EQ(results.streams[0].key.task, "qa1+people+ruler_vt");
  std::map<std::string, int> asked;
  for (const QuestionResult& question : results.questions) ++asked[question.key.task];
  EXPECT_EQ(asked.size(), 3u);
  EXPECT_EQ(asked["people"], 6);    // two a stream
  EXPECT_EQ(asked["ruler_vt"], 3);  // one a stream
  for (const QuestionResult& question : results.questions) {
    EXPECT_TRUE(question.exact || question.key.task != "qa1") << question.got;
  }
  EXPECT_EQ(*Run(), 0);
  EXPECT_TRUE(absl::StrContains(SummaryTable(results), "people"));
}

TEST_F(EvalRunTest, EverySettingIsMeasuredAndRefusalsAreResults) {
  header_.settings = {"", "half", "huge"};
  header_.session_options = {"", R"({"half_life_tokens": 4096})",
                             R"({"retrieval_budget_tokens": 4096})"};
  header_.streams = 1;
  ASSERT_EQ(*Run(), 3);
  const Results results = Read();
  ASSERT_EQ(results.streams.size(), 3u);
  for (const StreamResult& stream : results.streams) {
    EXPECT_EQ(!stream.refused.empty(), stream.key.settings == "huge") << stream.refused;
  }
  std::set<double> half_lives;
  for (const v1::SessionOptions& options : sessions_.options()) {
    half_lives.insert(options.half_life_tokens());
    EXPECT_EQ(options.retrieval_budget_gain(), -1);
    EXPECT_EQ(options.strategy(), v1::STRATEGY_RASQ);
  }
  EXPECT_EQ(half_lives, (std::set<double>{0, 4096}));
  EXPECT_TRUE(absl::StrContains(SummaryTable(results), "rasq half"));
  // The same streams are told under all of them.
  const std::vector<std::string> texts = sessions_.texts();
  ASSERT_EQ(texts.size(), 2u);
  EXPECT_EQ(texts[0], texts[1]);
  // A label means one thing in a file.
  header_.session_options[1] = R"({"half_life_tokens": 64})";
  const absl::Status other = Run().status();
  EXPECT_TRUE(absl::IsFailedPrecondition(other)) << other;
  EXPECT_TRUE(absl::StrContains(other.message(), "session options half=")) << other;
}

TEST_F(EvalRunTest, AServerWithOtherFlagsMayDifferUnderItsOwnLabel) {
  ASSERT_TRUE(Run().ok());
  header_.capacity_tokens = 512;
  EXPECT_TRUE(absl::IsFailedPrecondition(Run().status()));
  header_.server_flags = "buffer-capacity-tokens=512";
  EXPECT_TRUE(absl::IsFailedPrecondition(Run().status()));  // the defaults are measured already
  header_.settings = {"buffer-capacity-tokens=512"};
  EXPECT_EQ(*Run(), 3);
}

TEST_F(EvalRunTest, NamesNeedNotBeUtf8) {
  header_.machine = "a \xFF b";
  ASSERT_EQ(*Run(), 3);
  EXPECT_EQ(Read().runs[0].machine, "a \xEF\xBF\xBD b");
}

TEST_F(EvalRunTest, TimesAGeneration) {
  header_.generate_tokens = 8;
  header_.streams = 1;
  ASSERT_EQ(*Run(), 1);
  const Results results = Read();
  // Four messages of two tokens: the last three have a message before them.
  ASSERT_EQ(results.streams[0].token_gaps_us.size(), 6u);
  for (const int64_t gap : results.streams[0].token_gaps_us) EXPECT_GE(gap, 0);
}

TEST_F(EvalRunTest, ListsAreToldAlone) {
  header_.tasks = {"ruler_fwe"};
  header_.lengths = {1000};
  header_.streams = 1;
  ASSERT_EQ(*Run(), 1);
  EXPECT_NEAR(Read().streams[0].context_tokens, 1000, 50);
  EXPECT_EQ(Read().questions[0].age_tokens, 0);
  header_.lengths = {256};
  header_.tasks = {"ruler_cwe"};
  ASSERT_EQ(*Run(), 1);
  EXPECT_TRUE(absl::StrContains(Read().streams[1].refused, "length=256 tokens: too few"));
  header_.tasks = {"people+news+key_values"};
  ASSERT_EQ(*Run(), 1);
  EXPECT_TRUE(absl::StrContains(Read().streams[2].refused, "length=256 tokens: the 96 facts take"));
  EXPECT_TRUE(absl::StrContains(SummaryTable(Read()),
                                "streams that were refused: 2 (rasq: length=256 tokens: too few"));
}

TEST_F(EvalRunTest, AsksAlongTheStream) {
  header_.tasks = {"news"};
  header_.along = true;
  header_.lengths = {2000};
  ASSERT_TRUE(Run(/*along=*/true).ok());
  std::set<int64_t> distances;
  for (const QuestionResult& question : Read().questions) {
    ASSERT_TRUE(question.distance_tokens.has_value());
    distances.insert(*question.distance_tokens);
    EXPECT_NEAR(question.age_tokens, *question.distance_tokens, 12);  // whole words
    EXPECT_GE(question.replaced_values, 1);
  }
  EXPECT_TRUE(distances.contains(0));
  EXPECT_TRUE(distances.contains(64));
  EXPECT_TRUE(absl::StrContains(SummaryTable(Read()), "adaptation"));
}

TEST(ResultsTest, ErrorsNameLineAndField) {
  const auto error = [](absl::string_view lines) {
    return std::string(ParseResults(lines, "f").status().message());
  };
  EXPECT_EQ(error("{}"), "f:1: type=: not run, question or stream");
  EXPECT_EQ(error("\n[1]"), "f:2: no object");
  EXPECT_EQ(error(R"({"type":"stream","strategy":"rasq","settings":"","task":7})"), "f:1: task=7");
  EXPECT_EQ(error(R"({"type":"stream","strategy":"rasq","settings":"","task":"x"})"),
            "f:1: length=missing");
}

}  // namespace
}  // namespace rasq::client
