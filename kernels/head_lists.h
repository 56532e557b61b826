// Exact keys and values behind the window, for the published methods that keep some of them: a
// store of rows of one kv head each, [head_dim] of the element type and rotated as they stood in
// the ring, and for each segment and kv head the list of those that it reads, as StreamAttention
// takes them (entries_per_head). Streams of these methods move at most one segment a batch, so what
// leaves the window in a batch lies in the rings, and lists follow from the state alone.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "kernels/base/dtype.h"
#include "kernels/stream_batch.h"

namespace rasq {

// What the operations of these methods have in common. Offsets are bytes into the state.
struct HeadStore {
  StreamBatch batch;  // chunks of one segment each
  StreamShape shape;  // capacity: rows of the store; max_selected: the longest list
  DType element;
  int32_t num_kv_heads;
  int32_t head_dim;
  int64_t ring_k_offset;  // [ring_rows, num_kv_heads, head_dim]
  int64_t ring_v_offset;
  int64_t store_k_offset;  // [capacity, head_dim]
  int64_t store_v_offset;
};

// Borrowed arrays.
struct HeadLists {
  int32_t* count;  // [num_segments, num_kv_heads]
  int32_t* row;    // [num_segments, num_kv_heads, max_selected]: rows of the store
  float* bias;     // the same: added to the logit
};

absl::Status ValidateHeadStore(absl::string_view op, const HeadStore& store,
                               const HeadLists& lists);
// The batch's contents: for backends in whose memory they can be read.
absl::Status CheckHeadStore(absl::string_view op, const HeadStore& store);

}  // namespace rasq
