#include <cuda_runtime.h>

#include "kernels/attend_cuda.h"
#include "kernels/attention_clusters_cuda.h"
#include "kernels/attention_keys_cuda.h"
#include "kernels/base/cuda_status.h"
#include "kernels/base/status.h"
#include "kernels/fused_blocks_cuda.h"
#include "kernels/tensor_tile_cuda.h"

namespace rasq {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kWarpQueries = 16;
constexpr int kTileQueries = kWarps * kWarpQueries;
constexpr int kStages = 3;

template <int kDim, int kNarrow, bool kExact>
struct TileShared {
  union {
    struct {
      __nv_bfloat16 keys[kStages][kTileKeys * kDim];
      __nv_bfloat16 values[kStages][kTileKeys * kDim];
    };
    struct {  // before the first keys
      __nv_bfloat16 q[kTileQueries * kDim];
      __nv_bfloat16 turned[kTileQueries * kDim];  // in the memory's frame
    };
  };
  // Exact entries have no use for it.
  __nv_bfloat16 up[kExact ? kPieceElements : kDim * kNarrow];  // P_k^+, then P_v^+
  float score[kStages][kTileKeys];                             // of entries
  float log_gate[kStages][kTileKeys];
};

// Behind it, where entries have clusters.
struct TileClusters {
  ClusterBias bias;
  uint8_t cluster[kStages][kTileKeys];  // of entries
};

// The queries of a block. All heads that share a kv head read the same keys, so a block takes them
// from a list of pieces, 16 tokens of one head each: the heads one after another, in each the
// segment's tokens.
struct TileQueries {
  const StreamAttentionArgs& a;
  const SegmentKeys& keys;
  const int group;
  const int pieces_per_head;
  const int first_piece;

  __device__ TileQueries(const StreamAttentionArgs& args, const SegmentKeys& segment_keys,
                         int block)
      : a(args),
        keys(segment_keys),
        group(args.num_heads / args.num_kv_heads),
        pieces_per_head((segment_keys.segment.num_rows + kWarpQueries - 1) / kWarpQueries),
        first_piece(block * kWarps) {}

  __device__ bool Any() const { return first_piece < group * pieces_per_head; }
  __device__ int HeadOf(int piece) const {
    return keys.kv_head * group + (first_piece + piece) / pieces_per_head;
  }
  // Row of the segment of a query of the piece.
  __device__ int RowOf(int piece, int query) const {
    return (first_piece + piece) % pieces_per_head * kWarpQueries + query;
  }
  __device__ bool IsQuery(int piece, int query) const {
    return first_piece + piece < group * pieces_per_head &&
           RowOf(piece, query) < keys.segment.num_rows;
  }
  __device__ int64_t Index(int piece, int query) const {
    return int64_t{keys.segment.first_row + RowOf(piece, query)} * a.num_heads + HeadOf(piece);
  }
  __device__ int64_t Element(int piece, int query) const {
    return Index(piece, query) * a.head_dim;
  }
  __device__ const __nv_bfloat16* Row(int tile_row) const {
    const int piece = tile_row / kWarpQueries, query = tile_row % kWarpQueries;
    if (!IsQuery(piece, query)) return nullptr;
    return static_cast<const __nv_bfloat16*>(a.q) + Element(piece, query);
  }

  // Rows without a query, and columns behind the head's, are zero.
  template <int kDim>
  __device__ void Load(__nv_bfloat16* tile) const {
    constexpr int kPieces = kDim / kPieceElements;
    const int column = threadIdx.x % kPieces;
#pragma unroll
    for (int r = threadIdx.x / kPieces; r < kTileQueries; r += kThreads / kPieces) {
      const __nv_bfloat16* row = Row(r);
      const bool inside = row != nullptr && column * kPieceElements < a.head_dim;
      CopyPieceAsync(tile + TileOffset<kDim>(r, column),
                     inside ? row + column * kPieceElements : nullptr);
    }
  }

