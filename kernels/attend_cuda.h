// The two ways in which the GPU computes stream_attention.h. Private to the CUDA backend.
#pragma once

#include "absl/status/status.h"
#include "kernels/base/stream.h"
#include "kernels/stream_attention.h"

namespace rasq {

// A segment's part with so few queries of one kv head (tokens times heads of its group) that they
// fit one tile is bound by the bytes of its keys: AttendFewCuda splits the keys. Larger parts are
// bound by the products: AttendTileCuda gives each 64 queries of a head a block. Each leaves alone
// the segments of the other, so a row's way depends on its own segment alone.
inline constexpr int kFewQueries = 8;
static_assert(kFewQueries < kLeastPartRows);

#ifdef __CUDACC__
__device__ inline bool IsFew(const StreamAttentionArgs& a, const StreamSegment& segment) {
  return segment.num_rows * (a.num_heads / a.num_kv_heads) <= kFewQueries;
}
#endif

absl::Status AttendFewCuda(const StreamAttentionArgs& args, Stream stream);
absl::Status AttendTileCuda(const StreamAttentionArgs& args, Stream stream);

// Whether segments of the call may have clusters: the kernels without are smaller.
inline bool HasClusters(const StreamAttentionArgs& a) {
  return a.reads_memory && a.clusters.segments != nullptr;
}

// Calls launch.template operator()<kDim, kNarrow, kExact>() with the least tile widths that hold a
// head and an entry, and whether entries are exact.
template <typename Launch>
absl::Status WithTileWidths(const StreamAttentionArgs& a, const Launch& launch) {
  if (a.reads_memory && HasExactEntries(a)) {
    if (a.head_dim <= 64) return launch.template operator()<64, 64, true>();
    return launch.template operator()<128, 128, true>();
  }
  const int narrow = a.reads_memory ? a.compressed_dim : 0;
  if (a.head_dim <= 64) {
    if (narrow <= 32) return launch.template operator()<64, 32, false>();
    return launch.template operator()<64, 64, false>();
  }
  if (narrow <= 64) return launch.template operator()<128, 64, false>();
  return launch.template operator()<128, 128, false>();
}

}  // namespace rasq
