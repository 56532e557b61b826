// The selected entries of a segment, as attention reads them. Private to kernels/.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "kernels/elements_cpu.h"
#include "kernels/entry_clusters_cpu.h"
#include "kernels/int8_vectors_cpu.h"
#include "kernels/stream_attention.h"
#include "kernels/stream_batch_cpu.h"

namespace rasq {

// Whether kv heads have lists and slots of their own: attention's alone may.
template <typename Args>
bool EntriesPerHead(const Args& /*args*/) {
  return false;
}
inline bool EntriesPerHead(const StreamAttentionArgs& a) { return a.entries_per_head; }

// How many of a list's last entries are summaries (summarize_entries.h): in attention alone.
template <typename Args>
int32_t NumSummaries(const Args& /*args*/) {
  return 0;
}
inline int32_t NumSummaries(const StreamAttentionArgs& a) { return a.num_summaries; }

// The list, in the selection's arrays, that a segment's kv head reads.
template <typename Args>
int64_t ListOf(const Args& a, int64_t segment, int64_t kv_head) {
  return EntriesPerHead(a) ? segment * a.num_kv_heads + kv_head : segment;
}

// Compressed key or value of an entry, of a slot (row < capacity) or staged, as numbers of the
// element type: into `to`, compressed_dim of `to_type`, the same or wider. For the arguments of any
// operation that reads entries.
template <typename Args>
void LoadRow(const Args& a, const StreamChunk& c, int64_t row, int64_t kv_head, bool key,
             DType to_type, void* to) {
  const int64_t capacity = a.shape.capacity, width = a.compressed_dim;
  const std::byte* rows = c.state + (key ? a.entry_k_offset : a.entry_v_offset);
  int64_t index = row, heads = a.num_kv_heads, head = kv_head;
  if (row >= capacity) {
    rows = static_cast<const std::byte*>(key ? a.staged_k : a.staged_v);
    index = c.first_staged + row - capacity;
  } else if (EntriesPerHead(a)) {
    heads = 1;
    head = 0;
  }
  const std::byte* from = rows + index * EntryRowBytes(a.entry_type, a.element, heads, width);
  if (a.entry_type == EntryType::kElement) {
    ConvertElements(a.element, from + head * width * SizeOf(a.element), to_type, to, width);
    return;
  }
  const float scale =
      LoadScale(from + EntryScaleOffset(heads, width) + head * static_cast<int64_t>(sizeof(float)));
  LoadInt8(from + head * width, scale, a.element, to_type, to, width);
}

// The same of the segment's j-th selected entry.
template <typename Args>
void LoadEntry(const Args& a, int64_t segment, int64_t kv_head, int64_t j, bool key, DType to_type,
               void* to) {
  const StreamChunk& c = a.batch.chunks[a.batch.segments[segment].chunk];
  const int64_t row = a.selected.row[ListOf(a, segment, kv_head) * a.shape.max_selected + j];
  LoadRow(a, c, row, kv_head, key, to_type, to);
}

// Of an array that may be left out.
inline float WeightOf(const float* weights, int64_t i) {
  return weights == nullptr ? 0.0f : weights[i];
}

// What a head adds to the logits of the segment's entries.
inline void EntryBias(const StreamAttentionArgs& a, int64_t segment, int64_t head, float* bias) {
  const int64_t list = ListOf(a, segment, head / (a.num_heads / a.num_kv_heads));
  const int64_t count = a.selected.count[list];
  const int64_t first = list * a.shape.max_selected;
  const float weight = WeightOf(a.score_weight, head);
  const float slope = WeightOf(a.age_slope, head);
  const int64_t newest = count - a.num_summaries - 1;
  for (int64_t j = 0; j < count; ++j) {
    const auto age = static_cast<float>(std::max<int64_t>(0, newest - j));
    bias[j] = weight * WeightOf(a.selected.score, first + j) +
              WeightOf(a.selected.log_gate, first + j) - slope * age;
  }
}

// The same of its clusters, to be added to their centroids' logits.
inline void ClusterBias(const StreamAttentionArgs& a, const ClusterView& view, int64_t head,
                        float* bias) {
  const float weight = WeightOf(a.score_weight, head);
  const float slope = WeightOf(a.age_slope, head);
  for (int64_t c = 0; c < a.clusters.num_clusters; ++c) {
    bias[c] = weight * view.score[c] + view.log_gate[c] - slope * view.age[c];
  }
}

// Whether the segment's entries are read by clusters.
inline bool IsClustered(const StreamAttentionArgs& a, int64_t segment) {
  return a.reads_memory && a.clusters.segments != nullptr &&
         a.selected.count[segment] > a.clusters.min_entries;
}

// What the selection says must lie inside the buffer and the staging rows.
template <typename Args>
absl::Status CheckSelection(absl::string_view op, const Args& a) {
  const int64_t lists = EntriesPerHead(a) ? a.num_kv_heads : 1;  // of a segment
  const int64_t num_summary_rows = int64_t{a.batch.num_segments} * NumSummaries(a);
  const auto is_row = [&](const StreamChunk& c, int64_t row) {
    if (row < a.shape.capacity + NumLeaving(c)) return row >= 0;
    const int64_t summary = c.first_staged + row - a.shape.capacity - a.batch.num_staged;
    return summary >= 0 && summary < num_summary_rows;
  };
  for (int64_t i = 0; i < a.batch.num_segments * lists; ++i) {
    const StreamChunk& c = a.batch.chunks[a.batch.segments[i / lists].chunk];
    const int32_t count = a.selected.count[i];
    if (count < NumSummaries(a) || count > a.shape.max_selected) {
      return absl::InvalidArgumentError(absl::StrCat(op, ": selected.count[", i, "]=", count));
    }
    const int32_t* row = a.selected.row + i * a.shape.max_selected;
    for (int32_t j = 0; j < count; ++j) {
      if (!is_row(c, row[j])) {
        return absl::InvalidArgumentError(
            absl::StrCat(op, ": segment ", i / lists, ": selected.row[",
                         i % lists * a.shape.max_selected + j, "]=", row[j]));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace rasq
