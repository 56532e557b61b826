// The program's small parts: flags, progress, templates, JSON.
#include <gtest/gtest.h>

#include "client/commands/answer.h"
#include "client/commands/flags.h"
#include "client/commands/generate_flags.h"
#include "client/commands/json.h"
#include "client/commands/progress.h"
#include "client/commands/prompt_template.h"

namespace rasq::client {
namespace {

struct Values {
  bool on = false;
  std::string text;
  int64_t count = 7;
  int32_t small = 0;
  std::optional<double> ratio;
  absl::Duration wait;
  std::vector<std::string> many;
};

FlagSet MakeFlags(Values* v) {
  FlagSet flags("test", "A test.");
  flags.Add("on", 'o', &v->on, "switch");
  flags.Add("text", 't', &v->text, "TEXT to keep");
  flags.Add("count", 'n', &v->count, "N; 0: none");
  flags.Add("small", 0, &v->small, "N");
  flags.Add("ratio", 0, &v->ratio, "X");
  flags.Add("wait", 0, &v->wait, "DURATION to wait");
  flags.Add("many", 'm', &v->many, "a|b: one of two");
  return flags;
}

TEST(FlagSetTest, ReadsEveryForm) {
  Values v;
  FlagSet flags = MakeFlags(&v);
  const auto operands = flags.Parse({"one", "--text=a=b", "-n", "-3", "two", "-o", "--ratio", "0.5",
                                     "--wait=1m30s", "-m", "x", "--many=y", "-", "--", "--three"});
  ASSERT_TRUE(operands.ok()) << operands.status();
  EXPECT_EQ(*operands, (std::vector<std::string>{"one", "two", "-", "--three"}));
  EXPECT_TRUE(v.on);
  EXPECT_EQ(v.text, "a=b");
  EXPECT_EQ(v.count, -3);
  EXPECT_EQ(v.ratio, 0.5);
  EXPECT_EQ(v.wait, absl::Seconds(90));
  EXPECT_EQ(v.many, (std::vector<std::string>{"x", "y"}));
}

TEST(FlagSetTest, StopsAtTheFirstOperand) {
  Values v;
  const auto operands = MakeFlags(&v).Parse({"-o", "command", "-n", "x"}, /*stop_at_operand=*/true);
  ASSERT_TRUE(operands.ok()) << operands.status();
  EXPECT_EQ(*operands, (std::vector<std::string>{"command", "-n", "x"}));
  EXPECT_EQ(v.count, 7);
}

TEST(FlagSetTest, WrongUseIsAUsageError) {
  const std::vector<std::vector<std::string>> wrong = {
      {"--unknown"}, {"-z"}, {"--on=yes"}, {"--count"}, {"--count=x"}, {"--wait=5"}, {"--ratio="}};
  for (const std::vector<std::string>& arguments : wrong) {
    Values v;
    const auto operands = MakeFlags(&v).Parse(arguments);
    EXPECT_TRUE(IsUsageError(operands.status())) << arguments[0];
  }
  EXPECT_FALSE(IsUsageError(absl::InvalidArgumentError("of the server")));
}

TEST(FlagSetTest, NumbersFitTheirTargets) {
  Values v;
  ASSERT_TRUE(MakeFlags(&v).Parse({"--small=-2147483648", "--count=9223372036854775807"}).ok());
  EXPECT_EQ(v.small, -2147483647 - 1);
  EXPECT_EQ(v.count, 9223372036854775807);
  const auto error = [](const std::string& argument) {
    Values values;
    return std::string(MakeFlags(&values).Parse({argument}).status().message());
  };
  EXPECT_EQ(error("--small=4294967296"),
            "--small=4294967296: not a whole number from -2147483648 to 2147483647");
  EXPECT_EQ(error("--count=9223372036854775808"),
            "--count=9223372036854775808: not a whole number from -9223372036854775808 to "
            "9223372036854775807");
  EXPECT_EQ(error("--ratio=nan"), "--ratio=nan: not a finite number");
  EXPECT_EQ(error("--wait=-5s"), "--wait=-5s: not a duration such as 90s, 30m or 24h");
}

TEST(FlagSetTest, HelpNamesFlagsAndValues) {
  Values v;
  FlagSet flags = MakeFlags(&v);
  ASSERT_TRUE(flags.Parse({"--help"}).ok());
  EXPECT_TRUE(flags.help_asked());
  const std::string help = flags.Help();
  EXPECT_NE(help.find("usage: rasq test\n\nA test.\n"), std::string::npos) << help;
  EXPECT_NE(help.find("  -t, --text TEXT                 to keep\n"), std::string::npos) << help;
  EXPECT_NE(help.find("  -n, --count N                   0: none\n"), std::string::npos) << help;
  EXPECT_NE(help.find("  -m, --many a|b                  one of two\n"), std::string::npos) << help;
}

TEST(ProgressTest, Counts) {
  EXPECT_EQ(ShortCount(0), "0");
  EXPECT_EQ(ShortCount(999), "999");
  EXPECT_EQ(ShortCount(1234), "1.2k");
  EXPECT_EQ(ShortCount(5600000), "5.6M");
  EXPECT_EQ(ShortCount(7.8e9), "7.8G");
}

TEST(ProgressTest, TextAndBar) {
  Progress p{.done = 250000,
             .total = 1000000,
             .unit = "bytes",
             .tokens = 60000,
             .busy = absl::Seconds(30)};
  EXPECT_EQ(ProgressText(p), "250.0k of 1.0M bytes, 60.0k tokens, 2.0k tokens/s, 1:30 left");
  EXPECT_EQ(ProgressBar(p), "[######..................]  25%  " + ProgressText(p));
  p.busy = absl::Hours(2);
  EXPECT_NE(ProgressText(p).find("6:00:00 left"), std::string::npos);
  p.done = p.total;
  EXPECT_EQ(ProgressText(p).find("left"), std::string::npos);
}

TEST(ProgressTest, WithoutATotalOrAStart) {
  const Progress p{
      .done = 0, .total = 0, .unit = "tokens", .tokens = 0, .busy = absl::ZeroDuration()};
  EXPECT_EQ(ProgressBar(p), "0 tokens");
}

TEST(PromptTemplateTest, Qa) {
  v1::GenerateRequest request;
  ApplyPromptTemplate(PromptTemplate::kQa, " What is it?\n", &request);
  EXPECT_EQ(request.prompt().text(), "\nQuestion: What is it?\nAnswer:");
  ASSERT_EQ(request.stop().stop_strings_size(), 1);
  EXPECT_EQ(request.stop().stop_strings(0), "\n");
  EXPECT_FALSE(request.stop().include_stop());
  EXPECT_EQ(ExtractAnswer(PromptTemplate::kQa, " a hat \nQuestion: more"), "a hat");
  EXPECT_EQ(ExtractAnswer(PromptTemplate::kQa, ""), "");
}

TEST(PromptTemplateTest, ACommittedAnswerEndsItsLine) {
  v1::GenerateRequest request;
  request.set_commit_output(v1::COMMIT_OUTPUT_COMMIT);
  ApplyPromptTemplate(PromptTemplate::kQa, "q", &request);
  EXPECT_TRUE(request.stop().include_stop());
}

TEST(PromptTemplateTest, Raw) {
  v1::GenerateRequest request;
  ApplyPromptTemplate(PromptTemplate::kRaw, " as it is\n", &request);
  EXPECT_EQ(request.prompt().text(), " as it is\n");
  EXPECT_EQ(request.stop().stop_strings_size(), 0);
  EXPECT_EQ(ExtractAnswer(PromptTemplate::kRaw, " two\nlines"), " two\nlines");
}

TEST(PromptTemplateTest, Names) {
  EXPECT_EQ(*ParsePromptTemplate("qa"), PromptTemplate::kQa);
  EXPECT_EQ(*ParsePromptTemplate("raw"), PromptTemplate::kRaw);
  EXPECT_TRUE(IsUsageError(ParsePromptTemplate("chatml").status()));
}

TEST(GenerateFlagsTest, FillEveryField) {
  GenerateFlags generate_flags;
  FlagSet flags("ask", "");
  generate_flags.AddTo(&flags);
  ASSERT_TRUE(flags
                  .Parse({"--temperature=0.5",
                          "--top-k=4",
                          "--top-p=0.9",
                          "--min-p=0.1",
                          "--repetition-penalty=1.1",
                          "--presence-penalty=0.2",
                          "--frequency-penalty=0.3",
                          "--seed=0",
                          "-n",
                          "9",
                          "--min-new-tokens=2",
                          "--stop=x",
                          "--stop=y",
                          "--stop-token-id=5",
                          "--ignore-eos",
                          "--include-stop",
                          "--logprobs=3",
                          "-e",
                          "6",
                          "--raw"})
                  .ok());
  v1::GenerateRequest r;
  ASSERT_TRUE(generate_flags.Fill(&r).ok());
  EXPECT_EQ(r.ShortDebugString(),
            "sampling { temperature: 0.5 top_k: 4 top_p: 0.9 min_p: 0.1 repetition_penalty: 1.1 "
            "presence_penalty: 0.2 frequency_penalty: 0.3 seed: 0 } stop { max_new_tokens: 9 "
            "min_new_tokens: 2 stop_strings: \"x\" stop_strings: \"y\" stop_token_ids: 5 "
            "ignore_eos: true include_stop: true } logprobs: 3 evidence: 6");
  EXPECT_EQ(*generate_flags.prompt_template(), PromptTemplate::kRaw);
}

TEST(GenerateFlagsTest, LargestNumbersArriveWhole) {
  GenerateFlags generate_flags;
  FlagSet flags("ask", "");
  generate_flags.AddTo(&flags);
  ASSERT_TRUE(
      flags.Parse({"--top-k=2147483647", "-n", "2147483647", "--seed=-9223372036854775808"}).ok());
  v1::GenerateRequest r;
  ASSERT_TRUE(generate_flags.Fill(&r).ok());
  EXPECT_EQ(r.sampling().top_k(), 2147483647);
  EXPECT_EQ(r.stop().max_new_tokens(), 2147483647);
  EXPECT_EQ(r.sampling().seed(), -9223372036854775807 - 1);
}

TEST(JsonTest, ASession) {
  v1::Session session;
  session.set_session_id("wire");
  session.set_state(v1::SESSION_STATE_ACTIVE);
  session.set_context_tokens(int64_t{1} << 40);
  session.mutable_create_time()->set_seconds(86400);
  session.mutable_options()->set_strategy(v1::STRATEGY_WINDOW);
  (*session.mutable_labels())["team"] = "news";
  const Json json = ToJson(session);
  EXPECT_EQ(json["context_tokens"], int64_t{1} << 40);
  EXPECT_EQ(json["state"], "active");
  EXPECT_EQ(json["create_time"], "1970-01-02T00:00:00+00:00");
  EXPECT_EQ(json["options"]["strategy"], "window");
  EXPECT_EQ(json["labels"]["team"], "news");
  EXPECT_FALSE(json.contains("expire_time"));
}

TEST(EvidenceTest, OneLineEach) {
  v1::GenerateSummary summary;
  v1::Evidence& evidence = *summary.add_evidence();
  evidence.set_position(12);
  evidence.set_score(0.5);
  evidence.set_text(" Acme\nshares ");
  EXPECT_EQ(EvidenceText(summary), "  @12        0.500  Acme shares\n");
  EXPECT_EQ(OneLine("a\xE2\x82\xAC"
                    "bc",
                    3),
            "a...");
  EXPECT_EQ(OneLine("", 3), "");
}

}  // namespace
}  // namespace rasq::client
