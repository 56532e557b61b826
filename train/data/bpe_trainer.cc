#include "train/data/bpe_trainer.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <queue>
#include <thread>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/json_reader.h"
#include "engine/tokenizer/pre_tokenizer.h"
#include "engine/tokenizer/tokenizer_file.h"
#include "engine/tokenizer/utf8.h"
#include "kernels/base/status.h"

namespace rasq::train {
namespace {

constexpr int32_t kNumBytes = 256;
constexpr char kPreTokenizer[] = R"({"type": "Sequence", "pretokenizers": [
    {"type": "Digits", "individual_digits": true},
    {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]})";

using Pair = std::pair<int32_t, int32_t>;
using WordCounts = absl::flat_hash_map<std::string, int64_t>;

struct Word {
  std::vector<int32_t> ids;
  int64_t count;
};

// GPT-2's way to write a byte as a character: printable ones of Latin-1 stand for themselves, the
// others get the code points from U+0100 on.
std::array<uint32_t, kNumBytes> ByteCharacters() {
  std::array<uint32_t, kNumBytes> characters;
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < kNumBytes; ++byte) {
    const bool itself = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    characters[byte] = itself ? byte : next++;
  }
  return characters;
}

std::string WriteCharacter(uint32_t code_point) {  // below U+0800
  if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
  return {static_cast<char>(0xC0 | code_point >> 6), static_cast<char>(0x80 | (code_point & 0x3F))};
}

// Pieces of texts for one thread at a time, cut behind line ends, where no word goes on.
std::vector<absl::string_view> Pieces(absl::Span<const absl::string_view> texts) {
  constexpr size_t kPieceBytes = 1 << 20;
  std::vector<absl::string_view> pieces;
  for (absl::string_view text : texts) {
    while (!text.empty()) {
      size_t end = text.size() <= kPieceBytes ? text.size() : text.find('\n', kPieceBytes);
      end = std::min(end == absl::string_view::npos ? end : end + 1, text.size());
      pieces.push_back(text.substr(0, end));
      text.remove_prefix(end);
    }
  }
  return pieces;
}

// The words of all texts and how often they occur, sorted.
std::map<std::string, int64_t> CountWords(absl::Span<const absl::string_view> texts,
                                          const PreTokenizer& pre_tokenizer, int num_threads) {
  const std::vector<absl::string_view> pieces = Pieces(texts);
  std::vector<WordCounts> counts(std::max(1, num_threads));
  std::atomic<size_t> next = 0;
  const auto work = [&](WordCounts& mine) {
    for (size_t i = next++; i < pieces.size(); i = next++) {
      std::string bytes(pieces[i]), text;
      DrainUtf8(bytes, /*end=*/true, text);
      pre_tokenizer.Split(text, /*open=*/false,
                          [&](absl::string_view word) { ++mine[std::string(word)]; });
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < counts.size(); ++i) {
    threads.emplace_back([&work, &mine = counts[i]] { work(mine); });
  }
  work(counts[0]);
  for (std::thread& thread : threads) thread.join();
  std::map<std::string, int64_t> all;
  for (const WordCounts& some : counts) {
    for (const auto& [word, count] : some) all[word] += count;
  }
  return all;
}

// Pairs of neighbours in a set of words: how frequent, and in which words.
class Pairs {
 public:
  explicit Pairs(std::vector<Word> words) : words_(std::move(words)) {
    for (size_t w = 0; w < words_.size(); ++w) {
      const std::vector<int32_t>& ids = words_[w].ids;
      for (size_t i = 0; i + 1 < ids.size(); ++i) Change({ids[i], ids[i + 1]}, words_[w].count, w);
    }
    for (const auto& [pair, entry] : entries_) heap_.push({entry.count, pair});
    changed_.clear();
  }

  // The most frequent pair; count 0 if there is none.
  std::pair<int64_t, Pair> Best() {
    while (!heap_.empty()) {
      const Candidate best = heap_.top();
      const int64_t count = entries_[best.pair].count;
      if (count == best.count) return {count, best.pair};
      heap_.pop();  // it became less frequent since
      if (count > 0) heap_.push({count, best.pair});
    }
    return {0, {}};
  }

  // Makes each occurrence of the pair the token `id`.
  void Merge(Pair pair, int32_t id) {
    std::vector<size_t> places = std::move(entries_[pair].words);
    std::sort(places.begin(), places.end());
    places.erase(std::unique(places.begin(), places.end()), places.end());
    for (const size_t w : places) MergeIn(w, pair, id);
    entries_.erase(pair);
    for (const Pair& changed : changed_) {
      if (const auto entry = entries_.find(changed); entry != entries_.end()) {
        heap_.push({entry->second.count, changed});
      }
    }
    changed_.clear();
  }

 private:
  struct Candidate {
    int64_t count;
    Pair pair;
    bool operator<(const Candidate& other) const {
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };
  struct Entry {
    int64_t count = 0;
    std::vector<size_t> words;  // that had it at some time, perhaps more than once
  };

  void Change(Pair pair, int64_t by, size_t word) {
    Entry& entry = entries_[pair];
    entry.count += by;
    if (by <= 0) return;
    if (entry.words.empty() || entry.words.back() != word) entry.words.push_back(word);
    if (changed_.empty() || changed_.back() != pair) changed_.push_back(pair);
  }

  // A word is short: all its pairs are taken out, and those of the merged word put in.
  void MergeIn(size_t w, Pair pair, int32_t id) {
    Word& word = words_[w];
    std::vector<int32_t> merged;
    for (size_t i = 0; i < word.ids.size(); ++i) {
      const bool match =
          i + 1 < word.ids.size() && word.ids[i] == pair.first && word.ids[i + 1] == pair.second;
      merged.push_back(match ? id : word.ids[i]);
      i += match ? 1 : 0;
    }
    if (merged.size() == word.ids.size()) return;  // another merge took it apart
    for (size_t i = 0; i + 1 < word.ids.size(); ++i) {
      Change({word.ids[i], word.ids[i + 1]}, -word.count, w);
    }
    word.ids = std::move(merged);
    for (size_t i = 0; i + 1 < word.ids.size(); ++i) {
      Change({word.ids[i], word.ids[i + 1]}, word.count, w);
    }
  }

  std::vector<Word> words_;
  absl::flat_hash_map<Pair, Entry> entries_;
  std::vector<Pair> changed_;  // that may have become more frequent
  std::priority_queue<Candidate> heap_;
};

BpeFiles WriteFiles(const std::vector<std::string>& tokens,
                    const std::vector<std::pair<std::string, std::string>>& merges,
                    const std::string& special) {
  using OrderedJson = nlohmann::ordered_json;
  OrderedJson vocab = OrderedJson::object();
  for (size_t id = 0; id < tokens.size(); ++id) vocab[tokens[id]] = id;
  OrderedJson file;
  file["version"] = "1.0";
  file["truncation"] = nullptr;
  file["padding"] = nullptr;
  file["added_tokens"] = OrderedJson::array({{{"id", 0},
                                              {"content", special},
                                              {"single_word", false},
                                              {"lstrip", false},
                                              {"rstrip", false},
                                              {"normalized", false},
                                              {"special", true}}});
  file["normalizer"] = nullptr;
  file["pre_tokenizer"] = OrderedJson::parse(kPreTokenizer);
  file["post_processor"] = nullptr;
  file["decoder"] = {{"type", "ByteLevel"},
                     {"add_prefix_space", true},
                     {"trim_offsets", true},
                     {"use_regex", true}};
  file["model"] = {{"type", "BPE"},
                   {"dropout", nullptr},
                   {"unk_token", nullptr},
                   {"continuing_subword_prefix", nullptr},
                   {"end_of_word_suffix", nullptr},
                   {"fuse_unk", false},
                   {"byte_fallback", false},
                   {"ignore_merges", false}};
  file["model"]["vocab"] = std::move(vocab);
  OrderedJson& list = file["model"]["merges"] = OrderedJson::array();
  for (const auto& [left, right] : merges) list.push_back(OrderedJson::array({left, right}));
  const OrderedJson config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                              {"add_bos_token", true},
                              {"bos_token", special},
                              {"eos_token", special},
                              {"clean_up_tokenization_spaces", false}};
  return {.tokenizer_json = file.dump(), .tokenizer_config_json = config.dump(2)};
}

}  // namespace

