// What `rasq` says of text and asks of sessions, held against a server's own answers: scores, and
// the options of the strategies that keep text.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/rasq_client.h"
#include "tests/support/cli_program.h"
#include "tests/support/server_program.h"

namespace rasq {
namespace {

using Json = nlohmann::json;
using Arguments = std::vector<std::string>;

// The eleventh of 32 sentences says what is asked.
constexpr char kFact[] = "Mary moved to the kitchen.";
constexpr char kQuestion[] = "Where is Mary?";
std::string Text() {
  std::string text = "It was a day like any other.";
  for (int i = 0; i < 30; ++i) {
    if (i == 9) absl::StrAppend(&text, " ", kFact);
    absl::StrAppend(&text, " Visitor ", 100 + i, " came by the north road and left at dusk.");
  }
  return text;
}

class CliStrategiesTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = new ServerProgram(RASQ_SERVER_BINARY, {"--max-sessions", "4", "--strategies",
                                                     "rasq,window,full,rag,attention_rag"});
    ASSERT_TRUE(server_->listening()) << server_->Log();
  }
  static void TearDownTestSuite() {
    EXPECT_EQ(server_->Stop(), 0) << server_->Log();
    delete server_;
    server_ = nullptr;
  }
  static CliProgram Cli() { return {RASQ_CLI_BINARY, server_->address()}; }
  static client::Client Library() {
    client::ClientOptions options;
    options.address = server_->address();
    return client::Client(options);
  }

  // A session with these flags that has read Text(), and the answer to kQuestion.
  static Json AskAfterText(const std::string& id, Arguments flags) {
    flags.insert(flags.begin(), {"sessions", "create", id});
    EXPECT_EQ(Cli().RunJson(flags)["session_id"], id);
    EXPECT_EQ(Cli().Run({"append", id, "--quiet"}, Text()).code, 0);
    return Cli().RunJson({"ask", id, kQuestion, "--evidence", "100"});
  }

  static ServerProgram* server_;
};

ServerProgram* CliStrategiesTest::server_ = nullptr;

TEST_F(CliStrategiesTest, AppendScoresAsTheLibraryDoes) {
  client::Client library = Library();
  v1::CreateSessionRequest create;
  create.set_session_id("library");
  ASSERT_TRUE(library.CreateSession(create).ok());
  v1::AppendRequest request;
  request.set_session_id("library");
  request.mutable_content()->set_text(Text());
  request.set_score(true);
  const absl::StatusOr<v1::AppendResponse> first = library.Append(request);
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_GT(first->scored_tokens(), 300);

  const Json json = Cli().RunJson({"append", "scored", "--create", "--score"}, Text());
  const double loss = -first->logprob_sum() / static_cast<double>(first->scored_tokens());
  EXPECT_EQ(json["tokens"], first->appended_tokens());
  EXPECT_EQ(json["scored_tokens"], first->scored_tokens());
  // One message of the same text to a session of the same state: the same steps.
  EXPECT_DOUBLE_EQ(json["mean_negative_log_likelihood"].get<double>(), loss);
  EXPECT_DOUBLE_EQ(json["perplexity"].get<double>(), std::exp(loss));

  // Once more, in words: all of it has something before it now.
  request.mutable_content()->set_text("\nSo the day went by.");
  const absl::StatusOr<v1::AppendResponse> second = library.Append(request);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->scored_tokens(), second->appended_tokens());
  const double second_loss = -second->logprob_sum() / static_cast<double>(second->scored_tokens());
  const std::string out = Cli().Run({"append", "scored", "--score"}, "\nSo the day went by.").out;
  EXPECT_NE(out.find(absl::StrFormat(
                "\n%d tokens scored: mean negative log-likelihood %.4f nats, perplexity %.3f\n",
                second->scored_tokens(), second_loss, std::exp(second_loss))),
            std::string::npos)
      << out;
}

TEST_F(CliStrategiesTest, WithoutScoresNoneAreShown) {
  const Json plain = Cli().RunJson({"append", "plain", "--create"}, Text());
  EXPECT_FALSE(plain.contains("scored_tokens"));
  EXPECT_EQ(Cli().Run({"append", "plain"}, "More.").out.find("scored"), std::string::npos);
  const Json nothing = Cli().RunJson({"append", "plain", "--score"}, "");
  EXPECT_EQ(nothing["scored_tokens"], 0);
  EXPECT_TRUE(nothing["perplexity"].is_null());
  EXPECT_NE(Cli().Run({"append", "plain", "--score"}, "").out.find("no tokens scored\n"),
            std::string::npos);
  // Text that is kept as text alone is read by no model.
  ASSERT_EQ(Cli().Run({"sessions", "create", "kept", "--strategy=rag"}).code, 0);
  const CliProgram::Result refused = Cli().Run({"append", "kept", "--score"}, Text());
  EXPECT_EQ(refused.code, 1);
  EXPECT_NE(refused.err.find("FAILED_PRECONDITION: score=true: strategy rag"), std::string::npos)
      << refused.err;
}

