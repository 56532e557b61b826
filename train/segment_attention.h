// Attention of every segment over keys of its own: sinks, selected entries, summary slots, window
// and itself. Source: algorithm.md sections 4 to 6, with the compressed entries as their round
// trips P^+ P K.
//
// What an entry adds to its logit (a_h s + log g - slope_h age) is a product too: of weights that
// only the head knows with numbers that only the entry knows. So keys and queries are kBiasDims
// wider than a head, and a plain attention kernel does the rest: no bias per query is ever stored.
#pragma once

#include <cstdint>

#include "train/attention_parts.h"
#include "train/clusters.h"
#include "train/project_heads.h"
#include "train/retrieval.h"
#include "train/summaries.h"
#include "train/torch.h"

namespace rasq::train {

// Widths that kernels like are multiples of 8.
inline constexpr int64_t kBiasDims = 8;

// Of all segments, what depends on positions alone.
struct SegmentPlan {
  SegmentPlan(int64_t streams, int64_t tokens, const RetrievalShape& shape, const Tensor& inv_freq);

  RetrievalShape shape;
  int64_t segments;
  Angles token;      // [tokens]
  Angles sink;       // [segments, sinks]: where each segment sees them
  Angles memory;     // [segments, 1]: where it sees all entries
  Tensor sink_dead;  // bool [segments, sinks]: not yet out of the window
  Windows windows;
};

struct MemoryKeys {
  const Retrieval* retrieval;  // null: the layer reads no memory
  Tensor key, value;           // [streams, tokens, kv_heads, head_dim]: round trips, not rotated
  Tensor score_weight;         // a [heads]
  Tensor age_slope;            // [heads]
  Summaries summaries;         // read beside the entries
  // K_c without gradient, [streams, tokens, kv_heads, compressed_dim], and how its clusters are
  // read; of 0 clusters: entries are read without any.
  Tensor compressed_key;
  ClusterShape clusters;
};

// What stands behind every query of a head: the weights of the numbers that an entry's key carries,
// [heads, kBiasDims], as logits are multiplied by 1 / sqrt(head_dim).
Tensor QueryBias(const MemoryKeys& memory, int64_t heads, int64_t head_dim,
                 const torch::TensorOptions& options);

// `heads.query` carries QueryBias of the same memory. [streams, tokens, heads, head_dim]
Tensor SegmentAttention(const Heads& heads, const MemoryKeys& memory, const SegmentPlan& plan);

// query [batch, rows, heads, width], key and value [batch, keys, kv_heads, width]: row i reads keys
// 0 .. keys - rows + i. Logits are multiplied by `scale`. On CUDA in half precision the flash
// attention kernel; else plain operations in float32.
Tensor CausalAttention(const Tensor& query, const Tensor& key, const Tensor& value, double scale);

}  // namespace rasq::train
