#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/tokenizer/tokenizer.h"
#include "tests/support/small_tokenizer.h"

namespace rasq {
namespace {

constexpr char kReplacement[] = "\xEF\xBF\xBD";

class DetokenizerTest : public testing::Test {
 protected:
  // The small tokenizer's ids below 256 are bytes.
  const std::unique_ptr<Tokenizer> tokenizer_ =
      Tokenizer::Parse(SmallTokenizerJson(kGpt2PreTokenizer).dump(), "", "t.json").value();
  Detokenizer detokenizer_{tokenizer_.get()};
};

TEST_F(DetokenizerTest, CharactersComeWhole) {
  EXPECT_EQ(detokenizer_.Push(0xF0), "");
  EXPECT_EQ(detokenizer_.Push(0x9F), "");
  EXPECT_EQ(detokenizer_.Push(0x98), "");
  EXPECT_EQ(detokenizer_.held_bytes(), 3);
  EXPECT_EQ(detokenizer_.Push(0x80), "\xF0\x9F\x98\x80");
  EXPECT_EQ(detokenizer_.held_bytes(), 0);
  EXPECT_EQ(detokenizer_.Push('a'), "a");
  EXPECT_EQ(detokenizer_.Finish(), "");
}

TEST_F(DetokenizerTest, BrokenCharactersAreReplaced) {
  EXPECT_EQ(detokenizer_.Push(0xE6), "");
  EXPECT_EQ(detokenizer_.Push('a'), std::string(kReplacement) + "a");
  EXPECT_EQ(detokenizer_.Push(0xFF), kReplacement);
  EXPECT_EQ(detokenizer_.Push(0x80), kReplacement);
  EXPECT_EQ(detokenizer_.Push(0xF0), "");
  EXPECT_EQ(detokenizer_.Push(0x9F), "");
  EXPECT_EQ(detokenizer_.Finish(), kReplacement);
  EXPECT_EQ(detokenizer_.held_bytes(), 0);
}

TEST_F(DetokenizerTest, SpecialTokensAreSilentUnlessKept) {
  const int32_t end = tokenizer_->Encode("<|end|>").at(0);
  EXPECT_EQ(detokenizer_.Push(end), "");
  EXPECT_EQ(detokenizer_.Push(end, /*keep_special=*/true), "<|end|>");
  EXPECT_EQ(detokenizer_.Push(tokenizer_->Encode("<|endof").at(0)), "<|endof");
  EXPECT_EQ(detokenizer_.Push(-1), "");
  EXPECT_EQ(detokenizer_.Push(1 << 30), "");
}

TEST_F(DetokenizerTest, PiecesJoinToDecode) {
  const std::string text = "The th\xC3\xA9 \xFF \xE6\xBC\xA2\xE6\xBC x \xF0\x9F\x98\x80 \xF0\x9F";
  const std::vector<int32_t> ids = tokenizer_->Encode(text);
  std::string joined;
  for (const int32_t id : ids) joined += detokenizer_.Push(id);
  joined += detokenizer_.Finish();
  EXPECT_EQ(joined, tokenizer_->Decode(ids));
}

}  // namespace
}  // namespace rasq