  // Moved into the memory's frame: rotated back by the memory's position, if it has one.
  template <int kDim>
  __device__ void PutTurned(__nv_bfloat16* tile) const {
    constexpr int kPieces = kDim / kPieceElements;
    const int half = a.head_dim / 2;
    const float* rotation = a.memory_rotation + int64_t{keys.index} * a.head_dim;
#pragma unroll 4
    for (int at = threadIdx.x; at < kTileQueries * kPieces; at += kThreads) {
      const int r = at / kPieces, column = at % kPieces;
      const __nv_bfloat16* row = Row(r);
      if (row == nullptr || column * kPieceElements >= a.head_dim) {
        *reinterpret_cast<uint4*>(tile + TileOffset<kDim>(r, column)) = uint4{0, 0, 0, 0};
      } else if (a.memory_rotation == nullptr) {
        *reinterpret_cast<uint4*>(tile + TileOffset<kDim>(r, column)) =
            *reinterpret_cast<const uint4*>(row + column * kPieceElements);
      } else if (column * kPieceElements < half) {  // and its mate
        PutRotated<kDim>(tile, r, column, half, row, rotation, /*sign=*/-1.0f);
      }
    }
  }
};

// Starts the copy of the clusters of a tile's entries, four at a time.
__device__ void LoadClusters(const SegmentKeys& keys, int tile, uint8_t* to) {
  const int at = static_cast<int>(threadIdx.x) * 4, entry = tile * kTileKeys + at;
  if (at >= kTileKeys || entry >= keys.num_entries) return;
  CopyWordAsync(to + at, SegmentClusters(keys).Clusters() + entry);
}

// Turns a warp's products with the centroids into the logits of those that a query does not read,
// and tells which ones the lane's two queries read.
__device__ void ReadCentroids(const ClusterBias& bias, int num_read, float logit_scale,
                              float weight, float slope, float (&logits)[kTileKeys / 8][4],
                              uint64_t (&read)[2]) {
  const int lane = threadIdx.x % 32;
  // Of a query's 16 logits in this lane, the k-th.
  const auto cluster_of = [lane](int k) { return k / 2 * 8 + lane % 4 * 2 + k % 2; };
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float choice[kTileKeys / 4];
#pragma unroll
    for (int k = 0; k < kTileKeys / 4; ++k) {
      choice[k] = bias.Choice(logits[k / 2][2 * r + k % 2], logit_scale, cluster_of(k));
    }
    read[r] = ChooseClusters<1, 2>(choice, num_read, cluster_of);
#pragma unroll
    for (int k = 0; k < kTileKeys / 4; ++k) {
      logits[k / 2][2 * r + k % 2] = bias.Unread(choice[k], cluster_of(k), read[r], weight, slope);
    }
  }
}

