// The clusters of a segment's entries, as the attention kernels read them: the centroids are one
// more tile of keys, whose logits say which clusters a query reads. Private to the CUDA backend.
#pragma once

#include "kernels/attention_keys_cuda.h"
#include "kernels/block_reduce_cuda.h"
#include "kernels/cluster_entries.h"

namespace rasq {

static_assert(kMaxClusters == kTileKeys);
inline constexpr uint64_t kAllClusters = ~uint64_t{0};

// What the centroids' logits take besides products; in shared memory.
struct ClusterBias {
  float log_count[kMaxClusters];  // -infinity for empty clusters and those behind the last
  float score[kMaxClusters];
  float log_gate[kMaxClusters];
  float age[kMaxClusters];

  // The logit that a cluster is chosen by.
  __device__ float Choice(float product, float scale, int c) const {
    return fmaf(product, scale, log_count[c]);
  }
  // From that, a head's logit of the cluster as one entry; -infinity if it is read.
  __device__ float Unread(float choice, int c, uint64_t read, float weight, float slope) const {
    if ((read >> c & 1) != 0) return -INFINITY;
    return choice + fmaf(weight, score[c], fmaf(-slope, age[c], log_gate[c]));
  }
};

// The clusters of one segment and kv head; only for segments that have them.
struct SegmentClusters {
  const SegmentKeys& keys;
  const std::byte* part;

  __device__ explicit SegmentClusters(const SegmentKeys& segment_keys) : keys(segment_keys) {
    const StreamAttentionArgs& a = keys.a;
    const int64_t head_bytes = a.clusters.layout.head_bytes;
    const std::byte* heads =
        keys.segment.begins != 0
            ? a.clusters.segments + int64_t{keys.index} * a.num_kv_heads * head_bytes
            : keys.chunk.state + a.clusters.state_offset;
    part = heads + keys.kv_head * head_bytes;
  }

  __device__ static bool Has(const SegmentKeys& keys) {
    return keys.num_entries > keys.a.clusters.min_entries;
  }

  // The cluster of each selected entry.
  __device__ const uint8_t* Clusters() const {
    return reinterpret_cast<const uint8_t*>(part + keys.a.clusters.layout.cluster);
  }

  // Starts the copies of the centroids; rows behind the last are zero.
  template <int kNarrow, int kThreads>
  __device__ void LoadCentroids(__nv_bfloat16* tile_keys, __nv_bfloat16* tile_values) const {
    constexpr int kPieces = kNarrow / kPieceElements;
    const StreamAttentionArgs& a = keys.a;
    const auto* k = reinterpret_cast<const __nv_bfloat16*>(part + a.clusters.layout.k);
    const auto* v = reinterpret_cast<const __nv_bfloat16*>(part + a.clusters.layout.v);
    const int piece = threadIdx.x % kPieces;
#pragma unroll 4
    for (int c = threadIdx.x / kPieces; c < kTileKeys; c += kThreads / kPieces) {
      const bool inside = c < a.clusters.num_clusters && piece * kPieceElements < a.compressed_dim;
      const int at = c * a.compressed_dim + piece * kPieceElements;
      CopyPieceAsync(tile_keys + TileOffset<kNarrow>(c, piece), inside ? k + at : nullptr);
      CopyPieceAsync(tile_values + TileOffset<kNarrow>(c, piece), inside ? v + at : nullptr);
    }
  }

  __device__ void LoadBias(ClusterBias& to) const {
    const ClusterLayout& at = keys.a.clusters.layout;
    const int c = threadIdx.x;
    if (c >= kMaxClusters) return;
    const int32_t n =
        c < keys.a.clusters.num_clusters ? reinterpret_cast<const int32_t*>(part + at.count)[c] : 0;
    to.log_count[c] = n > 0 ? logf(static_cast<float>(n)) : -INFINITY;
    to.score[c] = n > 0 ? reinterpret_cast<const float*>(part + at.score)[c] : 0;
    to.log_gate[c] = n > 0 ? reinterpret_cast<const float*>(part + at.log_gate)[c] : 0;
    to.age[c] = n > 0 ? reinterpret_cast<const float*>(part + at.age)[c] : 0;
  }
};

// The clusters that a query reads, as bits: the `num_read` of highest logit, between equals the
// lower. The lanes whose numbers differ in bits kFirst to kLast hold a query's logits, each kCount
// of them, the k-th of cluster cluster_of(k). All lanes of the warp take part.
template <int kFirst, int kLast, int kCount, typename ClusterOf>
__device__ inline uint64_t ChooseClusters(const float (&logits)[kCount], int num_read,
                                          const ClusterOf& cluster_of) {
  if (num_read >= kMaxClusters) return kAllClusters;
  uint64_t read = 0;
#pragma unroll 1
  for (int round = 0; round < num_read; ++round) {
    uint64_t best = 0;  // the logit in its order, then the lowest number
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const int c = cluster_of(k);
      if (!(logits[k] > -INFINITY) || (read >> c & 1) != 0) continue;
      const uint64_t value =
          uint64_t{OrderedBits(logits[k])} << 32 | static_cast<uint32_t>(kMaxClusters - 1 - c);
      best = value > best ? value : best;
    }
#pragma unroll
    for (int distance = kFirst; distance <= kLast; distance *= 2) {
      const uint64_t other = __shfl_xor_sync(kAllLanes, best, distance);
      best = other > best ? other : best;
    }
    if (best != 0) read |= uint64_t{1} << (kMaxClusters - 1 - static_cast<uint32_t>(best));
  }
  return read;
}

__device__ inline bool IsRead(uint64_t read, int cluster) {
  return (read >> (cluster % kMaxClusters) & 1) != 0;
}

}  // namespace rasq
