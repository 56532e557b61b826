// The clusters of one segment and kv head, as the CPU operations see them. Private to kernels/.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "kernels/cluster_entries.h"
#include "kernels/stream_batch_cpu.h"

namespace rasq {

struct ClusterView {
  ClusterView() = default;
  ClusterView(const ClusterLayout& at, std::byte* head)
      : k(head + at.k),
        v(head + at.v),
        count(reinterpret_cast<int32_t*>(head + at.count)),
        score(reinterpret_cast<float*>(head + at.score)),
        log_gate(reinterpret_cast<float*>(head + at.log_gate)),
        age(reinterpret_cast<float*>(head + at.age)),
        cluster(reinterpret_cast<uint8_t*>(head + at.cluster)) {}

  std::byte* k = nullptr;
  std::byte* v = nullptr;
  int32_t* count = nullptr;
  float* score = nullptr;
  float* log_gate = nullptr;
  float* age = nullptr;
  uint8_t* cluster = nullptr;
};

inline ClusterView ClustersOf(const EntryClusters& clusters, const StreamBatch& batch,
                              int32_t num_kv_heads, int64_t segment, int64_t kv_head) {
  const StreamSegment& s = batch.segments[segment];
  std::byte* heads = s.begins != 0
                         ? clusters.segments + segment * num_kv_heads * clusters.layout.head_bytes
                         : batch.chunks[s.chunk].state + clusters.state_offset;
  return {clusters.layout, heads + kv_head * clusters.layout.head_bytes};
}

// Turns products with centroids into their logits, those of empty clusters into -infinity, and
// returns the clusters to read as bits: the `num_read` of highest logit, between equals the lower.
inline uint64_t PickClusters(const ClusterView& view, int32_t num_clusters, int32_t num_read,
                             float* logits) {
  std::array<int8_t, kMaxClusters> index;
  int32_t num_filled = 0;
  for (int32_t i = 0; i < num_clusters; ++i) {
    if (view.count[i] > 0) {
      logits[i] += std::log(static_cast<float>(view.count[i]));
      index[num_filled++] = static_cast<int8_t>(i);
    } else {
      logits[i] = -std::numeric_limits<float>::infinity();
    }
  }
  if (num_read < num_filled) {
    std::nth_element(
        index.begin(), index.begin() + num_read, index.begin() + num_filled,
        [&](int8_t x, int8_t y) { return logits[x] != logits[y] ? logits[x] > logits[y] : x < y; });
    num_filled = num_read;
  }
  uint64_t read = 0;
  for (int32_t i = 0; i < num_filled; ++i) read |= uint64_t{1} << index[i];
  return read;
}

inline bool IsRead(uint64_t read, int64_t cluster) { return (read >> cluster & 1) != 0; }

}  // namespace rasq
