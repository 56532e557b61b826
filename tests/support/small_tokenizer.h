// Small tokenizers for tests: a token for every byte, a few dozen merges, a few added tokens.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace rasq {

// The patterns of well-known tokenizers, as "pre_tokenizer" entries.
inline constexpr char kGpt2PreTokenizer[] =
    R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true})";
inline constexpr char kDigitsGpt2PreTokenizer[] =
    R"({"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": true},
        {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}]})";
inline constexpr char kLlama3PreTokenizer[] =
    R"({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex":
         "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
        {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})";
inline constexpr char kQwenPreTokenizer[] =
    R"({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex":
         "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
        {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})";
// Patterns that leave text between their matches, and look ahead to a line's end.
inline constexpr char kManyStagesPreTokenizer[] =
    R"({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "behavior": "Isolated", "pattern": {"Regex": "[\\r\\n]"}},
        {"type": "Split", "behavior": "Isolated", "pattern": {"String": "<<x>>"}},
        {"type": "Split", "behavior": "Isolated", "pattern": {"Regex": "\\s?\\p{L}+"}},
        {"type": "Split", "behavior": "Isolated", "pattern": {"Regex": "\\s+$"}},
        {"type": "Digits", "individual_digits": false},
        {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})";

// A byte as pieces are written: printable Latin-1 characters stand for themselves, the other bytes
// in order for U+0100 and up.
inline std::string WrittenByte(int byte) {
  const auto itself = [](int b) { return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD); };
  int code_point = byte;
  if (!itself(byte)) {
    code_point = 0x100;
    for (int b = 0; b < byte; ++b) code_point += itself(b) ? 0 : 1;
  }
  if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
  return {static_cast<char>(0xC0 | code_point >> 6), static_cast<char>(0x80 | (code_point & 0x3F))};
}

// tokenizer.json: ids 0..255 are the bytes, then the merges' results, then the added tokens
// <|endoftext|> and <|end|> (special), <|endof and "  \t" (not).
inline nlohmann::json SmallTokenizerJson(const std::string& pre_tokenizer) {
  using nlohmann::json;
  json vocab = json::object();
  json merges = json::array();
  for (int byte = 0; byte < 256; ++byte) vocab[WrittenByte(byte)] = byte;
  const std::vector<std::pair<std::string, std::string>> pairs = {
      {"h", "e"},           {" ", "t"},       {" t", "he"},         {"i", "n"},
      {" ", " "},           {"  ", "  "},     {"l", "l"},           {"'", "s"},
      {"'", "ll"},          {"1", "2"},       {"12", "3"},          {"\n", "\n"},
      {"\r", "\n"},         {" ", "a"},       {"in", "g"},          {"a", "a"},
      {"aa", "aa"},         {"aa", "a"},      {"\xC3", "\xA9"},     {"\xE6", "\xBC"},
      {"\xE6\xBC", "\xA2"}, {"\xF0", "\x9F"}, {"\xF0\x9F", "\x98"}, {"!", "!"},
      {".", "."},           {"..", "."},      {"T", "he"},          {"x", "x"}};
  const auto written = [](const std::string& bytes) {
    std::string piece;
    for (const char byte : bytes) piece += WrittenByte(static_cast<unsigned char>(byte));
    return piece;
  };
  int id = 256;
  for (const auto& [left, right] : pairs) {
    vocab[written(left + right)] = id++;
    merges.push_back(json::array({written(left), written(right)}));
  }
  json added = json::array();
  for (const char* content : {"<|endoftext|>", "<|end|>", "<|endof", "  \t"}) {
    const bool special = content[0] == '<' && std::string(content).back() == '>';
    added.push_back({{"id", id++}, {"content", content}, {"special", special}});
  }
  return {{"version", "1.0"},
          {"added_tokens", added},
          {"normalizer", nullptr},
          {"pre_tokenizer", json::parse(pre_tokenizer)},
          {"post_processor", nullptr},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
}

}  // namespace rasq
