// The programs as a user runs them: a server of its own process, and `rasq` with its flags, output
// and exit codes. RASQ_SERVER_BINARY and RASQ_CLI_BINARY are their paths.
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/cli_program.h"
#include "tests/support/files.h"
#include "tests/support/process.h"

namespace rasq {
namespace {

using Json = nlohmann::json;

class CliTest : public ::testing::Test {
 protected:
  using Result = CliProgram::Result;

  static void SetUpTestSuite() {
    std::filesystem::create_directories(SnapshotDirectory());
    server_ = new Process({RASQ_SERVER_BINARY, "--listen", "127.0.0.1:0", "--metrics-listen",
                           "127.0.0.1:0", "--model", RASQ_SOURCE_DIR "/models/default", "--device",
                           "cpu", "--max-sessions", "4", "--snapshot-dir", SnapshotDirectory()});
    address_ = server_->WaitFor("listening on ([0-9.]+:[0-9]+)");
    ASSERT_FALSE(address_.empty()) << server_->out() << server_->err();
  }
  static void TearDownTestSuite() {
    server_->Signal(SIGTERM);
    EXPECT_EQ(server_->Wait(), 0) << server_->err();
    delete server_;
    server_ = nullptr;
    std::filesystem::remove_all(SnapshotDirectory());
  }
  static std::string SnapshotDirectory() { return TemporaryPath("cli-snapshots"); }

  static CliProgram Cli() { return {RASQ_CLI_BINARY, address_}; }
  static Result Run(const std::vector<std::string>& arguments, const std::string& input = "") {
    return Cli().Run(arguments, input);
  }
  static Json RunJson(const std::vector<std::string>& arguments, const std::string& input = "") {
    return Cli().RunJson(arguments, input);
  }
  // A new session of the test's name, gone at its end.
  void SetUp() override {
    session_ = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    ASSERT_EQ(Run({"sessions", "create", session_}).code, 0);
  }
  void TearDown() override { Run({"sessions", "delete", session_}); }

  static Process* server_;
  static std::string address_;
  std::string session_;
};

Process* CliTest::server_ = nullptr;
std::string CliTest::address_;

class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& content) {
    const int fd = mkstemp(name_);
    if (fd >= 0) close(fd);
    Add(content);
  }
  ~TemporaryFile() { unlink(name_); }
  void Add(const std::string& content) { std::ofstream(name_, std::ios::app) << content; }
  std::string name() const { return name_; }

 private:
  char name_[32] = "/tmp/rasq_cli_test.XXXXXX";
};

TEST_F(CliTest, SessionsLiveAndDie) {
  const Json created = RunJson({"sessions", "create", "second", "--label", "team=news",
                                "--strategy", "window", "--ttl", "1h"});
  EXPECT_EQ(created["session_id"], "second");
  EXPECT_EQ(created["labels"]["team"], "news");
  EXPECT_EQ(created["options"]["strategy"], "window");
  EXPECT_EQ(created["options"]["ttl_seconds"], 3600);
  EXPECT_GT(created["state_bytes"], 0);
  const Json small =
      RunJson({"sessions", "create", "small", "--ttl=1500ms", "--priority=-2147483648"});
  EXPECT_EQ(small["options"]["ttl_seconds"], 1.5);
  EXPECT_EQ(small["options"]["priority"], -2147483648);
  EXPECT_EQ(Run({"sessions", "delete", "small"}).code, 0);

  const Json rag = RunJson({"sessions", "create", "third", "--strategy=rag", "--rag-chunks=2",
                            "--rag-chunk-tokens=64", "--rag-order=score"});
  EXPECT_EQ(rag["options"]["strategy"], "rag");
  EXPECT_EQ(rag["options"]["rag"]["chunks"], 2);
  EXPECT_EQ(rag["options"]["rag"]["order"], "score");
  EXPECT_EQ(rag["options"]["rag"]["retriever"], "bm25");
  const Json ablated = RunJson({"sessions", "create", "fourth", "--no-dsr"});
  EXPECT_EQ(ablated["options"]["ablation"]["no_dsr"], true);
  EXPECT_EQ(ablated["options"]["ablation"]["no_sqa"], false);

  const Result twice = Run({"sessions", "create", "second"});
  EXPECT_EQ(twice.code, 1);
  EXPECT_NE(twice.err.find("ALREADY_EXISTS"), std::string::npos) << twice.err;

  const Result list = Run({"sessions", "list"});
  EXPECT_EQ(list.code, 0);
  EXPECT_NE(list.out.find("second"), std::string::npos) << list.out;
  EXPECT_NE(list.out.find(session_), std::string::npos) << list.out;

  EXPECT_EQ(Run({"sessions", "delete", "second", "third", "fourth"}).code, 0);
  const Result gone = Run({"sessions", "get", "second"});
  EXPECT_EQ(gone.code, 1);
  EXPECT_NE(gone.err.find("NOT_FOUND"), std::string::npos) << gone.err;
}

