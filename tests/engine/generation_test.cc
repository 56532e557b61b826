// What a generation makes of its tokens: text in whole characters, stop strings and stop tokens,
// what becomes context.
#include "engine/generation.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/model_harness.h"

namespace rasq {
namespace {

using ::testing::ElementsAre;

constexpr int32_t kEos = 0;

class OutputTextTest : public ::testing::Test {
 protected:
  OutputTextTest() : tokenizer_(*Tokenizer::Load(testing::SourcePath("models/default"))) {}

  // Pushes the tokens of each word until the output stops; what came out, piece by piece.
  std::vector<std::string> Say(OutputText& output, const std::vector<std::string>& words) {
    std::vector<std::string> pieces;
    for (const std::string& word : words) {
      for (const int32_t id : tokenizer_->Encode(word)) {
        if (output.stopped()) return pieces;
        output.Push({.token_id = id});
        const GenerateChunk chunk = output.Take();
        text_ += chunk.text;
        for (const GeneratedToken& token : chunk.tokens) tokens_.push_back(token.token_id);
        if (!chunk.text.empty()) pieces.push_back(chunk.text);
      }
    }
    return pieces;
  }
  std::string Rest(OutputText& output) {
    output.Finish();
    const GenerateChunk chunk = output.Take();
    for (const GeneratedToken& token : chunk.tokens) tokens_.push_back(token.token_id);
    text_ += chunk.text;
    return text_;
  }
  OutputText Output(const StopOptions* stop) { return OutputText(tokenizer_.get(), stop, {kEos}); }

