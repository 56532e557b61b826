// Under what an evaluation is made: settings, a server of its own, a machine's name.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/commands/eval_flags.h"
#include "client/eval/machine.h"
#include "client/eval/server_process.h"
#include "client/eval/settings.h"
#include "tests/support/files.h"
#include "tests/support/temporary_directory.h"

namespace rasq::client {
namespace {

TEST(SettingsTest, DefaultsOptionsAndSweeps) {
  const auto settings =
      MakeSettings({R"(old={"half_life_tokens": 9})"},
                   {"retrieval_budget_tokens=64,128", "buffer-capacity-tokens=512"}, false);
  ASSERT_TRUE(settings.ok()) << settings.status();
  ASSERT_EQ(settings->size(), 5u);
  EXPECT_EQ((*settings)[0].label, "");
  EXPECT_EQ((*settings)[1].label, "old");
  EXPECT_EQ(ParseSessionOptions((*settings)[1].session_options)->half_life_tokens(), 9);
  EXPECT_EQ((*settings)[3].label, "retrieval_budget_tokens=128");
  EXPECT_EQ(ParseSessionOptions((*settings)[3].session_options)->retrieval_budget_tokens(), 128);
  EXPECT_EQ((*settings)[4].session_options, "");
  EXPECT_EQ((*settings)[4].server_flag, "buffer-capacity-tokens=512");
  EXPECT_EQ(MakeSettings({}, {"seed=1,2"}, /*skip_defaults=*/true)->size(), 2u);
}

TEST(SettingsTest, WhatASessionIsNotToldIsTheModels) {
  EXPECT_EQ(ParseSessionOptions("")->retrieval_budget_gain(), -1);
  EXPECT_EQ(ParseSessionOptions(R"({"retrieval_budget_gain": 0})")->retrieval_budget_gain(), 0);
  EXPECT_EQ(ParseSessionOptions(R"({"retrievalBudgetGain": 2})")->retrieval_budget_gain(), 2);
}

TEST(SettingsTest, ErrorsNameFlagAndField) {
  const auto error = [](const std::vector<std::string>& options,
                        const std::vector<std::string>& sweeps, bool skip = false) {
    const absl::Status status = MakeSettings(options, sweeps, skip).status();
    EXPECT_TRUE(IsUsageError(status)) << status;
    return std::string(status.message());
  };
  EXPECT_TRUE(absl::StrContains(error({"{}"}, {}), "--session-options={}: not LABEL="));
  EXPECT_TRUE(absl::StrContains(error({R"(x={"half_lif": 1})"}, {}), "half_lif"));
  EXPECT_TRUE(absl::StrContains(error({R"(x={"strategy": "STRATEGY_FULL"})"}, {}), "--strategies"));
  EXPECT_TRUE(absl::StrContains(error({}, {"seed"}), "--sweep=seed"));
  EXPECT_TRUE(absl::StrContains(error({}, {"half_life_tokens=long"}), "half_life_tokens"));
  EXPECT_TRUE(absl::StrContains(error({}, {"seed=1,1"}), "settings seed=1 are asked for twice"));
  EXPECT_TRUE(absl::StrContains(error({}, {"seed=\xFF"}), R"(settings seed=\xff: a label)"));
  EXPECT_TRUE(absl::StrContains(error({}, {}, true), "--skip-defaults"));
}

TEST(SettingsTest, SweptNumbersAreReadFromLabels) {
  std::string name;
  double value;
  ASSERT_TRUE(ParseSweep("half_life_tokens=0.5", &name, &value));
  EXPECT_EQ(name, "half_life_tokens");
  EXPECT_EQ(value, 0.5);
  EXPECT_FALSE(ParseSweep("entry-type=int8", &name, &value));
  EXPECT_FALSE(ParseSweep("no_dsr", &name, &value));
}

TEST(EvalFlagsTest, TokensHaveUnits) {
  int64_t tokens;
  ASSERT_TRUE(ParseTokens("4K", &tokens));
  EXPECT_EQ(tokens, 4096);
  ASSERT_TRUE(ParseTokens("1M", &tokens));
  EXPECT_EQ(tokens, 1048576);
  ASSERT_TRUE(ParseTokens("300", &tokens));
  EXPECT_EQ(tokens, 300);
  for (const char* bad :
       {"", "K", "4k", "4KM", "x", "9223372036854775807K", "-9223372036854775807K"}) {
    EXPECT_FALSE(ParseTokens(bad, &tokens)) << bad;
  }
}

TEST(EvalFlagsTest, ServerFlagsWantAServer) {
  EvalFlags flags;
  flags.sweeps = {"buffer-capacity-tokens=512"};
  EXPECT_TRUE(absl::StrContains(MakePlan(flags).status().message(), "no --server"));
  flags.server = "rasq-server";
  EXPECT_TRUE(MakePlan(flags).ok());
  flags.generate_tokens = -1;
  EXPECT_TRUE(absl::StrContains(MakePlan(flags).status().message(), "--generate-tokens=-1"));
}

TEST(MachineTest, ProcessorsAreCounted) {
  EXPECT_EQ(DescribeProcessor("processor\t: 0\nmodel name\t: A 9000 CPU @ 2: GHz\n\n"
                              "processor\t: 1\nmodel name\t: A 9000 CPU @ 2: GHz\n"),
            "A 9000 CPU @ 2: GHz, 2 threads");
  EXPECT_EQ(DescribeProcessor("processor: 0\n"), "");
  EXPECT_EQ(DescribeMachine("10.0.0.7:50051", "cpu"), "");  // another one
}

class ServerProcessTest : public ::testing::Test {
 protected:
  std::string Script(const std::string& body) {
    const std::string path = folder_.path() + "/server";
    WriteFile(path, "#!/bin/sh\n" + body);
    chmod(path.c_str(), 0755);
    return path;
  }
  const testing::TemporaryDirectory folder_;
  const std::string log_ = folder_.path() + "/log";
};

TEST_F(ServerProcessTest, GivesFlagsFindsTheAddressAndStopsIt) {
  const std::string said = folder_.path() + "/said";
  const std::string program = Script(absl::StrCat(
      "trap 'echo stopped >> ", said, "; exit' TERM\n", "echo \"$@\" > ", said,
      "\necho model x\necho listening on 127.0.0.1:7\n", "while :; do sleep 0.02; done\n"));
  {
    const auto server = ServerProcess::Start(program, {"max-sessions=2", "dtype=float32"}, log_);
    ASSERT_TRUE(server.ok()) << server.status();
    EXPECT_EQ(server->address(), "127.0.0.1:7");
  }
  EXPECT_EQ(ReadFile(said),
            "--listen=127.0.0.1:0 --metrics-listen= --max-sessions=2 --dtype=float32\nstopped\n");
}

TEST_F(ServerProcessTest, SaysWhyThereIsNone) {
  const absl::Status ended =
      ServerProcess::Start(Script("echo first >&2\necho no such flag >&2\nexit 2\n"), {}, log_)
          .status();
  EXPECT_TRUE(absl::IsUnavailable(ended)) << ended;
  EXPECT_TRUE(absl::EndsWith(ended.message(), "/server: no such flag")) << ended;
  EXPECT_TRUE(absl::IsNotFound(ServerProcess::Start("/nowhere/server", {}, log_).status()));
}

}  // namespace
}  // namespace rasq::client
