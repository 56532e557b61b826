#include "engine/tokenizer/bpe.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <queue>
#include <tuple>
#include <utility>

#include "absl/hash/hash.h"
#include "kernels/base/mutex.h"

namespace rasq {
namespace {

constexpr int32_t kNoRank = std::numeric_limits<int32_t>::max();
constexpr size_t kScanBytes = 32;  // up to here a scan for the best pair is cheaper than a heap

uint64_t PairKey(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

}  // namespace

// Words and their tokens, each word in the one place that its hash gives it; a later one takes the
// place of an earlier one. So it stays at 1 MiB, and follows the text. Sharded, so that threads
// seldom meet.
class Bpe::Cache {
 public:
  bool Find(absl::string_view word, size_t hash, std::vector<int32_t>& ids) {
    if (word.size() > kMaxBytes) return false;
    Shard& shard = shards_[hash % kShards];
    MutexLock lock(shard.mu);
    const Entry& entry = shard.entries[hash / kShards % kEntries];
    if (entry.num_bytes != word.size() || std::memcmp(entry.bytes, word.data(), word.size()) != 0) {
      return false;
    }
    ids.insert(ids.end(), entry.ids, entry.ids + entry.num_ids);
    return true;
  }

  void Store(absl::string_view word, size_t hash, const int32_t* ids, size_t num_ids) {
    if (word.size() > kMaxBytes || num_ids > kMaxIds) return;
    Shard& shard = shards_[hash % kShards];
    MutexLock lock(shard.mu);
    Entry& entry = shard.entries[hash / kShards % kEntries];
    entry.num_bytes = static_cast<uint8_t>(word.size());
    entry.num_ids = static_cast<uint8_t>(num_ids);
    std::copy(word.begin(), word.end(), entry.bytes);
    std::copy(ids, ids + num_ids, entry.ids);
  }

 private:
  static constexpr size_t kShards = 64;
  static constexpr size_t kEntries = 256;  // of a shard
  static constexpr size_t kMaxBytes = 22;
  static constexpr size_t kMaxIds = 10;
  struct Entry {  // one cache line
    uint8_t num_bytes = 0;
    uint8_t num_ids = 0;
    char bytes[kMaxBytes];
    int32_t ids[kMaxIds];
  };
  struct Shard {
    Mutex mu;
    std::array<Entry, kEntries> entries ABSL_GUARDED_BY(mu);
  };
  std::array<Shard, kShards> shards_;
};

Bpe::Bpe(const std::array<int32_t, 256>& byte_ids, const std::vector<Merge>& merges,
         absl::flat_hash_map<std::string, int32_t> whole_words)
    : byte_ids_(byte_ids), whole_words_(std::move(whole_words)), cache_(std::make_unique<Cache>()) {
  merges_.reserve(merges.size());
  for (size_t i = 0; i < merges.size(); ++i) {
    // Of merges given twice the last counts, as in the Hugging Face library.
    merges_[PairKey(merges[i].left, merges[i].right)] = {static_cast<int32_t>(i), merges[i].result};
  }
}

Bpe::~Bpe() = default;

void Bpe::Encode(absl::string_view word, std::vector<int32_t>& ids) const {
  if (word.empty()) return;
  const size_t hash = absl::Hash<absl::string_view>()(word);
  if (cache_->Find(word, hash, ids)) return;
  const size_t begin = ids.size();
  const auto whole = whole_words_.find(word);
  if (whole != whole_words_.end()) {
    ids.push_back(whole->second);
  } else if (word.size() <= kScanBytes) {
    MergeByScan(word, ids);
  } else {
    MergeByHeap(word, ids);
  }
  cache_->Store(word, hash, ids.data() + begin, ids.size() - begin);
}

Bpe::Ranked Bpe::Find(int32_t left, int32_t right) const {
  const auto it = merges_.find(PairKey(left, right));
  return it == merges_.end() ? Ranked{kNoRank, -1} : it->second;
}

void Bpe::MergeByScan(absl::string_view word, std::vector<int32_t>& ids) const {
  int32_t tokens[kScanBytes];
  Ranked pairs[kScanBytes];  // pairs[i]: of tokens i and i + 1
  size_t n = word.size();
  for (size_t i = 0; i < n; ++i) tokens[i] = byte_id(static_cast<uint8_t>(word[i]));
  for (size_t i = 0; i + 1 < n; ++i) pairs[i] = Find(tokens[i], tokens[i + 1]);
  while (n > 1) {
    const auto* best = std::min_element(
        pairs, pairs + n - 1, [](const Ranked& a, const Ranked& b) { return a.rank < b.rank; });
    if (best->rank == kNoRank) break;
    const auto i = static_cast<size_t>(best - pairs);
    tokens[i] = best->result;
    std::copy(tokens + i + 2, tokens + n, tokens + i + 1);
    std::copy(pairs + i + 1, pairs + n - 1, pairs + i);
    --n;
    if (i > 0) pairs[i - 1] = Find(tokens[i - 1], tokens[i]);
    if (i + 1 < n) pairs[i] = Find(tokens[i], tokens[i + 1]);
  }
  ids.insert(ids.end(), tokens, tokens + n);
}

void Bpe::MergeByHeap(absl::string_view word, std::vector<int32_t>& ids) const {
  struct Node {  // a doubly linked list over the word's bytes
    int32_t token;
    int32_t previous, next;  // -1: none
  };
  // Rank, place of the left token, and the tokens as they were when the pair was found: one that
  // has changed since makes the pair void.
  using Pair = std::tuple<int32_t, int32_t, int32_t, int32_t>;
  const auto n = static_cast<int32_t>(word.size());
  std::vector<Node> nodes(word.size());
  std::priority_queue<Pair, std::vector<Pair>, std::greater<>> queue;
  const auto push = [&](int32_t left) {
    const int32_t right = left < 0 ? -1 : nodes[left].next;
    if (right < 0) return;
    const int32_t rank = Find(nodes[left].token, nodes[right].token).rank;
    if (rank != kNoRank) queue.emplace(rank, left, nodes[left].token, nodes[right].token);
  };
  for (int32_t i = 0; i < n; ++i) {
    nodes[i] = {byte_id(static_cast<uint8_t>(word[i])), i - 1, i + 1 < n ? i + 1 : -1};
  }
  for (int32_t i = 0; i < n; ++i) push(i);
  constexpr int32_t kGone = -1;
  while (!queue.empty()) {
    const auto [rank, left, left_token, right_token] = queue.top();
    queue.pop();
    Node& node = nodes[left];
    if (node.token != left_token || node.next < 0 || nodes[node.next].token != right_token)
      continue;
    Node& right = nodes[node.next];
    node.token = Find(left_token, right_token).result;
    right.token = kGone;
    node.next = right.next;
    if (node.next >= 0) nodes[node.next].previous = left;
    push(node.previous);
    push(left);
  }
  for (int32_t i = 0; i >= 0; i = nodes[i].next) ids.push_back(nodes[i].token);
}

}  // namespace rasq