  const std::unique_ptr<Tokenizer> tokenizer_;
  std::string text_;
  std::vector<int32_t> tokens_;
};

TEST_F(OutputTextTest, ACharacterComesWhole) {
  const StopOptions stop;
  OutputText output = Output(&stop);
  const std::string text = "caf\u00e9 \U0001f600!";
  for (const std::string& piece : Say(output, {text})) {
    EXPECT_NE(piece[0] & 0xc0, 0x80) << "begins inside a character";
  }
  EXPECT_EQ(Rest(output), text);
  EXPECT_EQ(tokens_, tokenizer_->Encode(text));
}

TEST_F(OutputTextTest, AnUnfinishedCharacterIsReplacedAtTheEnd) {
  const StopOptions stop;
  OutputText output = Output(&stop);
  const std::vector<int32_t> ids = tokenizer_->Encode("\U0001f600");
  ASSERT_GT(ids.size(), 1u);
  output.Push({.token_id = ids[0]});
  EXPECT_EQ(output.Take().text, "");
  EXPECT_EQ(Rest(output), "\ufffd");
}

TEST_F(OutputTextTest, EosEndsItAndIsNotPartOfIt) {
  const StopOptions stop;
  OutputText output = Output(&stop);
  Say(output, {"one"});
  output.Push({.token_id = kEos});
  EXPECT_TRUE(output.stopped());
  EXPECT_EQ(Rest(output), "one");
  EXPECT_EQ(output.ContextTokens(), tokenizer_->Encode("one"));
}

TEST_F(OutputTextTest, EosIsATokenLikeAnyIfIgnored) {
  const StopOptions stop{.ignore_eos = true};
  OutputText output = Output(&stop);
  output.Push({.token_id = kEos});
  EXPECT_FALSE(output.stopped());
}

TEST_F(OutputTextTest, StopTokensMayBeIncluded) {
  const int32_t comma = tokenizer_->Encode(",")[0];
  const StopOptions stop{.stop_token_ids = {comma}, .include_stop = true};
  OutputText output = Output(&stop);
  Say(output, {"one", ",", " two"});
  EXPECT_EQ(Rest(output), "one,");
  EXPECT_EQ(tokens_.back(), comma);
}

TEST_F(OutputTextTest, AStopStringEndsItWhereverTokensCutIt) {
  const StopOptions stop{.stop_strings = {"zebra", "wo th"}};
  OutputText output = Output(&stop);
  for (const std::string& piece : Say(output, {"one", " two", " three", " four"})) {
    EXPECT_EQ(piece.find("wo"), std::string::npos)
        << "went out before it was known not to be a stop";
  }
  EXPECT_TRUE(output.stopped());
  EXPECT_EQ(Rest(output), "one t");
  // What is committed is the text that went out, retokenized where a token was cut.
  EXPECT_EQ(tokenizer_->Decode(output.ContextTokens()), "one t");
}

TEST_F(OutputTextTest, AStopStringMayBeIncluded) {
  const StopOptions stop{.stop_strings = {"wo"}, .include_stop = true};
  OutputText output = Output(&stop);
  Say(output, {"one", " two", " three"});
  EXPECT_EQ(Rest(output), "one two");
}

TEST_F(OutputTextTest, WhatOnlyLooksLikeAStopStringComesOut) {
  const StopOptions stop{.stop_strings = {" two hundred"}};
  OutputText output = Output(&stop);
  Say(output, {"one", " two", " three"});
  EXPECT_FALSE(output.stopped());
  EXPECT_EQ(Rest(output), "one two three");
}

TEST_F(OutputTextTest, NothingStopsItBeforeMinNewTokens) {
  const StopOptions stop{.min_new_tokens = 3, .stop_strings = {"a"}};
  OutputText output = Output(&stop);
  EXPECT_THAT(output.StopTokens(), ElementsAre(kEos));
  Say(output, {"a", "b"});
  EXPECT_FALSE(output.stopped());
  Say(output, {"c", "a", "d"});
  EXPECT_TRUE(output.stopped());
  EXPECT_EQ(Rest(output), "abc");
}

TEST(GenerationTest, EvidenceIsRunsByTheirBestToken) {
  const auto tokenizer = *Tokenizer::Load(testing::SourcePath("models/default"));
  const auto id = [&](const char* text) { return tokenizer->Encode(text)[0]; };
  Generation generation;
  generation.request.evidence = 2;
  const StopOptions stop;
  generation.output.emplace(tokenizer.get(), &stop, std::vector<int32_t>{});
  // Shares e^0 : e^1 : e^3 : e^2, over their sum.
  generation.AddEvidence({{.position = 4, .token = id("x"), .score = 0},
                          {.position = 10, .token = id(" a"), .score = 1},
                          {.position = 11, .token = id(" b"), .score = 5, .log_gate = -2},
                          {.position = 20, .token = id(" c"), .score = 2}});
  const GenerateSummary summary = generation.Summary(FinishReason::kStop, *tokenizer);
  ASSERT_EQ(summary.evidence.size(), 2u);
  EXPECT_EQ(summary.evidence[0].position, 10);
  EXPECT_EQ(summary.evidence[0].text, " a b");
  EXPECT_NEAR(summary.evidence[0].score, 20.0855 / (1 + 2.71828 + 20.0855 + 7.38906), 1e-5);
  EXPECT_EQ(summary.evidence[1].text, " c");
}

TEST(GenerationTest, PenaltiesSeePromptAndOutput) {
  const auto tokenizer = *Tokenizer::Load(testing::SourcePath("models/default"));
  Generation generation;
  generation.request.sampling.presence_penalty = 0.5;
  generation.request.stop = {.min_new_tokens = 1, .stop_token_ids = {9}};
  generation.output.emplace(tokenizer.get(), &generation.request.stop, std::vector<int32_t>{kEos});
  generation.seen = {{3, 0}, {5, 2}};
  SamplePolicy policy = generation.NextSample(/*max_seen=*/10);
  EXPECT_THAT(std::vector<int32_t>(policy.seen_id, policy.seen_id + policy.num_seen),
              ElementsAre(3, 5));
  EXPECT_THAT(std::vector<int32_t>(policy.seen_count, policy.seen_count + policy.num_seen),
              ElementsAre(0, 2));
  EXPECT_THAT(std::vector<int32_t>(policy.banned_id, policy.banned_id + policy.num_banned),
              ElementsAre(kEos, 9));
  generation.output->Push({.token_id = 7});
  generation.request.sampling.presence_penalty = 0;
  policy = generation.NextSample(/*max_seen=*/10);
  EXPECT_EQ(policy.num_banned, 0);
  EXPECT_EQ(policy.num_seen, 0);
}

}  // namespace
}  // namespace rasq
