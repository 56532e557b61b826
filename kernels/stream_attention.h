// Attention of a segment's tokens over what its stream remembers, in one softmax. For query i of a
// segment that starts at p (absolute position p + i), query head h and its kv head:
//   sinks      j < min(sink_rows, p - window_rows), rotated to where the shape puts them
//   memory     the selected entries, in compressed space: with q moved into the memory's frame,
//              q' = R(p + i - (p - window_rows - 1)) q,
//              logit = <P_k^+^T q', K_c> / sqrt(head_dim) + a_h * score + log_gate - slope_h * age,
//              age = number of selected entries newer than this one; the sum of V_c is brought back
//              by P_v^+ once
//              With clusters (cluster_entries.h) a query and head reads only the entries of the
//              `read_clusters` clusters whose centroids have the highest <P_k^+^T q', c> /
//              sqrt(head_dim) + log n, n the cluster's entries, between equals the lower cluster.
//              Every other cluster that is not empty is read as one entry, its means: that logit +
//              a_h * score + log_gate - slope_h * age, and the mean of V_c.
//   window     positions [max(0, p - window_rows), p)
//   its own    positions [p, p + i]
// Append (many queries a segment) and decode (one) share this contract. Source: algorithm.md 4
// and 5.
//
// Entries may also be exact: without P^+ they are keys and values themselves, of head_dim; and
// without memory_rotation their keys stand rotated to positions of their own, so that q' = q. Of
// exact entries each kv head may have a list of its own (entries_per_head), and lists may be fused
// by blocks (fused_weight): entries kFusedRows * i and on, as many, are block i of a list, and the
// memory's output is
//   sum_i w_i O^i,  O^i = the mean of block i's values by the softmax of its logits alone,
// which stands in the one softmax in place of the entries' mean: with the weight that they have in
// it together. So w_i = block i's share of sum_j exp(logit_j) gives what no fusing gives. A block
// whose logits are all -infinity adds nothing. Source: grouped cross attention, Hu et al. 2024,
// arXiv:2410.01651, section 3.2; merging by log-sum-exp keeps the exact keys beside it.
//
// The last `num_summaries` entries of each list may be summaries (summarize_entries.h). They are
// read as the others are, but have age 0, and do not count in the age of others.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/base/dtype.h"
#include "kernels/base/host_device.h"
#include "kernels/base/stream.h"
#include "kernels/base/thread_pool.h"
#include "kernels/cluster_entries.h"
#include "kernels/entry_rows.h"
#include "kernels/select_entries.h"
#include "kernels/stream_batch.h"

namespace rasq {

// A segment may be cut over several batches. A part of at least so many rows gets the bits that it
// has in the whole segment; smaller ones may take a way of their own, made for decoding, and are
// equal to rounding.
inline constexpr int32_t kLeastPartRows = 9;

inline constexpr int32_t kFusedRows = 64;  // entries of a block
RASQ_HOST_DEVICE constexpr int64_t NumFusedBlocks(int64_t entries) {
  return (entries + kFusedRows - 1) / kFusedRows;
}

struct StreamAttentionArgs {
  StreamBatch batch;
  StreamShape shape;
  DType element;          // of q, k, v and out
  int32_t num_heads;      // a multiple of num_kv_heads
  int32_t num_kv_heads;   //
  int32_t head_dim;       //
  const void* q;          // [num_rows, num_heads, head_dim], rotated to its own position
  const void* k;          // [num_rows, num_kv_heads, head_dim], rotated
  const void* v;          // [num_rows, num_kv_heads, head_dim]
  int64_t ring_k_offset;  // in the state: [ring_rows, num_kv_heads, head_dim], rotated
  int64_t ring_v_offset;
  int64_t sink_k_offset;  // in the state: [sink_rows, num_kv_heads, head_dim], un-rotated
  int64_t sink_v_offset;
  const float* sink_rotation;  // [num_segments, sink_rows, head_dim]
  // Memory; layers without it, and shapes of capacity 0, have reads_memory = false and nulls below.
  bool reads_memory;
  EntryType entry_type;          //
  int32_t compressed_dim;        // d_c; head_dim of exact entries
  const float* memory_rotation;  // [num_segments, head_dim], at the memory's position; null: none
  SelectedEntries selected;      // null score or log_gate: 0; `position` is not read
  int64_t entry_k_offset;        // in the state: [capacity] rows of entry_rows.h, [num_kv_heads,
  int64_t entry_v_offset;        // compressed_dim] each
  const void* staged_k;          // [num_staged] such rows
  const void* staged_v;
  const void* key_up;         // P_k^+ [num_kv_heads, head_dim, compressed_dim], of `element`
  const void* value_up;       // P_v^+; both null: exact entries
  const float* score_weight;  // a [num_heads]; null: 0
  const float* age_slope;     // slope [num_heads]; null: 0
  EntryClusters clusters;     // null segments: none
  // A list for each kv head: selected.count is [num_segments, num_kv_heads], its other arrays are
  // [num_segments, num_kv_heads, max_selected], and a slot of the state is a row of one head, [1,
  // compressed_dim], of whichever head lists it. Staged rows are of all kv heads as ever; a head
  // reads its own vector. For exact entries of `element` without clusters.
  bool entries_per_head = false;
  // w [num_segments, 1 or with entries_per_head num_kv_heads, NumFusedBlocks(max_selected)], those
  // of a list's blocks >= 0 and 1 in sum; null: no fusing. For exact entries without clusters.
  const float* fused_weight = nullptr;
  // Of every list; each then has at least as many entries. Their staged rows may lie behind the
  // batch's num_staged, num_summaries a segment. For compressed entries without clusters.
  int32_t num_summaries = 0;
  void* out;  // [num_rows, num_heads, head_dim]
  // Of each row and head the natural logarithm of its softmax's denominator, the sum of exp(logit)
  // over all that it reads: [num_rows, num_heads]; null: not told.
  float* lse = nullptr;
};

// Of arguments that read memory.
constexpr bool HasExactEntries(const StreamAttentionArgs& a) {
  return a.key_up == nullptr && a.value_up == nullptr;
}

absl::Status ValidateStreamAttention(const StreamAttentionArgs& args);
// A row's result depends on its own segment's part in this batch alone, not on other streams; and
// not on how many other segments of its stream are in the batch.
absl::Status StreamAttentionCpu(const StreamAttentionArgs& args, ThreadPool& pool);
absl::Status StreamAttentionCuda(const StreamAttentionArgs& args, Stream stream);

}  // namespace rasq
