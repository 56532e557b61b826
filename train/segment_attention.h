// Attention of every segment over keys of its own: sinks, selected entries, window and itself.
// Source: algorithm.md section 4, with the compressed entries as their round trips P^+ P K.
//
// What an entry adds to its logit (a_h s + log g - slope_h age) is a product too: of weights that
// only the head knows with numbers that only the entry knows. So keys and queries are kBiasDims
// wider than a head, and a plain attention kernel does the rest: no bias per query is ever stored.
#pragma once

#include <cstdint>

#include "train/retrieval.h"
#include "train/torch.h"

namespace rasq::train {

// Widths that kernels like are multiples of 8.
inline constexpr int64_t kBiasDims = 8;

// Rotation by cos and sin [..., head_dim / 2] of vectors [..., heads, head_dim], in the half-split
// pairs of the Llama family.
struct Rotation {
  Tensor cos;  // [..., 1, head_dim]: both halves
  Tensor sin;  // the same, negative in the first half
};
// Positions: any integers [...]; angles are computed in double.
Rotation RotationAt(const Tensor& position, const Tensor& inv_freq, torch::ScalarType type);
Tensor Rotate(const Tensor& x, const Rotation& rotation);

// Of all segments, what depends on positions alone.
struct SegmentPlan {
  SegmentPlan(int64_t tokens, const RetrievalShape& shape, const Tensor& inv_freq,
              torch::ScalarType type);

  RetrievalShape shape;
  int64_t segments;
  Rotation token;      // [tokens]
  Rotation sink;       // [segments, sinks]: where each segment sees them
  Rotation memory;     // [segments, 1]: where it sees all entries
  Tensor sink_dead;    // bool [segments, sinks]: not yet out of the window
  Tensor window_dead;  // bool [segments, window + segment]: before the stream
};

struct SegmentKeys {
  Tensor query;      // [streams, tokens, heads, head_dim], rotated
  Tensor key;        // [streams, tokens, kv_heads, head_dim], rotated
  Tensor plain_key;  // the same, not rotated
  Tensor value;      // [streams, tokens, kv_heads, head_dim]
};

struct MemoryKeys {
  const Retrieval* retrieval;  // null: the layer reads no memory
  Tensor key, value;           // [streams, tokens, kv_heads, head_dim]: round trips, not rotated
  Tensor score_weight;         // a [heads]
  Tensor age_slope;            // [heads]
};

// [streams, tokens, heads, head_dim]
Tensor SegmentAttention(const SegmentKeys& keys, const MemoryKeys& memory, const SegmentPlan& plan);

// query [batch, rows, heads, width], key and value [batch, keys, kv_heads, width]: row i reads keys
// 0 .. keys - rows + i. Logits are multiplied by `scale`. On CUDA in half precision the flash
// attention kernel; else plain operations in float32.
Tensor CausalAttention(const Tensor& query, const Tensor& key, const Tensor& value, double scale);

}  // namespace rasq::train
