// `rasq eval` as a user runs it, against the shipped model.
#include <gtest/gtest.h>

#include <csignal>
#include <string>
#include <vector>

#include "client/eval/results.h"
#include "tests/support/files.h"
#include "tests/support/process.h"
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
  EXPECT_EQ(folder.CountFiles(".csv"), 5);  // nothing was asked along the stream
  EXPECT_NE(ReadFile(folder.path() + "/report.md").find("fingerprint"), std::string::npos);
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
  EXPECT_NE(error({"--split", "x"}, 2).find("--split=x"), std::string::npos);
  EXPECT_NE(error({"--streams", "0"}, 2).find("--streams=0"), std::string::npos);
  EXPECT_NE(error({"--text", "/nowhere.txt"}, 1).find("/nowhere.txt"), std::string::npos);
  Process report({RASQ_CLI_BINARY, "report"});
  report.CloseInput();
  EXPECT_EQ(report.Wait(), 2);
}

}  // namespace
}  // namespace rasq
