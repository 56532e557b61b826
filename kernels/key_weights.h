// The weights that a few queries gave to each key: for methods that choose by attention what to
// keep (PyramidKV, arXiv:2406.02069, section 3; AttentionRAG, arXiv:2503.10720, equation 2). For a
// segment's part in the batch and a kv head,
//   out[key] (+)= sum over queries of mean over the kv head's query heads h of
//                 exp(logit_h(query, key) - lse_h(query)),
// with the logits and the log-sum-exp of a StreamAttention call (stream_attention.h), whose
// arguments are given again. A query gives nothing to tokens behind it; sinks have no column.
//
// Queries: the tokens at the part's last `num_queries` positions. Those of the batch are found in
// its arrays. Those before it in rings of the state, if these are kept (WriteRing of a call's q and
// lse, row position % query_ring_rows); without rings, tokens before the part are left out.
// Columns: j is entry j of the list that the kv head reads; max_selected + p - max(0, start -
// window_rows) is the token at position p, of the window or of the part.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/base/host_device.h"
#include "kernels/base/stream.h"
#include "kernels/base/thread_pool.h"
#include "kernels/stream_attention.h"

namespace rasq {

inline constexpr int32_t kMaxKeyQueries = 64;

RASQ_HOST_DEVICE constexpr int64_t KeyColumns(const StreamShape& shape) {
  return int64_t{shape.max_selected} + shape.ring_rows;
}

struct KeyWeightsArgs {
  // The call that made `lse`, which is not null. Entries, if it reads any, are exact and of
  // `element`, without memory_rotation, clusters and fusing. Values and `out` are not read.
  StreamAttentionArgs attention;
  int32_t num_queries;            // 1..kMaxKeyQueries
  int32_t query_ring_rows = 0;    // 0: no rings; else >= num_queries
  int64_t query_ring_offset = 0;  // in the state: [query_ring_rows, num_heads, head_dim]
  int64_t lse_ring_offset = 0;    // in the state: float [query_ring_rows, num_heads]
  bool sum_heads = false;         // the sum over the kv head's query heads in place of the mean
  bool accumulate = false;        // adds to `out`; else columns without a key become 0
  float* out;                     // [num_segments, num_kv_heads, KeyColumns(shape)]
};

absl::Status ValidateKeyWeights(const KeyWeightsArgs& args);
// A segment's result depends on its own stream alone.
absl::Status KeyWeightsCpu(const KeyWeightsArgs& args, ThreadPool& pool);
absl::Status KeyWeightsCuda(const KeyWeightsArgs& args, Stream stream);

}  // namespace rasq
