#include "client/utf8.h"

#include <gtest/gtest.h>

namespace rasq::client {
namespace {

constexpr char kText[] = "a\xC3\xA9z \xE2\x82\xAC \xF0\x9D\x84\x9E \xED\x9F\xBF \xF4\x8F\xBF\xBF.";

TEST(Utf8DecoderTest, EveryCutGivesTheSameText) {
  const std::string text = kText;
  for (size_t first = 0; first <= text.size(); ++first) {
    for (size_t second = first; second <= text.size(); ++second) {
      Utf8Decoder decoder(Utf8Decoder::Invalid::kRefuse);
      std::string out;
      ASSERT_TRUE(decoder.Decode(text.substr(0, first), &out).ok());
      ASSERT_TRUE(decoder.Decode(text.substr(first, second - first), &out).ok());
      ASSERT_TRUE(decoder.Decode(text.substr(second), &out).ok());
      ASSERT_TRUE(decoder.Finish(&out).ok());
      ASSERT_EQ(out, text);
    }
  }
}

TEST(Utf8DecoderTest, WholeCharactersComeOutAtOnce) {
  Utf8Decoder decoder(Utf8Decoder::Invalid::kRefuse);
  std::string out;
  ASSERT_TRUE(decoder.Decode("ab\xE2\x82", &out).ok());
  EXPECT_EQ(out, "ab");
  ASSERT_TRUE(decoder.Decode("\xAC", &out).ok());
  EXPECT_EQ(out, "ab\xE2\x82\xAC");
}

struct Bad {
  const char* name;
  std::string bytes;
  std::string replaced;  // ? stands for U+FFFD
};
void PrintTo(const Bad& bad, std::ostream* out) { *out << bad.name; }

class BadUtf8Test : public ::testing::TestWithParam<Bad> {};

TEST_P(BadUtf8Test, IsRefusedAtItsOffsetOrReplaced) {
  // The bad bytes stand at offset 5, over a cut.
  const std::string bytes = "12345" + GetParam().bytes;
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    Utf8Decoder refuse(Utf8Decoder::Invalid::kRefuse), replace(Utf8Decoder::Invalid::kReplace);
    std::string before, out;
    absl::Status status = refuse.Decode(bytes.substr(0, cut), &before);
    if (status.ok()) status = refuse.Decode(bytes.substr(cut), &before);
    if (status.ok()) status = refuse.Finish(&before);
    EXPECT_EQ(status.message(), "not valid UTF-8 at byte 5");
    EXPECT_EQ(before, "12345");

    ASSERT_TRUE(replace.Decode(bytes.substr(0, cut), &out).ok());
    ASSERT_TRUE(replace.Decode(bytes.substr(cut), &out).ok());
    ASSERT_TRUE(replace.Finish(&out).ok());
    std::string want = "12345";
    for (const char c : GetParam().replaced) {
      want += c == '?' ? std::string("\xEF\xBF\xBD") : std::string(1, c);
    }
    EXPECT_EQ(out, want) << "cut=" << cut;
  }
}

INSTANTIATE_TEST_SUITE_P(All, BadUtf8Test,
                         ::testing::Values(Bad{"Continuation", "\x80z", "?z"},
                                           Bad{"Never", "\xFFz", "?z"},
                                           Bad{"Overlong", "\xC0\xAFz", "??z"},
                                           Bad{"Overlong3", "\xE0\x80\x80z", "???z"},
                                           Bad{"Surrogate", "\xED\xA0\x80z", "???z"},
                                           Bad{"TooLarge", "\xF4\x90\x80\x80z", "????z"},
                                           Bad{"CutShort", "\xE2\x82z", "?z"},
                                           Bad{"EndOfFile", "\xF0\x9D\x84", "?"}),
                         ::testing::PrintToStringParamName());

TEST(Utf8PrefixTest, EndsWithAWholeCharacter) {
  const std::string text =
      "a\xE2\x82\xAC"
      "b";
  EXPECT_EQ(Utf8Prefix(text, 100), text);
  EXPECT_EQ(Utf8Prefix(text, 4), "a\xE2\x82\xAC");
  EXPECT_EQ(Utf8Prefix(text, 3), "a");
  EXPECT_EQ(Utf8Prefix(text, 1), "a");
  EXPECT_EQ(Utf8Prefix(text.substr(1), 1), "\xE2\x82\xAC");  // one character at least
}

}  // namespace
}  // namespace rasq::client
