#include "engine/tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/small_tokenizer.h"

namespace rasq {
namespace {

using nlohmann::json;

std::unique_ptr<Tokenizer> Parse(const json& tokenizer, const std::string& config = "") {
  auto parsed = Tokenizer::Parse(tokenizer.dump(), config, "t.json");
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return parsed.ok() ? *std::move(parsed) : nullptr;
}

std::unique_ptr<Tokenizer> LoadDefault() {
  auto loaded = Tokenizer::Load(RASQ_SOURCE_DIR "/models/default");
  EXPECT_TRUE(loaded.ok()) << loaded.status();
  return loaded.ok() ? *std::move(loaded) : nullptr;
}

std::vector<std::string> Words(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<std::string> words;
  for (const int32_t id : tokenizer.Encode(text)) words.emplace_back(tokenizer.TokenBytes(id));
  return words;
}

TEST(TokenizerTest, MergesByRank) {
  const auto tokenizer = Parse(SmallTokenizerJson(kGpt2PreTokenizer));
  using Strings = std::vector<std::string>;
  EXPECT_EQ(Words(*tokenizer, "The thing"), (Strings{"The", " t", "h", "ing"}));
  // "aa"+"aa" ranks before "aa"+"a", and the leftmost of equals goes first.
  EXPECT_EQ(Words(*tokenizer, "aaaaaaa"), (Strings{"aaaa", "aaa"}));
  EXPECT_EQ(Words(*tokenizer, "he'll"), (Strings{"he", "'ll"}));
  EXPECT_EQ(Words(*tokenizer, "\xE6\xBC\xA2"), (Strings{"\xE6\xBC\xA2"}));
}

TEST(TokenizerTest, OfBytes) {
  const auto tokenizer = Tokenizer::OfBytes();
  EXPECT_EQ(tokenizer->vocab_size(), 256);
  EXPECT_EQ(tokenizer->bos_token_id(), -1);
  EXPECT_EQ(tokenizer->Encode("a \xC3\xA9\xFF"),
            (std::vector<int32_t>{'a', ' ', 0xC3, 0xA9, 0xFF}));
  EXPECT_EQ(tokenizer->Decode({0xC3, 0xA9, '!'}), "\xC3\xA9!");
  TextStream stream(tokenizer.get());
  std::vector<int32_t> tokens;
  stream.Append("to b", tokens);
  EXPECT_EQ(tokens, (std::vector<int32_t>{'t', 'o'}));
  stream.Finish(tokens);
  EXPECT_EQ(tokens, (std::vector<int32_t>{'t', 'o', ' ', 'b'}));
}

TEST(TokenizerTest, LongWordsMergeAsShortOnesDo) {
  const auto tokenizer = Parse(SmallTokenizerJson(kGpt2PreTokenizer));
  for (const int size : {31, 32, 33, 64, 1000, 4096}) {
    std::vector<std::string> want(static_cast<size_t>(size / 4), "aaaa");
    if (size % 4 == 3) want.emplace_back("aaa");
    if (size % 4 == 2) want.emplace_back("aa");
    if (size % 4 == 1) want.emplace_back("a");
    EXPECT_EQ(Words(*tokenizer, std::string(static_cast<size_t>(size), 'a')), want) << size;
  }
}

TEST(TokenizerTest, WordsAreCutAtTheLimit) {
  const auto tokenizer = Parse(SmallTokenizerJson(kGpt2PreTokenizer));
  // 4096 letters x are 2048 pairs; the next word begins anew, with an odd one out at the end.
  const auto words = Words(*tokenizer, std::string(4096 + 3, 'x'));
  ASSERT_EQ(words.size(), 2048 + 2);
  EXPECT_EQ(words.back(), "x");
  // A character of two bytes does not fit into byte 4096: the cut is before it.
  const auto cut = Words(*tokenizer, std::string(4095, 'y') + "\xC3\xA9");
  EXPECT_EQ(cut.back(), "\xC3\xA9");
  EXPECT_EQ(cut.size(), 4096);
}

TEST(TokenizerTest, AddedTokensAreFoundFirstAndLongestFirst) {
  const auto tokenizer = Parse(SmallTokenizerJson(kGpt2PreTokenizer));
  EXPECT_EQ(Words(*tokenizer, "x<|endoftext|>x<|endofx<|end|>"),
            (std::vector<std::string>{"x", "<|endoftext|>", "x", "<|endof", "x", "<|end|>"}));
  const int32_t end = tokenizer->Encode("<|end|>").at(0);
  EXPECT_TRUE(tokenizer->IsSpecial(end));
  EXPECT_FALSE(tokenizer->IsSpecial(tokenizer->Encode("<|endof").at(0)));
  EXPECT_FALSE(tokenizer->IsSpecial(-1));
  EXPECT_EQ(tokenizer->TokenBytes(1 << 30), "");
}

TEST(TokenizerTest, BytesThatAreNotUtf8AreTokensOfTheirOwn) {
  const auto tokenizer = Parse(SmallTokenizerJson(kLlama3PreTokenizer));
  const std::string text =
      "a\xFF\xE6\xBC"
      "b\xED\xA0\x80";  // stray, unfinished, a surrogate
  std::string joined;
  for (const std::string& word : Words(*tokenizer, text)) {
    EXPECT_EQ(word.size(), 1);
    joined += word;
  }
  EXPECT_EQ(joined, text);
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode("a\xE6\xBC"
                                                "b")),
            "a\xEF\xBF\xBD"
            "b");
}

