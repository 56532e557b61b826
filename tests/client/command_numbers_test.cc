// Every command's numbers: what does not fit the field that a flag fills is a usage error, and
// never another number.
#include <gtest/gtest.h>

#include <cctype>
#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/cancellation.h"
#include "client/commands/command.h"

namespace rasq::client {
namespace {

enum class Kind { kInt32, kInt64, kDouble, kDuration };

struct NumberFlag {
  const char* command;  // its words
  const char* flag;
  Kind kind;
};

void PrintTo(const NumberFlag& f, std::ostream* out) { *out << f.command << " --" << f.flag; }

std::vector<std::string> Misfits(Kind kind) {
  switch (kind) {
    case Kind::kInt32:  // the third is 1 in 32 bits
      return {"2147483648", "-2147483649", "4294967297", "9223372036854775808", "1.5", "many", ""};
    case Kind::kInt64:  // the second is 1 in 64 bits
      return {"9223372036854775808", "18446744073709551617", "-9223372036854775809", "1e3", ""};
    case Kind::kDouble:
      return {"nan", "inf", "-inf", "1e999", "-1e999", "warm", ""};
    case Kind::kDuration:
      return {"inf", "-1s", "5", "1e999h", "soon", ""};
  }
  return {};
}

std::vector<std::string> Extremes(Kind kind) {
  switch (kind) {
    case Kind::kInt32:
      return {"2147483647"};
    case Kind::kInt64:
      return {"9223372036854775807"};
    case Kind::kDouble:
      return {"1.7976931348623157e308", "-1.7976931348623157e308"};
    case Kind::kDuration:
      return {"0", "0.5s", "2000000h"};
  }
  return {};
}

class CommandNumbersTest : public ::testing::TestWithParam<NumberFlag> {
 protected:
  absl::Status Run(const std::string& argument) {
    Cancellation cancellation;
    Context context;
    context.client.cancellation = &cancellation;
    context.client.address = "127.0.0.1:1";  // nobody's
    Arguments words = absl::StrSplit(GetParam().command, ' ');
    for (const Command& command : kCommands) {
      if (command.name != words.front()) continue;
      words.erase(words.begin());
      words.push_back(argument);
      return command.run(context, words);
    }
    return absl::NotFoundError(GetParam().command);
  }
};

TEST_P(CommandNumbersTest, WhatDoesNotFitIsNamedWithItsFlag) {
  for (const std::string& value : Misfits(GetParam().kind)) {
    const std::string argument = absl::StrCat("--", GetParam().flag, "=", value);
    const absl::Status status = Run(argument);
    EXPECT_TRUE(IsUsageError(status)) << argument << " " << status;
    EXPECT_TRUE(absl::StartsWith(status.message(), absl::StrCat(argument, ": not a "))) << status;
  }
}

// What the server makes of it is the server's to say.
TEST_P(CommandNumbersTest, WhatFitsGoesToTheServer) {
  for (const std::string& value : Extremes(GetParam().kind)) {
    const std::string argument = absl::StrCat("--", GetParam().flag, "=", value);
    EXPECT_TRUE(absl::IsUnavailable(Run(argument))) << argument << " " << Run(argument);
  }
}

constexpr char kAsk[] = "ask s What?", kCreate[] = "sessions create s", kEval[] = "eval",
               kDemo[] = "demo";

INSTANTIATE_TEST_SUITE_P(
    Flags, CommandNumbersTest,
    ::testing::Values(
        NumberFlag{kAsk, "top-k", Kind::kInt32}, NumberFlag{kAsk, "max-new-tokens", Kind::kInt32},
        NumberFlag{kAsk, "min-new-tokens", Kind::kInt32},
        NumberFlag{kAsk, "stop-token-id", Kind::kInt32}, NumberFlag{kAsk, "logprobs", Kind::kInt32},
        NumberFlag{kAsk, "evidence", Kind::kInt32}, NumberFlag{kAsk, "seed", Kind::kInt64},
        NumberFlag{kAsk, "temperature", Kind::kDouble}, NumberFlag{kAsk, "top-p", Kind::kDouble},
        NumberFlag{kAsk, "min-p", Kind::kDouble},
        NumberFlag{kAsk, "repetition-penalty", Kind::kDouble},
        NumberFlag{kAsk, "presence-penalty", Kind::kDouble},
        NumberFlag{kAsk, "frequency-penalty", Kind::kDouble},
        NumberFlag{"chat s", "max-new-tokens", Kind::kInt32},
        NumberFlag{kCreate, "retrieval-budget-tokens", Kind::kInt32},
        NumberFlag{kCreate, "priority", Kind::kInt32}, NumberFlag{kCreate, "seed", Kind::kInt64},
        NumberFlag{kCreate, "retrieval-budget-gain", Kind::kDouble},
        NumberFlag{kCreate, "retrieval-score-floor", Kind::kDouble},
        NumberFlag{kCreate, "half-life-tokens", Kind::kDouble},
        NumberFlag{kCreate, "replacement-noise", Kind::kDouble},
        NumberFlag{kCreate, "ttl", Kind::kDuration},
        NumberFlag{kCreate, "rag-chunk-tokens", Kind::kInt32},
        NumberFlag{kCreate, "rag-chunks", Kind::kInt32},
        NumberFlag{kCreate, "rag-history-tokens", Kind::kInt64},
        NumberFlag{kCreate, "attention-rag-chunk-tokens", Kind::kInt32},
        NumberFlag{kCreate, "attention-rag-top-tokens", Kind::kInt32},
        NumberFlag{kCreate, "attention-rag-history-tokens", Kind::kInt64},
        NumberFlag{kEval, "facts", Kind::kInt32},
        NumberFlag{kEval, "generate-tokens", Kind::kInt32},
        NumberFlag{kEval, "streams", Kind::kInt64}, NumberFlag{kEval, "questions", Kind::kInt64},
        NumberFlag{kEval, "parallel", Kind::kInt64}, NumberFlag{kEval, "seed", Kind::kInt64},
        NumberFlag{kDemo, "tokens", Kind::kInt32}, NumberFlag{kDemo, "questions", Kind::kInt32},
        NumberFlag{kDemo, "seed", Kind::kInt64},
        NumberFlag{"admin drain", "grace", Kind::kDuration},
        NumberFlag{"model", "deadline", Kind::kDuration}),
    [](const ::testing::TestParamInfo<NumberFlag>& flag) {
      std::string name = absl::StrCat(flag.param.command, " ", flag.param.flag);
      std::erase_if(name, [](unsigned char c) { return std::isalnum(c) == 0 && c != '-'; });
      for (char& c : name) c = c == '-' ? '_' : c;
      return name;
    });

}  // namespace
}  // namespace rasq::client