TEST_F(CliTest, SessionsAreCopied) {
  ASSERT_EQ(Run({"append", session_}, "The code of the quiet orchard is 4711.\n").code, 0);
  const Json copy = RunJson({"sessions", "fork", session_, "copy", "--label", "team=news"});
  EXPECT_EQ(copy["session_id"], "copy");
  EXPECT_EQ(copy["next_offset"], 39);
  EXPECT_EQ(copy["labels"]["team"], "news");
  const Json snapshot = RunJson({"sessions", "snapshot", session_, "noon"});
  EXPECT_EQ(snapshot["snapshot_id"], "noon");
  EXPECT_EQ(snapshot["session_id"], session_);
  EXPECT_NE(Run({"snapshots", "list"}).out.find("noon"), std::string::npos);
  EXPECT_EQ(RunJson({"sessions", "restore", "noon", "again"})["next_offset"], 39);
  EXPECT_EQ(Run({"snapshots", "delete", "noon"}).code, 0);
  EXPECT_EQ(Run({"snapshots", "list"}).out.find("noon"), std::string::npos);
  EXPECT_EQ(Run({"sessions", "delete", "copy", "again"}).code, 0);
}

TEST_F(CliTest, AppendsFilesAndStandardInput) {
  const TemporaryFile file("The code of the quiet orchard is 4711.\n");
  const Json first = RunJson({"append", session_, file.name(), file.name()});
  EXPECT_EQ(first["bytes"], 78);
  EXPECT_EQ(first["next_offset"], 78);
  const Json second = RunJson({"append", session_}, "Zürich \xE2\x82\xAC");
  EXPECT_EQ(second["bytes"], 11);
  EXPECT_EQ(second["next_offset"], 89);
  EXPECT_EQ(RunJson({"sessions", "get", session_})["next_offset"], 89);
}

TEST_F(CliTest, AppendCreatesASession) {
  EXPECT_EQ(Run({"append", "fresh"}, "text").code, 1);
  const Result result = Run({"append", "--create", "fresh"}, "some text");
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.out.find("fresh: 9 bytes"), std::string::npos) << result.out;
  EXPECT_NE(result.err.find("tokens"), std::string::npos) << result.err;  // progress
  Run({"sessions", "delete", "fresh"});
}

TEST_F(CliTest, AppendRefusesOrReplacesWhatIsNotUtf8) {
  const TemporaryFile file("good \xFF\n");
  const Result refused = Run({"append", session_, file.name()});
  EXPECT_EQ(refused.code, 1);
  EXPECT_NE(refused.err.find(file.name() + ": not valid UTF-8 at byte 5"), std::string::npos)
      << refused.err;
  EXPECT_EQ(RunJson({"sessions", "get", session_})["next_offset"], 5);  // what came before it
  EXPECT_EQ(Run({"append", session_, "--invalid-utf8=replace", file.name()}).code, 0);
  const Result missing = Run({"append", session_, "/no/such/file"});
  EXPECT_EQ(missing.code, 1);
  EXPECT_NE(missing.err.find("NOT_FOUND: /no/such/file"), std::string::npos) << missing.err;
}

TEST_F(CliTest, AppendFollowsAFile) {
  TemporaryFile file("First line.\n");
  Process follow(Cli().CommandLine({"append", session_, "-q", "-f", file.name()}));
  const auto offset = [&] { return RunJson({"sessions", "get", session_})["next_offset"]; };
  while (offset() != 12) continue;
  file.Add("And a second one.\n");
  while (offset() != 30) continue;
  follow.Signal(SIGINT);
  EXPECT_EQ(follow.Wait(), 0) << follow.err();
  EXPECT_NE(follow.out().find("30 bytes"), std::string::npos) << follow.out();
}

TEST_F(CliTest, AsksWithEvidence) {
  std::string text = "The code of the quiet orchard is 4711.\n";
  for (int i = 0; i < 60; ++i) text += "The rain went on, and nobody was in a hurry to go home. ";
  ASSERT_EQ(Run({"append", session_}, text).code, 0);

  const Json before = RunJson({"sessions", "get", session_});
  const Result plain = Run({"ask", session_, "What is the code of the quiet orchard?"});
  EXPECT_EQ(plain.code, 0) << plain.err;
  EXPECT_EQ(plain.out, "4711\n");

  const Json json = RunJson({"ask", session_, "--evidence", "2", "--logprobs", "3"},
                            "What is the code of the quiet orchard?");
  EXPECT_EQ(json["text"], "4711");
  EXPECT_EQ(json["finish_reason"], "stop");
  EXPECT_FALSE(json["evidence"].empty());
  EXPECT_FALSE(json["tokens"].empty());

  // Discarded questions leave no trace; committed ones do.
  const Json same = RunJson({"sessions", "get", session_});
  EXPECT_EQ(same["context_tokens"], before["context_tokens"]);
  EXPECT_EQ(same["next_offset"], before["next_offset"]);
  EXPECT_EQ(Run({"ask", session_, "Why?", "--commit", "-n", "4"}).code, 0);
  const Json after = RunJson({"sessions", "get", session_});
  EXPECT_GT(after["context_tokens"], before["context_tokens"]);
}

