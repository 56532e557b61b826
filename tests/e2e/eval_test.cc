// `rasq eval` as a user runs it, against the shipped model.
#include <gtest/gtest.h>

#include <cmath>
#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "client/eval/haystack.h"
#include "client/eval/perplexity.h"
#include "client/eval/results.h"
#include "client/eval/task_set.h"
#include "client/rasq_client.h"
#include "client/tasks/random.h"
#include "tests/support/cli_program.h"
#include "tests/support/files.h"
#include "tests/support/process.h"
#include "tests/support/server_fixture.h"
#include "tests/support/server_program.h"
#include "tests/support/temporary_directory.h"

namespace rasq {
namespace {

TEST(EvalTest, MeasuresTheShippedModelAndGoesOn) {
  ServerProgram server(RASQ_SERVER_BINARY, {"--max-sessions", "2"});
  ASSERT_TRUE(server.listening()) << server.Log();
  const std::string path = TemporaryPath("eval.jsonl");
  std::remove(path.c_str());
  const auto run = [&](const std::vector<std::string>& flags) {
    std::vector<std::string> arguments = {RASQ_CLI_BINARY, "--address", server.address(), "eval",
                                          "--results",     path,        "--lengths",      "2048",
                                          "--parallel",    "2",         "--streams",      "2",
                                          "--tasks",       "news,qa1"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    Process process(arguments);
    process.CloseInput();
    const int code = process.Wait();
    EXPECT_EQ(code, 0) << process.err();
    return process.out();
  };
  EXPECT_NE(run({"--strategies", "rasq"}).find("news"), std::string::npos);
  EXPECT_NE(run({"--strategies", "rasq,window"}).find("window"), std::string::npos);

  const auto results = client::ParseResults(ReadFile(path), path);
  ASSERT_TRUE(results.ok()) << results.status();
  ASSERT_EQ(results->runs.size(), 2u);
  EXPECT_EQ(results->runs[0].capacity_tokens, 1024);
  EXPECT_FALSE(results->runs[0].fingerprint.empty());
  ASSERT_EQ(results->streams.size(), 8u);
  for (const client::StreamResult& stream : results->streams) {
    // Counted piece by piece, as the server counts the whole; it may hold back the last words.
    EXPECT_NEAR(stream.context_tokens, 2048, 12);
    EXPECT_GT(stream.questions, 0);
    EXPECT_EQ(stream.state_bytes == results->runs[0].state_bytes, stream.key.strategy == "rasq");
  }
  EXPECT_EQ(server.Info().sessions_open(), 0);

  const testing::TemporaryDirectory folder;
  Process report({RASQ_CLI_BINARY, "report", path, "--to", folder.path(), "--no-pictures"});
  report.CloseInput();
  EXPECT_EQ(report.Wait(), 0) << report.err();
  EXPECT_NE(report.out().find("| window | qa1 |"), std::string::npos) << report.out();
  EXPECT_EQ(folder.CountFiles(".csv"), 6);  // nothing was asked along the stream, or refused
  EXPECT_NE(ReadFile(folder.path() + "/report.md").find("fingerprint"), std::string::npos);
}

// Every strategy, one stream of several tasks, options of sessions and flags of servers, in one
// file from one command, and its tables.
TEST(EvalTest, StartsServersAndMeasuresStrategiesAndSettings) {
  const testing::TemporaryDirectory folder;
  const std::string path = folder.path() + "/eval.jsonl", tables = folder.path() + "/RESULTS.md";
  const std::string model = TestServerOptions().engine.model;
  const std::vector<std::string> arguments = {RASQ_CLI_BINARY,
                                              "eval",
                                              "--server",
                                              RASQ_SERVER_BINARY,
                                              "--server-flag",
                                              "model=" + model,
                                              "--server-flag=device=cpu",
                                              "--server-flag=max-sessions=2",
                                              "--tasks=qa1+people+ruler_vt",
                                              "--lengths=1K",
                                              "--streams=1",
                                              "--questions=2",
                                              "--facts=8",
                                              "--generate-tokens=8",
                                              "--strategies=rasq,window,full",
                                              "--session-options=old={\"half_life_tokens\": 64}",
                                              "--sweep=retrieval_budget_tokens=16,1000000",
                                              "--sweep=buffer-capacity-tokens=256",
                                              "--results=" + path};
  const auto run = [&] {
    Process process(arguments);
    process.CloseInput();
    EXPECT_EQ(process.Wait(), 0) << process.err();
    return process.out();
  };
  EXPECT_NE(run().find("rasq old"), std::string::npos);
  const auto results = client::ParseResults(ReadFile(path), path);
  ASSERT_TRUE(results.ok()) << results.status();
  ASSERT_EQ(results->runs.size(), 2u);  // servers
  EXPECT_EQ(results->runs[0].capacity_tokens, 1024);
  EXPECT_EQ(results->runs[1].capacity_tokens, 256);
  EXPECT_FALSE(results->runs[0].machine.empty());
  ASSERT_EQ(results->streams.size(), 15u);  // three strategies, five settings
  for (const client::StreamResult& stream : results->streams) {
    const std::string method = stream.key.Method();
    if (method == "rasq retrieval_budget_tokens=1000000") {
      EXPECT_NE(stream.refused, "") << method;
      continue;
    }
    if (!stream.refused.empty()) continue;  // options that the others have no use for
    EXPECT_EQ(stream.token_gaps_us.size(), 7u) << method;
    EXPECT_GT(stream.questions, 2) << method;
  }
  run();
  EXPECT_EQ(client::ParseResults(ReadFile(path), path)->streams.size(), 15u);  // nothing again

  const std::string preface = folder.path() + "/preface.md";
  std::ofstream(preface) << "Two servers shared the machine.\n";
  Process report({RASQ_CLI_BINARY, "report", path, "--to", folder.path() + "/report",
                  "--results-md", tables, "--preface", preface, "--no-pictures"});
  report.CloseInput();
  EXPECT_EQ(report.Wait(), 0) << report.err();
  for (const char* part :
       {"\nTwo servers shared", "server started with model=", "| rasq old | ruler_vt |",
        "| window | all |", "## Settings against", "## Memory, throughput", "## Latency",
        "## What the server did not take", "  - old: `{\"half_life_tokens\": 64}`"}) {
    EXPECT_NE(ReadFile(tables).find(part), std::string::npos) << part;
  }
}

// One stream, of which all is scored; and the same text appended by hand.
TEST(EvalTest, PerplexityIsThatOfTheTextItself) {
  // In float32, as the text comes in other pieces here than from rasq eval: logits agree to 1e-4.
  ServerProgram server(RASQ_SERVER_BINARY, {"--max-sessions", "2", "--dtype", "float32"});
  ASSERT_TRUE(server.listening()) << server.Log();
  const testing::TemporaryDirectory folder;
  const std::string path = folder.path() + "/eval.jsonl";
  const CliProgram cli(RASQ_CLI_BINARY, server.address());
  const nlohmann::json printed =
      cli.RunJson({"eval", "--tasks", "perplexity", "--lengths", "700", "--streams", "1", "--seed",
                   "7", "--generate-tokens", "0", "--results", path});

  const auto results = client::ParseResults(ReadFile(path), path);
  ASSERT_TRUE(results.ok()) << results.status();
  ASSERT_EQ(results->streams.size(), 1u);
  const client::StreamResult& stream = results->streams[0];
  EXPECT_EQ(stream.key.task, client::kPerplexityTask);
  EXPECT_EQ(stream.questions, 0);
  EXPECT_TRUE(results->questions.empty());
  EXPECT_NEAR(stream.context_tokens, 700, 12);
  EXPECT_GT(stream.append_seconds, 0);
  ASSERT_TRUE(stream.scored_tokens.has_value() && stream.logprob_sum.has_value());

  // The stream's text: from the place that its seed says, word by word until it is long enough.
  client::ClientOptions options;
  options.address = server.address();
  client::Client library(options);
  const client::Haystack haystack = client::Haystack::MadeUp();
  tasks::Random random = client::StreamRandom(7, "perplexity 700", 0);
  client::Haystack::Cursor cursor(&haystack, random.Below(haystack.bytes()));
  std::string text;
  for (int64_t tokens = 0; tokens < 700;) {
    const std::string word(cursor.Take(1));
    const absl::StatusOr<std::vector<int32_t>> ids = library.Tokenize(word);
    ASSERT_TRUE(ids.ok()) << ids.status();
    tokens += static_cast<int64_t>(ids->size());
    text += word;
  }
  v1::CreateSessionRequest create;
  create.set_session_id("by-hand");
  create.mutable_options()->set_retrieval_budget_gain(-1);  // the model's
  ASSERT_TRUE(library.CreateSession(create).ok());
  v1::AppendRequest append;
  append.set_session_id("by-hand");
  append.mutable_content()->set_text(text);
  append.set_score(true);
  const absl::StatusOr<v1::AppendResponse> scored = library.Append(append);
  ASSERT_TRUE(scored.ok()) << scored.status();
  EXPECT_EQ(*stream.scored_tokens, scored->scored_tokens());
  const double loss = -scored->logprob_sum() / static_cast<double>(scored->scored_tokens());
  const double measured = -*stream.logprob_sum / static_cast<double>(*stream.scored_tokens);
  EXPECT_NEAR(measured, loss, 1e-4);

  ASSERT_EQ(printed["perplexity"].size(), 1u);
  const nlohmann::json& cell = printed["perplexity"][0];
  EXPECT_EQ(cell["strategy"], "rasq");
  EXPECT_EQ(cell["length"], 700);
  EXPECT_EQ(cell["streams"], 1);
  EXPECT_EQ(cell["scored_tokens"], *stream.scored_tokens);
  EXPECT_DOUBLE_EQ(cell["perplexity"].get<double>(), std::exp(measured));
}

TEST(EvalTest, WrongUseIsNamed) {
  const auto error = [](const std::vector<std::string>& flags, int want_code) {
    std::vector<std::string> arguments = {RASQ_CLI_BINARY, "eval"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    Process process(arguments);
    process.CloseInput();
    EXPECT_EQ(process.Wait(), want_code);
    return process.err();
  };
  EXPECT_NE(error({"--tasks", "weather"}, 2).find("--tasks: weather"), std::string::npos);
  EXPECT_NE(error({"--lengths", "10"}, 2).find("--lengths: 10"), std::string::npos);
  EXPECT_NE(error({"--strategies", "none"}, 2).find("--strategies: none"), std::string::npos);
  EXPECT_NE(error({"--sweep", "dtype=float32"}, 2).find("no --server"), std::string::npos);
  EXPECT_NE(error({"--session-options", "a={]"}, 2).find("{]"), std::string::npos);
  EXPECT_NE(error({"--ruler", "num_keys=0"}, 2).find("num_keys=0"), std::string::npos);
  EXPECT_NE(error({"--squad", "/nowhere.json"}, 1).find("/nowhere.json"), std::string::npos);
  const testing::TemporaryDirectory folder;
  EXPECT_NE(
      error({"--server", "/nowhere", "--results", folder.path() + "/r"}, 1).find("server /nowhere"),
      std::string::npos);
  EXPECT_NE(error({"--split", "x"}, 2).find("--split=x"), std::string::npos);
  EXPECT_NE(error({"--streams", "0"}, 2).find("--streams=0"), std::string::npos);
  EXPECT_NE(error({"--text", "/nowhere.txt"}, 1).find("/nowhere.txt"), std::string::npos);
  Process report({RASQ_CLI_BINARY, "report"});
  report.CloseInput();
  EXPECT_EQ(report.Wait(), 2);
}

}  // namespace
}  // namespace rasq