TEST(TokenizerTest, IgnoreMergesTakesWholeWords) {
  json file = SmallTokenizerJson(kGpt2PreTokenizer);
  file["model"]["vocab"]["zebra"] = 1000;
  EXPECT_EQ(Words(*Parse(file), "zebra").size(), 5);
  file["model"]["ignore_merges"] = true;
  EXPECT_EQ(Parse(file)->Encode("zebra"), std::vector<int32_t>{1000});
}

TEST(TokenizerTest, MergesMayBeStrings) {
  json file = SmallTokenizerJson(kGpt2PreTokenizer);
  const auto tokenizer = Parse(file);
  for (json& merge : file["model"]["merges"]) {
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  }
  EXPECT_EQ(Parse(file)->Encode("The thing, he'll"), tokenizer->Encode("The thing, he'll"));
}

TEST(TokenizerTest, SpaceIsUnicodesWhiteSpace) {
  const auto tokenizer = Parse(SmallTokenizerJson(kGpt2PreTokenizer));
  // U+180E is none (but PCRE2's own \s has it), so it and "!!" are one word, and "!!" merges.
  EXPECT_EQ(Words(*tokenizer, "\xE1\xA0\x8E!!").back(), "!!");
  // U+0085 is: with the space before "a" it leaves " a" whole.
  EXPECT_EQ(Words(*tokenizer, "\xC2\x85 a").back(), " a");
}

// The golden ids are those of the Hugging Face tokenizers library, 0.23.3.
TEST(TokenizerTest, ShippedTokenizerEqualsHuggingFace) {
  const auto tokenizer = LoadDefault();
  ASSERT_NE(tokenizer, nullptr);
  const std::string text =
      "Don't  panic: in 1984,\n\n\tthe \xC5\xBDlu\xC5\xA5 fox\xE2\x80\x94 \xE6\xBC\xA2\xE5\xAD\x97 "
      "\xC2\xBD \xF0\x9F\x98\x80 we'll see<|endoftext|> ok   ";
  const std::vector<int32_t> want = {
      4070, 449, 221, 284, 4278, 26,  291, 221,  17,  25,  24,  20,   12,  1789, 198,  386,
      221,  130, 122, 76,  85,   130, 99,  5712, 159, 223, 243, 221,  163, 121,  96,   162,
      256,  246, 221, 127, 122,  221, 173, 254,  247, 223, 362, 1138, 621, 0,    5633, 5731};
  EXPECT_EQ(tokenizer->Encode(text), want);
  EXPECT_EQ(tokenizer->Decode(want), text);
  EXPECT_EQ(tokenizer->vocab_size(), 8192);
  EXPECT_EQ(tokenizer->bos_token_id(), 0);
  EXPECT_EQ(tokenizer->eos_token_id(), 0);
  EXPECT_TRUE(tokenizer->add_bos());
}

TEST(TokenizerTest, ThreadsShareIt) {
  const auto tokenizer = Parse(SmallTokenizerJson(kLlama3PreTokenizer));
  std::string text;
  for (int i = 0; i < 500; ++i) text += "word" + std::to_string(i) + " thing\n";
  const std::vector<int32_t> want = tokenizer->Encode(text);
  std::vector<std::vector<int32_t>> got(4);
  std::vector<std::thread> threads;
  for (auto& ids : got) threads.emplace_back([&] { ids = tokenizer->Encode(text); });
  for (auto& thread : threads) thread.join();
  for (const auto& ids : got) EXPECT_EQ(ids, want);
}

TEST(TokenizerTest, BosFromTheTemplateOrTheConfig) {
  json file = SmallTokenizerJson(kLlama3PreTokenizer);
  EXPECT_FALSE(Parse(file)->add_bos());
  file["post_processor"] = json::parse(R"({"type": "Sequence", "processors": [
      {"type": "ByteLevel"},
      {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|end|>", "type_id": 0}},
                                                {"Sequence": {"id": "A", "type_id": 0}}]}]})");
  const auto with_template = Parse(file);
  EXPECT_TRUE(with_template->add_bos());
  EXPECT_EQ(with_template->bos_token_id(), with_template->Encode("<|end|>").at(0));
  EXPECT_FALSE(Parse(file, R"({"add_bos_token": false})")->add_bos());
  const auto with_object = Parse(file, R"({"bos_token": {"content": "<|endoftext|>"}})");
  EXPECT_EQ(with_object->bos_token_id(), with_object->Encode("<|endoftext|>").at(0));
}

struct Fault {
  const char* name;
  const char* patch;  // RFC 6902, on SmallTokenizerJson
  const char* error;  // part of the message
};
void PrintTo(const Fault& fault, std::ostream* out) { *out << fault.name; }

class TokenizerFaultTest : public testing::TestWithParam<Fault> {};