TEST_F(CliTest, RawPromptsAndLimits) {
  ASSERT_EQ(Run({"append", session_}, "One two three.").code, 0);
  const Json json = RunJson({"ask", session_, "--raw", "--ignore-eos", "-n", "5", "Four"});
  EXPECT_EQ(json["output_tokens"], 5);
  EXPECT_EQ(json["finish_reason"], "length");
}

TEST_F(CliTest, Chats) {
  const Result result = Run({"chat", session_},
                            "/add The code of the quiet orchard is 4711.\n"
                            "What is the code of the quiet orchard?\n");
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out, "4711\n");
}

TEST_F(CliTest, CtrlCEndsAnEndlessAnswer) {
  Process ask(Cli().CommandLine({"ask", session_, "--raw", "--ignore-eos", "-n", "65536", "Once"}));
  EXPECT_NE(ask.WaitFor("[a-z ]{4}"), "") << ask.err();
  ask.Signal(SIGINT);
  EXPECT_EQ(ask.Wait(), 130) << ask.err();
}

TEST_F(CliTest, Model) {
  const Json model = RunJson({"model"});
  EXPECT_EQ(model["vocab_size"], 8192);
  EXPECT_NE(model["device"].get<std::string>().find("cpu"), std::string::npos);
  const Json ids = RunJson({"model", "tokenize", "Hello, world"});
  std::vector<std::string> command = {"model", "detokenize"};
  for (const Json& id : ids["token_ids"]) command.push_back(id.dump());
  EXPECT_EQ(Run(command).out, "Hello, world\n");
}

TEST_F(CliTest, Info) {
  const Json info = RunJson({"info"});
  EXPECT_EQ(info["server_version"], RASQ_VERSION);
  EXPECT_EQ(info["sessions_open"], 1);
  EXPECT_EQ(info["devices"][0]["session_slots"], 4);
  EXPECT_NE(Run({"info"}).out.find("sessions_open"), std::string::npos);
}

TEST_F(CliTest, ErrorsNameTheirCode) {
  const Result unknown = Run({"ask", "nobody", "What?"});
  EXPECT_EQ(unknown.code, 1);
  EXPECT_NE(unknown.err.find("rasq ask: NOT_FOUND: "), std::string::npos) << unknown.err;
  EXPECT_NE(unknown.err.find(" (request "), std::string::npos) << unknown.err;
  const Result bad_field = Run({"ask", session_, "--top-p=7", "What?"});
  EXPECT_EQ(bad_field.code, 1);
  EXPECT_NE(bad_field.err.find("INVALID_ARGUMENT"), std::string::npos) << bad_field.err;
  EXPECT_NE(bad_field.err.find("top_p"), std::string::npos) << bad_field.err;
  // Port 1 is nobody's.
  const Result nowhere = Run({"--address", "127.0.0.1:1", "model"});
  EXPECT_EQ(nowhere.code, 1);
  EXPECT_NE(nowhere.err.find("UNAVAILABLE"), std::string::npos) << nowhere.err;
}

TEST_F(CliTest, WrongUse) {
  const std::vector<std::vector<std::string>> wrong = {
      {},
      {"nothing"},
      {"--no-such-flag", "model"},
      {"-o", "yaml", "model"},
      {"ask"},
      {"ask", "a", "b", "c"},
      {"ask", "a", "b", "--temperature=warm"},
      {"ask", "a", "b", "--top-k=4294967297"},
      {"sessions", "create", "x", "--rag-chunks=4294967298"},
      {"ask", "a", "b", "--template=chatml"},
      {"sessions"},
      {"sessions", "create", "x", "--strategy=all"},
      {"sessions", "create", "x", "--strategy=rag", "--rag-order=best"},
      {"sessions", "fork"},
      {"sessions", "snapshot", "a", "b", "c"},
      {"snapshots"},
      {"snapshots", "delete"},
      {"info", "more"},
      {"admin"},
      {"admin", "drain", "reload"},
      {"admin", "drain", "--grace=long"},
      {"model", "detokenize", "x"},
      {"demo", "--tokens=1"}};
  for (const std::vector<std::string>& arguments : wrong) {
    const Result result = Run(arguments);
    EXPECT_EQ(result.code, 2) << result.err;
    EXPECT_NE(result.err, "");
  }
}

TEST_F(CliTest, HelpAndVersion) {
  EXPECT_EQ(Run({"--version"}).out, "rasq " RASQ_VERSION "\n");
  for (const char* command :
       {"append", "ask", "chat", "sessions", "snapshots", "model", "info", "admin", "demo"}) {
    const Result result = Run({command, "--help"});
    EXPECT_EQ(result.code, 0);
    EXPECT_EQ(result.out.find("usage: rasq " + std::string(command)), 0u) << result.out;
  }
  EXPECT_NE(Run({"--help"}).out.find("append"), std::string::npos);
}

}  // namespace
}  // namespace rasq
