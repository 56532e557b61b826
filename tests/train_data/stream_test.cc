#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "train/data/stream_layout.h"
#include "train/data/stream_mixture.h"

namespace rasq::train {
namespace {

using tasks::Episode;
using tasks::Random;
using tasks::Split;

std::unique_ptr<Tokenizer> ShippedTokenizer() {
  auto tokenizer = Tokenizer::Load(RASQ_SOURCE_DIR "/models/default");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

// Text in which no task's words occur.
Corpus Haystack(const Tokenizer& tokenizer) {
  std::string text;
  for (int i = 0; i < 3000; ++i)
    absl::StrAppend(&text, "zig zag ", i, " zum", i % 7 == 0 ? ".\n" : " ");
  return Corpus::FromDocuments({{.id = "hay", .text = text}}, tokenizer, /*num_threads=*/1);
}

std::string Text(const Tokenizer& tokenizer, const TrainingStream& stream, int64_t begin,
                 int64_t end) {
  return tokenizer.Decode(absl::MakeSpan(stream.tokens).subspan(begin, end - begin));
}

class StreamTest : public ::testing::Test {
 protected:
  MixtureData Data() const {
    MixtureData data{.tokenizer = tokenizer_.get(), .corpus = &corpus_};
    Episode story{.facts = {"Mary went to the hall.", "John went to the attic."},
                  .questions = {{.text = "Where is Mary?",
                                 .answer = "hall",
                                 .evidence = {{.fact = 0, .begin = 0, .end = 22}},
                                 .after_fact = 2,
                                 .until_fact = 2}}};
    data.babi = {{.task = 1, .episode = story}, {.task = 12, .episode = story}};
    Episode passage{.facts = {"Storks are birds. Cranes are machines. Owls see at night."},
                    .questions = {{.text = "What are cranes?",
                                   .answer = "machines",
                                   .evidence = {{.fact = 0, .begin = 18, .end = 38}},
                                   .after_fact = 1,
                                   .until_fact = 1}}};
    data.passages = {passage};
    data.dialogues = {story};
    return data;
  }

  const std::unique_ptr<Tokenizer> tokenizer_ = ShippedTokenizer();
  const Corpus corpus_ = Haystack(*tokenizer_);
};

// The form of every stream, whatever its task.
void ExpectWellFormed(const Tokenizer& tokenizer, const TrainingStream& stream, int64_t num_tokens,
                      int32_t segment) {
  ASSERT_EQ(static_cast<int64_t>(stream.tokens.size()), num_tokens);
  ASSERT_EQ(static_cast<int64_t>(stream.weights.size()), num_tokens);
  ASSERT_EQ(stream.answers.size(), stream.evidence.size());
  EXPECT_EQ(stream.tokens[0], tokenizer.bos_token_id());
  EXPECT_EQ(stream.weights[0], 0);
  std::vector<bool> in_answer(num_tokens);
  for (size_t i = 0; i < stream.answers.size(); ++i) {
    const auto& answer = stream.answers[i];
    EXPECT_EQ((answer.begin - 1) % segment, 0);  // the question's last token begins a segment
    ASSERT_LT(answer.begin, answer.end);
    ASSERT_LE(answer.end, num_tokens);
    EXPECT_EQ(stream.evidence[i].segment, answer.begin / segment);
    EXPECT_EQ(stream.evidence[i].segment, (answer.end - 1) / segment);
    const std::vector<int32_t>& positions = stream.evidence[i].positions;
    ASSERT_FALSE(positions.empty());
    EXPECT_TRUE(std::is_sorted(positions.begin(), positions.end()));
    EXPECT_GT(positions.front(), 0);
    EXPECT_LT(positions.back(), answer.begin);
    for (int32_t t = answer.begin; t < answer.end; ++t) in_answer[t] = true;
  }
  const float plain = stream.answers.empty() ? kPlainWeight : kTextWeight;
  for (int64_t t = 1; t < num_tokens; ++t) {
    const float weight = stream.weights[t];
    EXPECT_EQ(weight == kAnswerWeight, in_answer[t]) << t;
    EXPECT_TRUE(in_answer[t] || weight == plain || weight == kPaddingWeight) << t;
  }
}

TEST_F(StreamTest, ByHand) {
  // Bytes as tokens, so positions can be counted; there is no BOS.
  const std::unique_ptr<Tokenizer> bytes = Tokenizer::OfBytes();
  const Corpus dots = Corpus::FromDocuments({{.id = "", .text = "......"}}, *bytes, 1);
  const StreamLayout layout(bytes.get(), &dots);
  MixedEpisode mixed{.episode = {.facts = {"The key is 7. Or so."},
                                 .questions = {{.text = "Key?",
                                                .answer = "7",
                                                .evidence = {{.fact = 0, .begin = 4, .end = 13}},
                                                .after_fact = 1,
                                                .until_fact = 1}}},
                     .tasks = {kKeyValuesStream}};
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Random random(seed);
    const auto stream = layout.LayOut(
        random, mixed, {.num_tokens = 200, .segment_tokens = 16, .split = Split::kHeldOut});
    ASSERT_TRUE(stream.has_value());
    const std::string text = bytes->Decode(stream->tokens);
    ASSERT_EQ(text.size(), 200u);
    const size_t question = text.find("\nQuestion: Key?\nAnswer: 7\n");
    ASSERT_NE(question, std::string::npos) << text;
    ASSERT_EQ(stream->answers.size(), 1u);
    EXPECT_EQ(stream->answers[0].begin, static_cast<int32_t>(question) + 23);
    EXPECT_EQ(stream->answers[0].end, static_cast<int32_t>(question) + 26);
    EXPECT_EQ((question + 22) % 16, 0u);  // the colon
    const size_t fact = text.find("key is 7.");
    ASSERT_EQ(stream->evidence[0].positions.size(), 9u);
    EXPECT_EQ(stream->evidence[0].positions.front(), static_cast<int32_t>(fact));
    EXPECT_EQ(stream->weights[fact], kTextWeight);
    EXPECT_EQ(stream->weights[question], kPaddingWeight);
    EXPECT_EQ(stream->weights[question + 23], kAnswerWeight);
  }
}

TEST_F(StreamTest, WhatDoesNotFitIsNotLaidOut) {
  const StreamLayout layout(tokenizer_.get(), &corpus_);
  Random random(1);
  const MixedEpisode mixed{.episode = Data().passages[0], .tasks = {kSpansStream}};
  EXPECT_FALSE(layout.LayOut(random, mixed, {.num_tokens = 70}).has_value());
  EXPECT_TRUE(layout.LayOut(random, mixed, {.num_tokens = 200}).has_value());
}

TEST_F(StreamTest, MixingKeepsOrderAndPlaces) {
  const Episode first{.facts = {"a0", "a1"},
                      .questions = {{.text = "a?",
                                     .answer = "1",
                                     .evidence = {{.fact = 0, .begin = 0, .end = 2}},
                                     .after_fact = 1,
                                     .until_fact = 1}}};
  const Episode second{.facts = {"b0", "b1", "b2"},
                       .questions = {{.text = "b?",
                                      .answer = "2",
                                      .evidence = {{.fact = 2, .begin = 0, .end = 2}},
                                      .after_fact = 3,
                                      .until_fact = 3}}};
  for (uint64_t seed = 0; seed < 30; ++seed) {
    Random random(seed);
    MixedEpisode mixed{.episode = first, .tasks = {kNewsStream}};
    MixIn(random, second, kPeopleStream, mixed);
    const std::vector<std::string>& facts = mixed.episode.facts;
    ASSERT_EQ(facts.size(), 5u);
    const auto at = [&](const std::string& fact) {
      return static_cast<int>(std::find(facts.begin(), facts.end(), fact) - facts.begin());
    };
    EXPECT_LT(at("a0"), at("a1"));
    EXPECT_LT(at("b0"), at("b1"));
    EXPECT_LT(at("b1"), at("b2"));
    EXPECT_EQ(mixed.tasks, (std::vector<int32_t>{kNewsStream, kPeopleStream}));
    const auto& asked = mixed.episode.questions;
    EXPECT_EQ(asked[0].after_fact, at("a0") + 1);
    EXPECT_EQ(asked[0].until_fact, at("a1"));
    EXPECT_EQ(asked[0].evidence[0].fact, at("a0"));
    EXPECT_EQ(asked[1].after_fact, at("b2") + 1);
    EXPECT_EQ(asked[1].until_fact, 5);
  }
}

class EveryStreamTest : public StreamTest, public ::testing::WithParamInterface<int32_t> {};

TEST_P(EveryStreamTest, IsWellFormed) {
  MixtureOptions options{.seed = 5};
  options.weights.fill(0);
  options.weights[GetParam()] = 1;
  const auto mixture = StreamMixture::Create(Data(), options);
  ASSERT_TRUE(mixture.ok()) << mixture.status();
  int answers = 0;
  for (const int64_t num_tokens : {64, 100, 1024, 4096}) {
    for (int64_t index = 0; index < 30; ++index) {
      SCOPED_TRACE(absl::StrCat(num_tokens, " tokens, index ", index));
      const TrainingStream stream = mixture->Make(index, num_tokens);
      ExpectWellFormed(*tokenizer_, stream, num_tokens, /*segment=*/64);
      for (size_t i = 0; i < stream.answers.size(); ++i) {
        const auto& answer = stream.answers[i];
        EXPECT_EQ(answer.task, GetParam());
        ++answers;
        // Nothing in the text around it looks like a fact.
        std::string evidence;
        for (const int32_t t : stream.evidence[i].positions) {
          absl::StrAppend(&evidence, Text(*tokenizer_, stream, t, t + 1));
        }
        EXPECT_FALSE(absl::StrContains(evidence, "zum")) << evidence;
        const std::string said = Text(*tokenizer_, stream, answer.begin, answer.end);
        ASSERT_TRUE(absl::StartsWith(said, " ")) << said;
        if (said.find(',') == std::string::npos && said.find(" and ") == std::string::npos) {
          std::string value = said.substr(1, said.find('\n') - 1);
          if (absl::StartsWith(value, "the ")) value = value.substr(4);  // "The" in the fact
          if (absl::EndsWith(value, ".")) value.pop_back();              // of the frame
          if (value == "unknown") continue;
          EXPECT_TRUE(GetParam() == kBabiStream || absl::StrContains(evidence, value))
              << evidence << " / " << said;
        }
      }
    }
  }
  EXPECT_EQ(answers > 0, GetParam() != kTextStream);
}

std::vector<int32_t> AllStreams() {
  std::vector<int32_t> all;
  for (int32_t task = 0; task < kNumStreamTasks; ++task) all.push_back(task);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Tasks, EveryStreamTest, ::testing::ValuesIn(AllStreams()),
                         [](const auto& param) {
                           return std::string(StreamTaskName(static_cast<StreamTask>(param.param)));
                         });

// Questions at all distances from their facts, the near ones as well as the far ones.
TEST_F(StreamTest, DistancesAreOfEveryOrder) {
  const StreamLayout layout(tokenizer_.get(), &corpus_);
  const MixedEpisode mixed{.episode = Data().passages[0], .tasks = {kSpansStream}};
  constexpr int kStreams = 600;
  constexpr int64_t kTokens = 8192;
  int near = 0, middle = 0, far = 0;
  for (uint64_t seed = 0; seed < kStreams; ++seed) {
    Random random(seed);
    const auto stream = layout.LayOut(random, mixed, {.num_tokens = kTokens});
    ASSERT_TRUE(stream.has_value());
    const int64_t distance = stream->answers[0].begin - stream->evidence[0].positions.back();
    near += distance < 256 ? 1 : 0;
    middle += distance >= 256 && distance < 2048 ? 1 : 0;
    far += distance >= 2048 ? 1 : 0;
  }
  // Log-uniform ones alone, 0.35 of all, give ln 256 / ln 8192 = 0.62 of them to the first, 0.23 to
  // the second and 0.15 to the third; uniform ones are far.
  EXPECT_GT(near, kStreams * 0.15);
  EXPECT_GT(middle, kStreams * 0.1);
  EXPECT_GT(far, kStreams * 0.25);
}

TEST_F(StreamTest, FactsStandInTheTextInManyWays) {
  const StreamLayout layout(tokenizer_.get(), &corpus_);
  const MixedEpisode mixed{.episode = Data().passages[0], .tasks = {kSpansStream}};
  const auto ways = [&](Split split) {
    std::set<std::string> before;
    for (uint64_t seed = 0; seed < 300; ++seed) {
      Random random(seed);
      const auto stream = layout.LayOut(random, mixed, {.num_tokens = 1024, .split = split});
      const std::string text = tokenizer_->Decode(stream->tokens);
      const size_t fact = text.find("Storks are");
      // What is no letter or digit before it.
      size_t begin = fact;
      while (begin > 0 && !absl::ascii_isalnum(text[begin - 1])) --begin;
      before.insert(text.substr(begin, fact - begin));
    }
    return before.size();
  };
  // Of evaluations: behind a space or a line break, and what the text before ends with.
  EXPECT_GT(ways(Split::kTraining), 12u);
  EXPECT_LT(ways(Split::kHeldOut), 12u);
}

TEST_F(StreamTest, IsTheSameFromAllThreads) {
  const auto mixture = StreamMixture::Create(Data(), {.seed = 9});
  ASSERT_TRUE(mixture.ok());
  constexpr int64_t kStreams = 64;
  std::vector<TrainingStream> alone, together(kStreams);
  for (int64_t i = 0; i < kStreams; ++i) alone.push_back(mixture->Make(i, 1000));
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int64_t i = kStreams - 1 - t; i >= 0; i -= 4) together[i] = mixture->Make(i, 1000);
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<std::vector<int32_t>> different;
  for (int64_t i = 0; i < kStreams; ++i) {
    EXPECT_EQ(alone[i].tokens, together[i].tokens);
    EXPECT_EQ(alone[i].weights, together[i].weights);
    different.insert(alone[i].tokens);
  }
  EXPECT_EQ(different.size(), static_cast<size_t>(kStreams));
}

TEST_F(StreamTest, OtherSeedsGiveOtherStreams) {
  const auto a = StreamMixture::Create(Data(), {.seed = 1});
  const auto b = StreamMixture::Create(Data(), {.seed = 2});
  for (int64_t i = 0; i < 10; ++i) EXPECT_NE(a->Make(i, 512).tokens, b->Make(i, 512).tokens);
}

TEST_F(StreamTest, MissingDataTakesNoPart) {
  MixtureOptions options;
  options.weights.fill(0);
  options.weights[kBabiStream] = 1;
  const MixtureData none{.tokenizer = tokenizer_.get(), .corpus = &corpus_};
  EXPECT_EQ(StreamMixture::Create(none, options).status().code(),
            absl::StatusCode::kInvalidArgument);
  options.weights[kNewsStream] = 1;
  const auto mixture = StreamMixture::Create(none, options);
  ASSERT_TRUE(mixture.ok());
  for (int64_t i = 0; i < 20; ++i) {
    for (const auto& answer : mixture->Make(i, 2000).answers) EXPECT_EQ(answer.task, kNewsStream);
  }
  options.weights[kNewsStream] = -1;
  EXPECT_FALSE(StreamMixture::Create(none, options).ok());
  EXPECT_FALSE(StreamMixture::Create({.tokenizer = tokenizer_.get()}, {}).ok());
}

}  // namespace
}  // namespace rasq::train