TEST_P(TokenizerFaultTest, IsNamed) {
  const json file = SmallTokenizerJson(kLlama3PreTokenizer).patch(json::parse(GetParam().patch));
  const auto parsed = Tokenizer::Parse(file.dump(), "", "t.json");
  ASSERT_FALSE(parsed.ok());
  EXPECT_NE(parsed.status().message().find("t.json: "), absl::string_view::npos) << parsed.status();
  EXPECT_NE(parsed.status().message().find(GetParam().error), absl::string_view::npos)
      << parsed.status();
}

#define SPLIT(pattern)                                                          \
  R"([{"op": "replace", "path": "/pre_tokenizer", "value": {"type": "Split", )" \
  R"("behavior": "Isolated", "pattern": {"Regex": ")" pattern R"("}}}])"

INSTANTIATE_TEST_SUITE_P(
    All, TokenizerFaultTest,
    testing::Values(
        Fault{"NoModel", R"([{"op": "remove", "path": "/model"}])", "model: missing"},
        Fault{"OtherModel", R"([{"op": "add", "path": "/model/type", "value": "Unigram"}])",
              "type=\"Unigram\""},
        Fault{"NoMerges", R"([{"op": "remove", "path": "/model/merges"}])", "merges: not a list"},
        Fault{"UnknownMerge", R"([{"op": "add", "path": "/model/merges/2", "value": "zz q"}])",
              "merges[2]: piece=\"zz\" is not in the vocabulary"},
        Fault{"UnknownResult", R"([{"op": "add", "path": "/model/merges/0", "value": ["q", "q"]}])",
              "piece=\"qq\""},
        Fault{"MergeOfThree", R"([{"op": "add", "path": "/model/merges/0", "value": ["q"]}])",
              "merges[0]: no pair"},
        Fault{"NegativeId", R"([{"op": "add", "path": "/model/vocab/qq", "value": -1}])", "id=-1"},
        Fault{"HugeId", R"([{"op": "add", "path": "/model/vocab/qq", "value": 99999999999}])",
              "id=99999999999"},
        Fault{"FloatId", R"([{"op": "add", "path": "/model/vocab/qq", "value": 1.5}])", "id=1.5"},
        Fault{"TwiceId", R"([{"op": "add", "path": "/model/vocab/qq", "value": 7}])",
              "id=7 stands twice"},
        Fault{"NoByte", R"([{"op": "remove", "path": "/model/vocab/q"}])", "byte=0x71"},
        Fault{"Dropout", R"([{"op": "add", "path": "/model/dropout", "value": 0.1}])",
              "dropout=0.1"},
        Fault{"Prefix",
              R"([{"op": "add", "path": "/model/continuing_subword_prefix", "value": "##"}])",
              "continuing_subword_prefix"},
        Fault{"AddedIdTaken", R"([{"op": "add", "path": "/added_tokens/0/id", "value": 3}])",
              "id=3 stands twice"},
        Fault{"AddedEmpty", R"([{"op": "add", "path": "/added_tokens/0/content", "value": ""}])",
              "content="},
        Fault{"AddedStrips", R"([{"op": "add", "path": "/added_tokens/1/lstrip", "value": true}])",
              "added_tokens[1]: lstrip=true"},
        Fault{"AddedOtherId", R"([{"op": "add", "path": "/added_tokens/1/content", "value": "q"}])",
              "is not the vocabulary's 113"},
        Fault{"Normalizer",
              R"([{"op": "add", "path": "/normalizer", "value": {"type": "Lowercase"}}])",
              "type=\"Lowercase\""},
        Fault{"Metaspace",
              R"([{"op": "add", "path": "/pre_tokenizer", "value": {"type": "Metaspace"}}])",
              "type=\"Metaspace\""},
        Fault{"BadRegex", SPLIT("a("), "pattern=a("},
        Fault{"LookBehind", SPLIT("(?<=b)a"), "looks at what is before"},
        Fault{"WordBoundary", SPLIT("\\\\ba"), "looks at what is before"},
        Fault{"Caret", SPLIT("^a"), "looks at what is before"},
        Fault{"Empty", SPLIT("a*"), "matches no text"}, Fault{"Verb", SPLIT("(*COMMIT)a"), "verbs"},
        Fault{"ByteLevelFirst",
              R"([{"op": "add", "path": "/pre_tokenizer/pretokenizers/-",
                   "value": {"type": "Digits"}}])",
              "must be the last stage"},
        Fault{"PrefixSpace",
              R"([{"op": "add", "path": "/pre_tokenizer/pretokenizers/1/add_prefix_space",
                   "value": true}])",
              "add_prefix_space=true"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(TokenizerTest, HostileJsonIsRefused) {
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string(100000, '['),
        std::string("{\"model\": 1}"), std::string("{\"model\": {\"vocab\": {}, \"merges\": []}}"),
        std::string("{\"a\": 1, \"a\": 2}")}) {
    EXPECT_FALSE(Tokenizer::Parse(text, "", "t.json").ok()) << text.substr(0, 40);
  }
}

}  // namespace
}  // namespace rasq