absl::StatusOr<BpeFiles> TrainBpe(absl::Span<const absl::string_view> texts,
                                  const BpeOptions& options) {
  if (options.vocab_size < kNumBytes + 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("vocab_size=", options.vocab_size, " is below ", kNumBytes + 1));
  }
  if (options.min_count < 1) {
    return absl::InvalidArgumentError(absl::StrCat("min_count=", options.min_count));
  }
  std::string bytes = options.special_token, special;
  DrainUtf8(bytes, /*end=*/true, special);
  if (special.empty() || special != options.special_token) {
    return absl::InvalidArgumentError("special_token is empty or not UTF-8");
  }
  RASQ_ASSIGN_OR_RETURN(const Json json, ParseJson(kPreTokenizer, "pre_tokenizer"));
  RASQ_ASSIGN_OR_RETURN(std::vector<Pattern> patterns, ParsePreTokenizer(&json, "pre_tokenizer"));
  const PreTokenizer pre_tokenizer(std::move(patterns));

  // Ids of bytes follow the characters that stand for them, as in files of Hugging Face's trainer.
  const std::array<uint32_t, kNumBytes> characters = ByteCharacters();
  std::array<int32_t, kNumBytes> id_of;
  std::vector<std::string> tokens = {special};
  std::vector<std::pair<uint32_t, uint8_t>> order;
  for (int32_t byte = 0; byte < kNumBytes; ++byte) {
    order.emplace_back(characters[byte], static_cast<uint8_t>(byte));
  }
  std::sort(order.begin(), order.end());
  for (const auto& [character, byte] : order) {
    id_of[byte] = static_cast<int32_t>(tokens.size());
    tokens.push_back(WriteCharacter(character));
  }

  std::vector<Word> words;
  for (const auto& [text, count] : CountWords(texts, pre_tokenizer, options.num_threads)) {
    Word word{.count = count};
    for (const char c : text) word.ids.push_back(id_of[static_cast<uint8_t>(c)]);
    words.push_back(std::move(word));
  }

  Pairs pairs(std::move(words));
  std::vector<std::pair<std::string, std::string>> merges;
  while (static_cast<int32_t>(tokens.size()) < options.vocab_size) {
    const auto [count, pair] = pairs.Best();
    if (count < options.min_count) break;
    const auto& [left, right] = pair;
    merges.emplace_back(tokens[left], tokens[right]);
    pairs.Merge(pair, static_cast<int32_t>(tokens.size()));
    tokens.push_back(absl::StrCat(merges.back().first, merges.back().second));
  }
  return WriteFiles(tokens, merges, special);
}

}  // namespace rasq::train