// Grid: kv heads, segments, blocks of 8 pieces of queries. Block: 8 warps, a piece of 16 queries
// each. Keys and values of 64 at a time pass through shared memory, two tiles ahead of what is
// computed: entries first, in their own width; their sum is widened by P_v^+ once and goes on as
// that of the exact keys. With clusters their centroids are the first tile, and entries of those
// that a query does not read weigh nothing. Exact entries need no widening; fused by blocks, each
// tile is a block with a softmax of its own, and the exact keys go on from what all of them weigh.
// Traffic: all keys once a block, mostly from L2.
template <int kDim, int kNarrow, bool kExact, bool kClustered>
__global__ void __launch_bounds__(kThreads)
    AttendTileKernel(const __grid_constant__ StreamAttentionArgs a) {
  extern __shared__ __align__(128) std::byte memory[];
  using Shared = TileShared<kDim, kNarrow, kExact>;
  constexpr bool kMaySummarize = !kExact && !kClustered;
  auto& shared = *reinterpret_cast<Shared*>(memory);
  auto& clusters = *reinterpret_cast<TileClusters*>(memory + sizeof(Shared));
  const StreamSegment& segment = a.batch.segments[blockIdx.y];
  if (IsFew(a, segment) || IsPadding(a.batch.chunks[segment.chunk])) return;
  const auto index = static_cast<int32_t>(blockIdx.y), kv_head = static_cast<int32_t>(blockIdx.x);
  const SegmentKeys keys(a, index, kv_head, SegmentKeys::ListOf<kExact>(a, index, kv_head));
  const TileQueries queries(a, keys, static_cast<int>(blockIdx.z));
  if (!queries.Any()) return;

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int num_centroid_tiles = kClustered && SegmentClusters::Has(keys) ? 1 : 0;
  const int num_entry_tiles = num_centroid_tiles + keys.NumEntryTiles();
  const int num_tiles = num_entry_tiles + keys.NumExactTiles();
  using EntryRows = SegmentKeys::EntryRows<kNarrow, kThreads>;
  EntryRows rows;  // of the next tile of entries to be loaded
  if (num_entry_tiles > 0) SegmentKeys::AskRows<kNarrow, kThreads>(a, keys.list, 0, rows);

  uint32_t q[kDim / 16][4];
  uint32_t memory_q[kNarrow / 16][4];
  queries.Load<kDim>(shared.q);
  if (num_entry_tiles > 0) {
    if constexpr (!kExact) LoadUp<kDim, kNarrow, kThreads>(keys, a.key_up, shared.up);
    queries.PutTurned<kDim>(shared.turned);
  }
  if (num_centroid_tiles > 0) SegmentClusters(keys).LoadBias(clusters.bias);
  CommitCopies();
  WaitCopies<0>();
  __syncthreads();
#pragma unroll
  for (int k = 0; k < kDim / 16; ++k) {
    LoadLeft<kDim>(q[k], shared.q, warp * kWarpQueries, k * 16);
  }
  if (kExact && num_entry_tiles > 0) {
#pragma unroll
    for (int k = 0; k < kNarrow / 16; ++k) {
      LoadLeft<kDim>(memory_q[k], shared.turned, warp * kWarpQueries, k * 16);
    }
  } else if (num_entry_tiles > 0) {  // q~ = P_k^+^T q'
    float narrow[kNarrow / 8][4] = {};
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      uint32_t turned[4];
      LoadLeft<kDim>(turned, shared.turned, warp * kWarpQueries, k * 16);
#pragma unroll
      for (int n = 0; n < kNarrow / 16; ++n) {
        uint32_t b[4];
        LoadRightColumns<kNarrow>(b, shared.up, k * 16, n * 16);
        MultiplyAdd(narrow[2 * n], turned, b[0], b[1]);
        MultiplyAdd(narrow[2 * n + 1], turned, b[2], b[3]);
      }
    }
#pragma unroll
    for (int k = 0; k < kNarrow / 16; ++k) AsLeft(narrow, k, memory_q[k]);
  }
  __syncthreads();

  // A group of copies a tile, empty behind the last.
  const auto load = [&](int tile) {
    const int stage = tile % kStages, entries = tile - num_centroid_tiles;
    if (kClustered && tile < num_centroid_tiles) {
      SegmentClusters(keys).LoadCentroids<kNarrow, kThreads>(shared.keys[stage],
                                                             shared.values[stage]);
    } else if (tile < num_entry_tiles) {
      keys.LoadEntries<kNarrow, kThreads, kExact>(
          rows, SegmentKeys::AllEntries{keys.num_entries}, shared.keys[stage], shared.values[stage],
          shared.score[stage], shared.log_gate[stage], entries);
      if (num_centroid_tiles > 0) LoadClusters(keys, entries, clusters.cluster[stage]);
      SegmentKeys::AskRows<kNarrow, kThreads>(a, keys.list, entries + 1, rows);
    } else if (tile < num_tiles) {
      keys.LoadExact<kDim, kThreads>(shared.keys[stage], shared.values[stage],
                                     tile - num_entry_tiles);
    }
    CommitCopies();
  };
  if constexpr (!kExact) {
    if (num_entry_tiles > 0) LoadUp<kDim, kNarrow, kThreads>(keys, a.value_up, shared.up);
  }
  load(0);
  load(1);

  const float logit_scale = rsqrtf(static_cast<float>(a.head_dim));
  RunningSoftmax softmax;
  float out[kDim / 8][4] = {};
  if (num_entry_tiles > 0) {
    const int head = min(queries.HeadOf(warp), a.num_heads - 1);  // of a warp without queries: any
    const float weight = WeightOf(a.score_weight, head), slope = WeightOf(a.age_slope, head);
    const bool is_fused = kExact && !kClustered && a.fused_weight != nullptr;
    FusedSoftmax fused;
    float narrow_out[kNarrow / 8][4] = {};
    uint64_t read[2] = {kAllClusters, kAllClusters};  // by the lane's two queries
    for (int tile = 0; tile < num_entry_tiles; ++tile) {
      const int stage = tile % kStages;
      WaitCopies<1>();
      if (!kClustered || tile >= num_centroid_tiles) {
        keys.SpreadEntries<kNarrow, kThreads>(shared.keys[stage], shared.values[stage]);
      }
      __syncthreads();  // the tile is there, and the stage that is loaded next has been read
      load(tile + 2);
      float logits[kTileKeys / 8][4], scale[2];
      ScoreKeys<kNarrow, kTileKeys>(memory_q, shared.keys[stage], 0, logits);
      if (kClustered && tile < num_centroid_tiles) {
        ReadCentroids(clusters.bias, a.clusters.read_clusters, logit_scale, weight, slope, logits,
                      read);
      } else {
        const int first = (tile - num_centroid_tiles) * kTileKeys;
#pragma unroll
        for (int n = 0; n < kTileKeys / 8; ++n) {
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const int at = n * 8 + lane % 4 * 2 + i;
            const float bias = keys.EntryBias<kMaySummarize>(
                first + at, shared.score[stage][at], shared.log_gate[stage][at], weight, slope);
            logits[n][i] = fmaf(logits[n][i], logit_scale, bias);
            logits[n][i + 2] = fmaf(logits[n][i + 2], logit_scale, bias);
            if constexpr (kClustered) {
              const int cluster = clusters.cluster[stage][at];
              if (!IsRead(read[0], cluster)) logits[n][i] = -INFINITY;
              if (!IsRead(read[1], cluster)) logits[n][i + 2] = -INFINITY;
            }
          }
        }
      }
      if (is_fused) {
        fused.Add(logits, kLog2E, FusedWeight(a, keys.list, tile));
        scale[0] = scale[1] = 1;
      } else {
        softmax.Add(logits, kLog2E, scale);
      }
      SumValues<kNarrow, kTileKeys>(logits, scale, shared.values[stage], 0, narrow_out);
    }
    if constexpr (kExact) {
      if (is_fused) softmax = fused.AsRunning(narrow_out);
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) out[n][i] = narrow_out[n][i];
      }
    } else {
#pragma unroll
      for (int k = 0; k < kNarrow / 16; ++k) {
        uint32_t left[4];
        AsLeft(narrow_out, k, left);
#pragma unroll
        for (int n = 0; n < kDim / 16; ++n) {
          uint32_t b[4];
          LoadRightRows<kNarrow>(b, shared.up, n * 16, k * 16);
          MultiplyAdd(out[2 * n], left, b[0], b[1]);
          MultiplyAdd(out[2 * n + 1], left, b[2], b[3]);
        }
      }
    }
  }
  for (int tile = num_entry_tiles; tile < num_tiles; ++tile) {
    WaitCopies<1>();
    __syncthreads();
    load(tile + 2);
    const int stage = tile % kStages, exact = tile - num_entry_tiles;
    float logits[kTileKeys / 8][4], scale[2];
    ScoreKeys<kDim, kTileKeys>(q, shared.keys[stage], 0, logits);
    if (!keys.AllSee(exact)) {
#pragma unroll
      for (int n = 0; n < kTileKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int key = exact * kTileKeys + n * 8 + lane % 4 * 2 + i % 2;
          const int row = queries.RowOf(warp, lane / 4 + i / 2 * 8);
          if (!keys.Sees(keys.first_position + row, key)) logits[n][i] = -INFINITY;
        }
      }
    }
    softmax.Add(logits, logit_scale * kLog2E, scale);
    SumValues<kDim, kTileKeys>(logits, scale, shared.values[stage], 0, out);
  }

  softmax.Finish();
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int query = lane / 4 + r * 8;
    if (!queries.IsQuery(warp, query)) continue;
    const float scale = 1.0f / softmax.sum[r];
    if (a.lse != nullptr && lane % 4 == 0) {
      a.lse[queries.Index(warp, query)] = LogOfSum(softmax.most[r], softmax.sum[r]);
    }
    auto* to = static_cast<__nv_bfloat16*>(a.out) + queries.Element(warp, query) + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
      if (n * 8 >= a.head_dim) continue;
      *reinterpret_cast<uint32_t*>(to + n * 8) =
          PackPair(out[n][2 * r] * scale, out[n][2 * r + 1] * scale);
    }
  }
}

