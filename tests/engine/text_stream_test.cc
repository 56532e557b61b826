#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/tokenizer/tokenizer.h"
#include "tests/support/small_tokenizer.h"

namespace rasq {
namespace {

struct NamedTokenizer {
  const char* name;
  const char* pre_tokenizer;  // null: the shipped tokenizer
};
void PrintTo(const NamedTokenizer& param, std::ostream* out) { *out << param.name; }

class TextStreamTest : public testing::TestWithParam<NamedTokenizer> {
 protected:
  void SetUp() override {
    auto tokenizer =
        GetParam().pre_tokenizer == nullptr
            ? Tokenizer::Load(RASQ_SOURCE_DIR "/models/default")
            : Tokenizer::Parse(SmallTokenizerJson(GetParam().pre_tokenizer).dump(), "", "t.json");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
  }

  // Cuts `text` into pieces of 0 to `most` bytes and expects the whole text's tokens.
  void ExpectCutInvariant(const std::string& text, size_t most, std::mt19937& random) {
    TextStream stream(tokenizer_.get());
    std::vector<int32_t> ids;
    for (size_t done = 0; done < text.size();) {
      const size_t size = std::uniform_int_distribution<size_t>(0, most)(random);
      stream.Append(absl::string_view(text).substr(done, size), ids);
      done += size;
      ASSERT_LE(stream.held().size(), 4 * TextStream::kMaxWordBytes);
    }
    const std::vector<int32_t> rest = stream.Peek();
    const size_t certain = ids.size();
    stream.Finish(ids);
    EXPECT_EQ(std::vector<int32_t>(ids.begin() + static_cast<int64_t>(certain), ids.end()), rest);
    EXPECT_EQ(stream.held(), "");
    ASSERT_EQ(ids, tokenizer_->Encode(text)) << testing::PrintToString(text);
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

std::string RandomText(std::mt19937& random, size_t num_parts) {
  static const std::vector<std::string> parts = {"the",
                                                 " the",
                                                 " thing",
                                                 "don't",
                                                 "we'LL",
                                                 "'s",
                                                 "'",
                                                 "'r",
                                                 " ",
                                                 "  ",
                                                 "   ",
                                                 "\n",
                                                 "\r\n",
                                                 "\n\n",
                                                 "\t",
                                                 "  \t",
                                                 "1",
                                                 "12",
                                                 "12345",
                                                 "\xC2\xBD",
                                                 "\xC3\xA9",
                                                 "e\xCC\x81",
                                                 "\xE6\xBC\xA2\xE5\xAD\x97",
                                                 "\xF0\x9F\x98\x80",
                                                 "\xF0\x9F\x91\xA8\xE2\x80\x8D\xF0\x9F\x91\xA9",
                                                 "\xC2\xA0",
                                                 "\xC2\x85",
                                                 "\xE3\x80\x80",
                                                 "!!",
                                                 "...",
                                                 " --",
                                                 "?!\n",
                                                 "<",
                                                 "<|",
                                                 "<|end",
                                                 "<|end|>",
                                                 "<|endof",
                                                 "<|endoftext|>",
                                                 "<<",
                                                 "<<x>>",
                                                 "\xFF",
                                                 "\xE6\xBC",
                                                 "\xF0\x9F",
                                                 "\xED\xA0\x80",
                                                 "\x80",
                                                 "The",
                                                 "AbC",
                                                 "_",
                                                 "/",
                                                 std::string(1, '\0'),
                                                 "x",
                                                 "aaaa"};
  std::string text;
  for (size_t i = 0; i < num_parts; ++i) {
    text += parts[std::uniform_int_distribution<size_t>(0, parts.size() - 1)(random)];
  }
  return text;
}

TEST_P(TextStreamTest, TokensDoNotDependOnTheCuts) {
  std::mt19937 random(7);
  for (int round = 0; round < 3000; ++round) {
    const std::string text = RandomText(random, 1 + random() % 24);
    const size_t most = round % 3 == 0 ? 1 : round % 3 == 1 ? 4 : 24;
    ExpectCutInvariant(text, most, random);
    if (HasFatalFailure()) return;
  }
}

TEST_P(TextStreamTest, LongWordsAreCutAlike) {
  std::mt19937 random(11);
  for (const char* unit : {"a", " ", "\n", " \n", "!", "1", "\xC3\xA9", "\xE6\xBC\xA2",
                           "\xF0\x9F\x98\x80", "<", "\xFF", "'", "x'", "\t "}) {
    for (const size_t bytes : {4000, 4090, 4095, 4096, 4097, 4099, 4100, 4101, 4104, 8200, 13000}) {
      std::string text = RandomText(random, 2);
      const size_t begin = text.size();
      while (text.size() - begin < bytes) text += unit;
      text += RandomText(random, 6);
      ExpectCutInvariant(text, 700, random);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(TextStreamTest, HoldsLittleOfProse) {
  TextStream stream(tokenizer_.get());
  std::vector<int32_t> ids;
  stream.Append("One could hear some children from the covered market", ids);
  EXPECT_EQ(stream.held(), " market");
  stream.Append("; there", ids);
  EXPECT_EQ(stream.held(), " there");
  stream.Finish(ids);
  EXPECT_EQ(ids, tokenizer_->Encode("One could hear some children from the covered market; there"));
}

TEST_P(TextStreamTest, HoldsWhatMayBecomeAnAddedToken) {
  TextStream stream(tokenizer_.get());
  std::vector<int32_t> ids;
  stream.Append("ok <|endoftex", ids);
  EXPECT_EQ(stream.held(), " <|endoftex");
  stream.Append("t|>", ids);
  EXPECT_EQ(stream.held(), "");
  EXPECT_EQ(ids, tokenizer_->Encode("ok <|endoftext|>"));
}

TEST_P(TextStreamTest, FinishBeginsATextOfItsOwn) {
  TextStream stream(tokenizer_.get());
  std::vector<int32_t> ids;
  stream.Append("thing", ids);
  stream.Finish(ids);
  stream.Append("thing", ids);
  stream.Finish(ids);
  std::vector<int32_t> want = tokenizer_->Encode("thing");
  want.insert(want.end(), want.begin(), want.begin() + static_cast<int64_t>(want.size()));
  EXPECT_EQ(ids, want);
}

INSTANTIATE_TEST_SUITE_P(All, TextStreamTest,
                         testing::Values(NamedTokenizer{"Shipped", nullptr},
                                         NamedTokenizer{"Gpt2", kGpt2PreTokenizer},
                                         NamedTokenizer{"DigitsGpt2", kDigitsGpt2PreTokenizer},
                                         NamedTokenizer{"Llama3", kLlama3PreTokenizer},
                                         NamedTokenizer{"Qwen", kQwenPreTokenizer}),
                         [](const auto& test) { return std::string(test.param.name); });

// Patterns that leave gaps: what lies in them is held until the gap ends, or is as long as a word.
class GappyTextStreamTest : public TextStreamTest {};

TEST_P(GappyTextStreamTest, TokensDoNotDependOnTheCuts) {
  std::mt19937 random(13);
  for (int round = 0; round < 3000; ++round) {
    ExpectCutInvariant(RandomText(random, 1 + random() % 24), 1 + round % 12, random);
    if (HasFatalFailure()) return;
  }
  for (const char* unit : {"a", " ", "!", "1", "\xC3\xA9", "<<", "<<x>>", " \xE3\x80\x80"}) {
    std::string text = RandomText(random, 3);
    while (text.size() < 9000) text += unit;
    ExpectCutInvariant(text + RandomText(random, 5), 700, random);
    if (HasFatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(All, GappyTextStreamTest,
                         testing::Values(NamedTokenizer{"ManyStages", kManyStagesPreTokenizer},
                                         NamedTokenizer{"NoStages", "null"}),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace rasq
