// The selected entries of a segment, as attention reads them. Private to kernels/.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/stream_attention.h"

namespace rasq {

// Compressed key or value of the segment's j-th selected entry: of a slot, or staged.
inline const std::byte* EntryRow(const StreamAttentionArgs& a, int64_t segment, int64_t kv_head,
                                 int64_t j, bool key) {
  const StreamChunk& c = a.batch.chunks[a.batch.segments[segment].chunk];
  const int64_t row = a.selected.row[segment * a.shape.max_selected + j];
  const int64_t head_bytes = a.compressed_dim * SizeOf(a.element);
  const int64_t capacity = a.shape.capacity;
  const std::byte* rows = c.state + (key ? a.entry_k_offset : a.entry_v_offset);
  int64_t index = row;
  if (row >= capacity) {
    rows = static_cast<const std::byte*>(key ? a.staged_k : a.staged_v);
    index = c.first_staged + row - capacity;
  }
  return rows + (index * a.num_kv_heads + kv_head) * head_bytes;
}

// What a head adds to the logits of the segment's entries.
inline void EntryBias(const StreamAttentionArgs& a, int64_t segment, int64_t head, float* bias) {
  const int64_t count = a.selected.count[segment];
  const float* score = a.selected.score + segment * a.shape.max_selected;
  const float* log_gate = a.selected.log_gate + segment * a.shape.max_selected;
  const float weight = a.score_weight[head];
  const float slope = a.age_slope[head];
  for (int64_t j = 0; j < count; ++j) {
    const auto age = static_cast<float>(count - 1 - j);
    bias[j] = weight * score[j] + log_gate[j] - slope * age;
  }
}

}  // namespace rasq