template <int kDim, int kNarrow, bool kExact, bool kClustered>
absl::Status Launch(const StreamAttentionArgs& a, Stream stream) {
  constexpr int kBytes =
      sizeof(TileShared<kDim, kNarrow, kExact>) + (kClustered ? sizeof(TileClusters) : 0);
  const auto kernel = AttendTileKernel<kDim, kNarrow, kExact, kClustered>;
  RASQ_RETURN_IF_ERROR(AllowShared(kernel, kBytes));
  const int pieces =
      a.num_heads / a.num_kv_heads * ((a.shape.segment_rows + kWarpQueries - 1) / kWarpQueries);
  const dim3 grid(a.num_kv_heads, a.batch.num_segments, (pieces + kWarps - 1) / kWarps);
  kernel<<<grid, kThreads, kBytes, stream>>>(a);
  return LaunchStatus("AttendTile");
}

}  // namespace

absl::Status AttendTileCuda(const StreamAttentionArgs& a, Stream stream) {
  return WithTileWidths(a, [&]<int kDim, int kNarrow, bool kExact>() -> absl::Status {
    return HasClusters(a) ? Launch<kDim, kNarrow, kExact, true>(a, stream)
                          : Launch<kDim, kNarrow, kExact, false>(a, stream);
  });
}

}  // namespace rasq
