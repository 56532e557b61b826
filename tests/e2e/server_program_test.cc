// The program as an operator runs it: what it prints, how it ends.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/server_fixture.h"

namespace rasq {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

// A run of rasq-server with its stdout and stderr in one pipe.
class Program {
 public:
  explicit Program(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), RASQ_SERVER_BINARY);
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return;
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(ends[1], STDOUT_FILENO);
      dup2(ends[1], STDERR_FILENO);
      execv(argv[0], argv.data());
      _exit(127);
    }
    close(ends[1]);
    output_ = ends[0];
  }
  ~Program() {
    if (pid_ > 0) kill(pid_, SIGKILL);
    Wait();
    close(output_);
  }

  // Reads until `line` has begun and ended, or the output ends; returns all so far.
  const std::string& ReadUntil(const std::string& line) {
    char c = 0;
    while (!(absl::StrContains(text_, line) && absl::EndsWith(text_, "\n")) &&
           read(output_, &c, 1) == 1) {
      text_.push_back(c);
    }
    return text_;
  }
  const std::string& ReadAll() { return ReadUntil("\x01"); }

  void Signal(int signal) { kill(pid_, signal); }
  // The exit code; -1 if a signal ended it.
  int Wait() {
    if (pid_ <= 0) return -1;
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  pid_t pid_ = -1;
  int output_ = -1;
  std::string text_;
};

const std::string& Model() {
  static const std::string model = TestServerOptions().engine.model;
  return model;
}

TEST(ServerProgramTest, SaysWhereItListensAndEndsWell) {
  for (const int signal : {SIGTERM, SIGINT}) {
    Program program({"--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0", "--device=cpu",
                     "--max-sessions=2", "--model", Model()});
    const std::string& text = program.ReadUntil("listening on ");
    EXPECT_THAT(text, ContainsRegex("capacity 2 sessions of [0-9]+ bytes and 4 working copies"));
    EXPECT_THAT(text, ContainsRegex("device cpu, dtype [a-z0-9]+, entries in [a-z0-9]+, weights "));
    EXPECT_THAT(text, ContainsRegex("\nmetrics on 127\\.0\\.0\\.1:[0-9]+\n"));
    EXPECT_THAT(text, ContainsRegex("\nlistening on 127\\.0\\.0\\.1:[0-9]+\n"));
    program.Signal(signal);
    program.ReadAll();
    EXPECT_EQ(program.Wait(), 0);
  }
}

TEST(ServerProgramTest, ChecksItsConfiguration) {
  Program good({"--check-config", "--model", Model()});
  EXPECT_THAT(good.ReadAll(), HasSubstr("is good"));
  EXPECT_EQ(good.Wait(), 0);
  const std::string shape = RASQ_SOURCE_DIR "/models/llama-3.1-8b-shape";
  Program dummy({"--check-config", "--model", shape, "--load-format=dummy"});
  EXPECT_THAT(dummy.ReadAll(), HasSubstr("is good"));
  EXPECT_EQ(dummy.Wait(), 0);
  Program no_weights({"--check-config", "--model", shape});
  EXPECT_THAT(no_weights.ReadAll(), HasSubstr("rasq.safetensors"));
  EXPECT_EQ(no_weights.Wait(), 1);
  Program no_model({"--check-config", "--model=/no/such/model"});
  EXPECT_THAT(no_model.ReadAll(), HasSubstr("/no/such/model"));
  EXPECT_EQ(no_model.Wait(), 1);
  Program open({"--check-config", "--listen=0.0.0.0:50051", "--model", Model()});
  EXPECT_THAT(open.ReadAll(), HasSubstr("--insecure"));
  EXPECT_EQ(open.Wait(), 1);
}

TEST(ServerProgramTest, SaysWhatIsWrong) {
  Program unknown({"--max-session=3"});
  EXPECT_THAT(unknown.ReadAll(), HasSubstr("--max-session: unknown flag"));
  EXPECT_EQ(unknown.Wait(), 2);
  Program no_model({"--listen=127.0.0.1:0", "--metrics-listen=", "--model=/no/such/model"});
  EXPECT_THAT(no_model.ReadAll(), HasSubstr("/no/such/model"));
  EXPECT_EQ(no_model.Wait(), 1);
}

TEST(ServerProgramTest, VersionAndHelp) {
  Program version({"--version"});
  EXPECT_THAT(version.ReadAll(), ContainsRegex("^rasq-server [0-9]+\\.[0-9]+\\.[0-9]+ "));
  EXPECT_EQ(version.Wait(), 0);
  Program help({"--help"});
  EXPECT_THAT(help.ReadAll(), HasSubstr("--max-sessions N"));
  EXPECT_EQ(help.Wait(), 0);
}

}  // namespace
}  // namespace rasq
