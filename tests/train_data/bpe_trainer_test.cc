#include "train/data/bpe_trainer.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/json_reader.h"
#include "engine/tokenizer/tokenizer.h"

namespace rasq::train {
namespace {

using Merges = std::vector<std::pair<std::string, std::string>>;

std::unique_ptr<Tokenizer> Load(const BpeFiles& files) {
  auto tokenizer = Tokenizer::Parse(files.tokenizer_json, files.tokenizer_config_json, "trained");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

TEST(BpeTrainerTest, MergesWorkedOutByHand) {
  // Words: "abab" once, " abc" 3 times (with the space, written Ġ), "bc" once.
  // Pairs: a b: 2+3=5; b a: 1; Ġ a: 3; b c: 3+1=4. So ab (5). Then: ab ab: 1; Ġ ab: 3; ab c: 3;
  // b c: 1, and of the two with 3 that with the lower left id: bytes come in the order of the
  // characters that stand for them, so Ġ (U+0120) is behind the letters but before merged tokens:
  // Ġab (3), then Ġabc (3). What is left occurs once.
  const auto files = TrainBpe({"abab abc abc abc", "bc"}, {.vocab_size = 300});
  ASSERT_TRUE(files.ok()) << files.status();
  const Json json = Json::parse(files->tokenizer_json);
  EXPECT_EQ(json["model"]["merges"].get<Merges>(), (Merges{{"a", "b"}, {"Ġ", "ab"}, {"Ġab", "c"}}));
  EXPECT_EQ(json["model"]["vocab"].size(), 257u + 3);
  EXPECT_EQ(json["model"]["vocab"]["<|endoftext|>"], 0);
  EXPECT_EQ(json["model"]["vocab"]["!"], 1);
  EXPECT_EQ(json["model"]["vocab"]["Ġabc"], 259);

  const std::unique_ptr<Tokenizer> tokenizer = Load(*files);
  EXPECT_EQ(tokenizer->Encode("abab abc"), (std::vector<int32_t>{257, 257, 259}));
  EXPECT_EQ(tokenizer->bos_token_id(), 0);
  EXPECT_TRUE(tokenizer->add_bos());
}

TEST(BpeTrainerTest, AnOverlappingPairCountsWhereItCanBeMerged) {
  // "aaaa": a a counts 3 times, becomes two tokens, which are a pair once.
  const auto files = TrainBpe({"aaaa aaaa"}, {.vocab_size = 259, .min_count = 1});
  const Json json = Json::parse(files->tokenizer_json);
  EXPECT_EQ(json["model"]["merges"].get<Merges>(), (Merges{{"a", "a"}, {"aa", "aa"}}));
}

TEST(BpeTrainerTest, DigitsAreTokensOfTheirOwn) {
  const auto files = TrainBpe({"1212 1212 1212 x12"}, {.vocab_size = 400});
  const std::unique_ptr<Tokenizer> tokenizer = Load(*files);
  EXPECT_EQ(tokenizer->Encode("1212").size(), 4u);
}

TEST(BpeTrainerTest, WhatItLearnedReadsEverything) {
  std::string text;
  for (int i = 0; i < 3000; ++i) {
    absl::StrAppend(&text, "The ", i % 13, "th réservoir of the north is ", i % 7, " 漢字 deep.\n");
  }
  const auto files = TrainBpe({text}, {.vocab_size = 320});
  ASSERT_TRUE(files.ok());
  const std::unique_ptr<Tokenizer> tokenizer = Load(*files);
  EXPECT_EQ(tokenizer->vocab_size(), 290);  // then every word is one token
  for (const std::string& sample : {text, std::string("Other text, with\ttabs\n\nand 1,234.")}) {
    EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(sample)), sample);
  }
  EXPECT_LT(tokenizer->Encode(text).size(), text.size() / 3);
}

TEST(BpeTrainerTest, DoesNotDependOnThreadsOrOrder) {
  std::string a, b;
  for (int i = 0; i < 200'000; ++i) {
    absl::StrAppend(&a, "w", i * 7919 % 1000, i % 9 == 0 ? "\n" : " ");
    absl::StrAppend(&b, "some ", i % 100, " v", i % 17, "\n");
  }
  const auto one = TrainBpe({a, b}, {.vocab_size = 500});
  const auto many = TrainBpe({b, a}, {.vocab_size = 500, .num_threads = 4});
  EXPECT_EQ(one->tokenizer_json, many->tokenizer_json);
}

TEST(BpeTrainerTest, RefusesBadOptions) {
  EXPECT_FALSE(TrainBpe({"a"}, {.vocab_size = 256}).ok());
  EXPECT_FALSE(TrainBpe({"a"}, {.min_count = 0}).ok());
  EXPECT_FALSE(TrainBpe({"a"}, {.special_token = ""}).ok());
  EXPECT_FALSE(TrainBpe({"a"}, {.special_token = "\xFF"}).ok());
}

}  // namespace
}  // namespace rasq::train