TEST_F(CliStrategiesTest, RagOptionsReachTheServer) {
  const Json two =
      AskAfterText("two", {"--strategy=rag", "--rag-chunk-tokens=16", "--rag-chunks=2"});
  const Json four =
      AskAfterText("four", {"--strategy=rag", "--rag-chunk-tokens=16", "--rag-chunks=4"});
  EXPECT_GT(two["retrieved_tokens"], 0);
  EXPECT_LE(two["retrieved_tokens"], 32);
  EXPECT_GT(four["retrieved_tokens"], 32);
  EXPECT_LE(four["retrieved_tokens"], 64);
  const Json sentence =
      AskAfterText("sentence", {"--strategy=rag", "--rag-split=sentences", "--rag-chunks=1"});
  ASSERT_EQ(sentence["evidence"].size(), 1u) << sentence;
  EXPECT_EQ(absl::StripAsciiWhitespace(sentence["evidence"][0]["text"].get<std::string>()), kFact);
  EXPECT_EQ(sentence["text"], "kitchen");

  // The fact is older than what is kept.
  const Json newest =
      AskAfterText("newest", {"--strategy=rag", "--rag-chunk-tokens=16", "--rag-history-tokens=64",
                              "--rag-chunks=5", "--rag-retriever=embeddings", "--rag-order=score"});
  EXPECT_LE(newest["retrieved_tokens"], 80);
  for (const Json& run : newest["evidence"]) {
    EXPECT_GE(run["position"], newest["context_tokens"].get<int64_t>() - 80) << run;
  }
  const Json options = Cli().RunJson({"sessions", "get", "newest"})["options"]["rag"];
  EXPECT_EQ(options, Json({{"chunk_tokens", 16},
                           {"chunks", 5},
                           {"split", "tokens"},
                           {"order", "score"},
                           {"retriever", "embeddings"},
                           {"history_tokens", 64}}));
}

TEST_F(CliStrategiesTest, AttentionRagOptionsReachTheServer) {
  const Arguments small = {"--strategy=attention_rag", "--attention-rag-chunk-tokens=64"};
  const auto with = [&](const Arguments& more) {
    Arguments all = small;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  const Json one = AskAfterText("one", with({"--attention-rag-top-tokens=1"}));
  const Json many = AskAfterText("many", with({"--attention-rag-top-tokens=64"}));
  // All tokens of a chunk mark all of its sentences; one token marks one.
  EXPECT_GT(one["retrieved_tokens"], 0);
  EXPECT_LT(one["retrieved_tokens"], many["retrieved_tokens"]);
  EXPECT_NE(one["evidence"].dump().find(kFact), std::string::npos) << one;

  const Json newest = AskAfterText(
      "last", with({"--attention-rag-history-tokens=64", "--attention-rag-hint= Mary is in the",
                    "--attention-rag-anchor-prompt", "{chunk}\n{question}{hint}"}));
  EXPECT_LE(newest["retrieved_tokens"], 128);
  for (const Json& run : newest["evidence"]) {
    EXPECT_GE(run["position"], newest["context_tokens"].get<int64_t>() - 128) << run;
  }
  const Json options = Cli().RunJson({"sessions", "get", "last"})["options"]["attention_rag"];
  EXPECT_EQ(options, Json({{"chunk_tokens", 64},
                           {"top_tokens", 12},
                           {"history_tokens", 64},
                           {"anchor_prompt", "{chunk}\n{question}{hint}"},
                           {"hint_prompt", ""},
                           {"hint", " Mary is in the"}}));
}

TEST_F(CliStrategiesTest, BadOptionsAreNamedByTheServer) {
  const std::string rag = "--strategy=rag", attention = "--strategy=attention_rag";
  const struct {
    Arguments flags;
    std::string error;
  } cases[] = {
      {{rag, "--rag-chunk-tokens=7"}, "options.rag.chunk_tokens=7: must be from 8"},
      {{rag, "--rag-chunks=-1"}, "options.rag.chunks=-1: must be from 0"},
      {{rag, "--rag-chunks=65536"}, "options.rag.chunks=65536: of chunk_tokens=512"},
      {{rag, "--rag-history-tokens=100"}, "options.rag.history_tokens=100: must be from 512"},
      {{"--strategy=window", "--rag-order=score"}, "options.rag: is of strategy rag"},
      {{attention, "--attention-rag-chunk-tokens=7"}, "options.attention_rag.chunk_tokens=7: "},
      {{attention, "--attention-rag-top-tokens=-1"}, "options.attention_rag.top_tokens=-1: "},
      {{attention, "--attention-rag-history-tokens=5"}, "options.attention_rag.history_tokens=5: "},
      {{attention, "--attention-rag-anchor-prompt={question}"},
       "options.attention_rag.anchor_prompt: has {chunk} 0 times"},
      {{attention, "--attention-rag-hint-prompt=How?"},
       "options.attention_rag.hint_prompt: has {question} 0 times"},
      {{attention, "--attention-rag-hint-prompt={question}", "--attention-rag-hint=It is"},
       "options.attention_rag.hint: with hint_prompt"},
      {{rag, "--attention-rag-hint=It is"}, "options.attention_rag: is of strategy attention_rag"}};
  for (const auto& bad : cases) {
    Arguments arguments = {"sessions", "create", "bad"};
    arguments.insert(arguments.end(), bad.flags.begin(), bad.flags.end());
    const CliProgram::Result result = Cli().Run(arguments);
    EXPECT_EQ(result.code, 1) << bad.error;
    EXPECT_NE(result.err.find("INVALID_ARGUMENT: " + bad.error), std::string::npos) << result.err;
  }
  EXPECT_EQ(Cli().Run({"sessions", "get", "bad"}).code, 1);
}

}  // namespace
}  // namespace rasq
