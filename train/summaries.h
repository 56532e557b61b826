// Summary slots in the parallel form: what every segment of every stream has of the entries that
// the buffer lost before it. Source: algorithm.md section 6.
//
// When a segment begins, X is what it loses: entries that fall out of the buffer, and candidates
// that get no place in it. Slot t of a kv head, with a learned query u_t, keeps keys and values
//   C = mean of X under softmax(<u_t, P_k K> / sqrt(compressed_dim) + log g)      the first time
//   C = decay C + (1 - decay) mean                                                 from then on
// and all slots share a mass, n = decay n + sum of g over X. Segments that lose nothing, or nothing
// whose gate is above 0, change neither. Slots are read as entries whose log gate is log n, after
// their segment's own loss, without score or age.
//
// With fixed gates an entry that is lost stays lost, so a token belongs to one X at most: means are
// a grouped softmax, and the recurrence is a product with the powers of `decay`. Slots are linear
// in P_k K and P_v V; so P^+ C are the same means of the round trips P^+ P K and P^+ P V, which
// a layer's memory has anyway.
#pragma once

#include <cstdint>

#include "train/retrieval.h"
#include "train/torch.h"

namespace rasq::train {

// What all layers share: which segment loses which token, and what is left of it later.
class LostEntries {
 public:
  // alive: AliveEntries of these gates. decay: in [0, 1).
  LostEntries(const Tensor& log_gate, const Tensor& alive, const RetrievalShape& shape,
              double decay);

  // log n, with gradient; 0 where n is 0.
  const Tensor& log_count() const { return log_count_; }  // float [streams, segments]
  const Tensor& is_empty() const { return is_empty_; }    // bool, the same shape: n is 0

  // C of `rows` [streams, tokens, kv_heads, width] when each segment is read, where they are
  // averaged under softmax(logit): float [streams, segments, slots, kv_heads, width]; 0 where n is.
  // logit: float [streams, tokens, kv_heads, slots].
  Tensor Carry(const Tensor& logit, const Tensor& rows) const;

 private:
  int64_t streams_, segments_;
  Tensor group_;       // int64 [streams * tokens]: each token's X; the one behind all: never lost
  Tensor row_;         // int64 [streams * tokens]: its place among tiles
  Tensor tile_group_;  // int64 [tiles]: the X whose tokens a tile holds; the last: no tokens
  Tensor share_;       // float [streams, segments, segments]: of each X's mean in a segment's C
  Tensor log_count_, is_empty_;
};

struct SummaryInput {
  Tensor query;      // u [kv_heads, slots, compressed_dim]
  Tensor key_down;   // P_k [kv_heads, compressed_dim, head_dim]
  Tensor plain_key;  // K [streams, tokens, kv_heads, head_dim]: not rotated
  Tensor key;        // P_k^+ P_k K, the same shape
  Tensor value;      // P_v^+ P_v V
  Tensor log_gate;   // float [streams, tokens]
};

// A layer's slots as each segment reads them.
struct Summaries {
  Tensor key, value;  // [streams, segments, slots, kv_heads, head_dim]; undefined: none
  Tensor log_count;   // float [streams, segments]
  Tensor is_empty;    // bool, the same shape
};
Summaries Summarise(const LostEntries& lost, const SummaryInput& input);

}  // namespace rasq::train
