// Byte-pair encoding of one word: its bytes become tokens, and while any neighbours can be merged,
// those whose merge has the lowest rank are (the leftmost first).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace rasq {

class Bpe {
 public:
  struct Merge {
    int32_t left, right;  // token ids
    int32_t result;
  };
  // `merges` in order of rank. Words in `whole_words` are one token whatever the merges say.
  Bpe(const std::array<int32_t, 256>& byte_ids, const std::vector<Merge>& merges,
      absl::flat_hash_map<std::string, int32_t> whole_words);
  ~Bpe();

  int32_t byte_id(uint8_t byte) const { return byte_ids_[byte]; }

  // Appends the word's tokens. O(n log n); short words are remembered. Many threads may call.
  void Encode(absl::string_view word, std::vector<int32_t>& ids) const;

 private:
  struct Ranked {
    int32_t rank;  // kNoRank: the two do not merge
    int32_t result;
  };
  class Cache;

  Ranked Find(int32_t left, int32_t right) const;
  void MergeByScan(absl::string_view word, std::vector<int32_t>& ids) const;
  void MergeByHeap(absl::string_view word, std::vector<int32_t>& ids) const;

  const std::array<int32_t, 256> byte_ids_;
  absl::flat_hash_map<uint64_t, Ranked> merges_;
  const absl::flat_hash_map<std::string, int32_t> whole_words_;
  const std::unique_ptr<Cache> cache_;
};

}  // namespace rasq
