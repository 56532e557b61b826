// Few queries of one kv head: a warp's softmax over its share of the keys, and how the shares of
// warps, and of a cluster's blocks, are merged. Private to the CUDA backend.
#pragma once

#include <cooperative_groups.h>

#include "kernels/attend_cuda.h"
#include "kernels/attention_keys_cuda.h"
#include "kernels/fused_blocks_cuda.h"
#include "kernels/tensor_tile_cuda.h"

namespace rasq {

inline constexpr int kFewWarps = 4;
inline constexpr int kFewThreads = 32 * kFewWarps;
inline constexpr int kMaxBlocks = 8;  // of a cluster, on every device

// Sums over a part of the keys, of weights relative to 2^most.
template <int kDim>
struct Partial {
  float out[kDim][kFewQueries];
  float most[kFewQueries];
  float sum[kFewQueries];
};

// The queries of one kv head: query r is that of token r / group, head r % group.
struct FewQueries {
  const StreamAttentionArgs& a;
  const SegmentKeys& keys;
  const int group;
  const int count;

  __device__ FewQueries(const StreamAttentionArgs& args, const SegmentKeys& segment_keys)
      : a(args),
        keys(segment_keys),
        group(args.num_heads / args.num_kv_heads),
        count(segment_keys.segment.num_rows * group) {}

  __device__ int HeadOf(int r) const { return keys.kv_head * group + r % group; }
  __device__ int64_t Index(int r) const {
    return int64_t{keys.segment.first_row + r / group} * a.num_heads + HeadOf(r);
  }
  __device__ int64_t Element(int r) const { return Index(r) * a.head_dim; }
  __device__ const __nv_bfloat16* Row(int r) const {
    return static_cast<const __nv_bfloat16*>(a.q) + Element(r);
  }

  // Into a tile; rows behind the last, and columns behind the head's, are zero. kTurned: moved into
  // the memory's frame, rotated back by its position, if it has one.
  template <int kDim, bool kTurned>
  __device__ void Put(__nv_bfloat16* tile) const {
    constexpr int kPieces = kDim / kPieceElements;
    const int half = a.head_dim / 2;
    for (int at = threadIdx.x; at < kFewQueries * kPieces; at += kFewThreads) {
      const int r = at / kPieces, piece = at % kPieces;
      auto* to = reinterpret_cast<uint4*>(tile + TileOffset<kDim>(r, piece));
      if (r >= count || piece * kPieceElements >= a.head_dim) {
        *to = uint4{0, 0, 0, 0};
      } else if (!kTurned || a.memory_rotation == nullptr) {
        *to = *reinterpret_cast<const uint4*>(Row(r) + piece * kPieceElements);
      } else if (piece * kPieceElements < half) {  // and its mate
        PutRotated<kDim>(tile, r, piece, half, Row(r),
                         a.memory_rotation + int64_t{keys.index} * a.head_dim, /*sign=*/-1.0f);
      }
    }
  }
};

// The running softmax of 8 queries over a warp's share of the keys, in powers of two. Keys stand in
// the rows of all products and queries in their columns, since queries are few: a lane has the
// queries lane % 4 * 2 and the next.
struct WarpSoftmax {
  float most[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0, 0};  // of the lane's own keys until Finish

  // Turns the logits of 16 keys into weights. `scale`: by what everything summed so far has to be
  // multiplied.
  __device__ void Weigh(float (&logits)[4], float (&scale)[2]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float best = fmaxf(most[i], fmaxf(logits[i], logits[i + 2]));
      best = fmaxf(best, __shfl_xor_sync(~0u, best, 4));
      best = fmaxf(best, __shfl_xor_sync(~0u, best, 8));
      best = fmaxf(best, __shfl_xor_sync(~0u, best, 16));
      const float base = best == -INFINITY ? 0.0f : best;  // nothing seen yet: weights are zero
      scale[i] = Exp2(most[i] - base);
      most[i] = best;
      logits[i] = Exp2(logits[i] - base);
      logits[i + 2] = Exp2(logits[i + 2] - base);
      sum[i] = sum[i] * scale[i] + logits[i] + logits[i + 2];
    }
  }

  __device__ void Finish() {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      sum[i] += __shfl_xor_sync(~0u, sum[i], 4);
      sum[i] += __shfl_xor_sync(~0u, sum[i], 8);
      sum[i] += __shfl_xor_sync(~0u, sum[i], 16);
    }
  }
};

// And the sums of values.
template <int kWidth>
struct WarpSums : WarpSoftmax {
  float out[kWidth / 16][4] = {};  // [16 columns of a value, 8 queries] each

  // Logits of 16 keys, from row `first` of the tile: q * keys^T.
  static __device__ void Score(const uint32_t (&q)[kWidth / 16][2], const __nv_bfloat16* keys,
                               int first, float (&logits)[4]) {
    float odd[4] = {};  // two sums: a product waits for the last but one
#pragma unroll
    for (int i = 0; i < 4; ++i) logits[i] = 0;
#pragma unroll
    for (int k = 0; k < kWidth / 16; ++k) {
      uint32_t a[4];
      LoadLeft<kWidth>(a, keys, first, k * 16);
      MultiplyAdd(k % 2 == 0 ? logits : odd, a, q[k][0], q[k][1]);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) logits[i] += odd[i];
  }

  // Adds 16 keys' values, weighted by their logits in powers of two.
  __device__ void Add(float (&logits)[4], const __nv_bfloat16* values, int first) {
    float scale[2];
    Weigh(logits, scale);
    if (__any_sync(~0u, scale[0] != 1 || scale[1] != 1)) {
#pragma unroll
      for (int m = 0; m < kWidth / 16; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) out[m][i] *= scale[i % 2];
      }
    }
    AddValues(logits, values, first);
  }

  // Adds 16 keys' values by their weights.
  __device__ void AddValues(const float (&weights)[4], const __nv_bfloat16* values, int first) {
    uint32_t b[2];
    AsRight(weights, b);
#pragma unroll
    for (int m = 0; m < kWidth / 16; ++m) {
      uint32_t a[4];
      LoadLeftTransposed<kWidth>(a, values, first, m * 16);
      MultiplyAdd(out[m], a, b[0], b[1]);
    }
  }

  // For the others of the block, after Finish.
  __device__ void Put(Partial<kWidth>& to) const {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int m = 0; m < kWidth / 16; ++m) {
#pragma unroll
      for (int i = 0; i < 4; i += 2) {
        *reinterpret_cast<float2*>(&to.out[m * 16 + lane / 4 + i * 4][lane % 4 * 2]) =
            make_float2(out[m][i], out[m][i + 1]);
      }
    }
    if (lane < 4) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        to.most[lane * 2 + i] = most[i];
        to.sum[lane * 2 + i] = sum[i];
      }
    }
  }
};

// Sums the warps' parts: a thread has four queries of a column.
template <int kDim>
__device__ inline void MergeWarps(const Partial<kDim> (&warps)[kFewWarps], int count,
                                  Partial<kDim>& to) {
  for (int at = threadIdx.x; at < kDim * (kFewQueries / 4); at += kFewThreads) {
    const int d = at % kDim, first = at / kDim * 4;
    if (first >= count) break;
    float most[kFewWarps][4], base[4];
#pragma unroll
    for (int w = 0; w < kFewWarps; ++w) {
      *reinterpret_cast<float4*>(most[w]) = *reinterpret_cast<const float4*>(&warps[w].most[first]);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      base[i] = fmaxf(fmaxf(most[0][i], most[1][i]), fmaxf(most[2][i], most[3][i]));
    }
    float out[4] = {}, sum[4] = {};
#pragma unroll
    for (int w = 0; w < kFewWarps; ++w) {
      float part[4], part_sum[4];
      *reinterpret_cast<float4*>(part) = *reinterpret_cast<const float4*>(&warps[w].out[d][first]);
      *reinterpret_cast<float4*>(part_sum) = *reinterpret_cast<const float4*>(&warps[w].sum[first]);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float scale = Exp2(most[w][i] - (base[i] == -INFINITY ? 0.0f : base[i]));
        out[i] += scale * part[i];
        sum[i] += scale * part_sum[i];
      }
    }
    *reinterpret_cast<float4*>(&to.out[d][first]) = *reinterpret_cast<const float4*>(out);
    if (d == 0) {
      *reinterpret_cast<float4*>(&to.most[first]) = *reinterpret_cast<const float4*>(base);
      *reinterpret_cast<float4*>(&to.sum[first]) = *reinterpret_cast<const float4*>(sum);
    }
  }
}

// Fused blocks of entries, a tile each (stream_attention.h, fused_weight): their weighted outputs
// are summed apart from the exact keys', since what the memory weighs beside those is known when
// all of it has been read. In shared memory, behind what the kernel has else.
template <int kDim>
struct FewFused {
  float most[kFewWarps][kFewQueries];  // of the warps' keys of a tile
  float sum[kFewWarps][kFewQueries];
  // out: the memory's output, a share of it. most, sum: what a share of the entries weighs.
  Partial<kDim> warps[kFewWarps];
  Partial<kDim> block;

  // Adds a warp's 16 keys of the tile; all warps of the block take part. Between two calls the
  // threads have to meet. `to`: sums of whole warps, not to be finished.
  __device__ void Add(float (&logits)[4], const __nv_bfloat16* values, int first, float weight,
                      WarpSums<kDim>& to) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, query = lane % 4 * 2;
    WarpSoftmax own;
    float scale[2];
    own.Weigh(logits, scale);
    own.Finish();
    if (lane < 4) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        most[warp][query + i] = own.most[i];
        sum[warp][query + i] = own.sum[i];
      }
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float all_most = -INFINITY, all_sum = 0;
#pragma unroll
      for (int w = 0; w < kFewWarps; ++w) {
        AddMass(most[w][query + i], sum[w][query + i], all_most, all_sum);
      }
      scale[i] = all_sum > 0 ? weight * Exp2(own.most[i] - all_most) / all_sum : 0.0f;
      AddMass(own.most[i], own.sum[i], to.most[i], to.sum[i]);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) logits[i] *= scale[i % 2];
    to.AddValues(logits, values, first);
  }
};

// Sums the warps' shares of the memory.
template <int kDim>
__device__ inline void MergeFused(FewFused<kDim>& shared, int count) {
  for (int at = threadIdx.x; at < kDim * count; at += kFewThreads) {
    const int r = at % count, d = at / count;
    float out = 0, most = -INFINITY, sum = 0;
#pragma unroll
    for (int w = 0; w < kFewWarps; ++w) {
      out += shared.warps[w].out[d][r];
      AddMass(shared.warps[w].most[r], shared.warps[w].sum[r], most, sum);
    }
    shared.block.out[d][r] = out;
    if (d == 0) {
      shared.block.most[r] = most;
      shared.block.sum[r] = sum;
    }
  }
}

// Queries of a tile as right factors.
template <int kDim>
__device__ inline void LoadQueries(const __nv_bfloat16* tile, uint32_t (&q)[kDim / 16][2]) {
#pragma unroll
  for (int k = 0; k < kDim / 16; k += 2) {
    uint32_t b[4];
    LoadRightRow<kDim>(b, tile, k * 16);
    q[k][0] = b[0];
    q[k][1] = b[1];
    q[k + 1][0] = b[2];
    q[k + 1][1] = b[3];
  }
}

// q~ = P_k^+^T q' as right factors; each warp computes all of it.
template <int kDim, int kNarrow>
__device__ inline void MoveQueries(const __nv_bfloat16* turned, const __nv_bfloat16* up,
                                   uint32_t (&moved)[kNarrow / 16][2]) {
  uint32_t q[kDim / 16][2];
  LoadQueries<kDim>(turned, q);
#pragma unroll
  for (int m = 0; m < kNarrow / 16; ++m) {
    float c[4] = {};
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      uint32_t a[4];
      LoadLeftTransposed<kNarrow>(a, up, k * 16, m * 16);
      MultiplyAdd(c, a, q[k][0], q[k][1]);
    }
    AsRight(c, moved[m]);
  }
}

// A warp's sums over entries, widened by P_v^+.
template <int kDim, int kNarrow>
__device__ inline void Widen(const WarpSums<kNarrow>& narrow, const __nv_bfloat16* up,
                             WarpSums<kDim>& wide) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    wide.most[i] = narrow.most[i];
    wide.sum[i] = narrow.sum[i];
  }
#pragma unroll
  for (int k = 0; k < kNarrow / 16; ++k) {
    uint32_t b[2];
    AsRight(narrow.out[k], b);
#pragma unroll
    for (int m = 0; m < kDim / 16; ++m) {
      uint32_t a[4];
      LoadLeft<kNarrow>(a, up, m * 16, k * 16);
      MultiplyAdd(wide.out[m], a, b[0], b[1]);
    }
  }
}

// Merges the parts of the cluster's blocks, a share in each, and writes the outputs. All parts are
// asked for before any is waited for. `memory`: fused blocks of entries, null if there are none.
template <bool kFused, int kDim>
__device__ inline void MergeBlocks(const FewQueries& queries, int blocks, int rank,
                                   Partial<kDim>& block, Partial<kDim>* memory) {
  const StreamAttentionArgs& a = queries.a;
  const cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
  cluster.sync();
  for (int at = threadIdx.x * blocks + rank; at < queries.count * a.head_dim;
       at += kFewThreads * blocks) {
    const int r = at / a.head_dim, d = at % a.head_dim;
    float most[kMaxBlocks], sum[kMaxBlocks], out[kMaxBlocks];
#pragma unroll
    for (int b = 0; b < kMaxBlocks; ++b) {
      most[b] = -INFINITY;
      if (b >= blocks) continue;
      most[b] = *cluster.map_shared_rank(&block.most[r], b);
      sum[b] = *cluster.map_shared_rank(&block.sum[r], b);
      out[b] = *cluster.map_shared_rank(&block.out[d][r], b);
    }
    float base = -INFINITY;
#pragma unroll
    for (int b = 0; b < kMaxBlocks; ++b) base = fmaxf(base, most[b]);
    float all_out = 0, all_sum = 0;
#pragma unroll
    for (int b = 0; b < kMaxBlocks; ++b) {
      if (b >= blocks) continue;
      const float scale = Exp2(most[b] - base);
      all_out += scale * out[b];
      all_sum += scale * sum[b];
    }
    if constexpr (kFused) {
      if (memory != nullptr) {
        float memory_out = 0, mass_most = -INFINITY, mass = 0;
        for (int b = 0; b < blocks; ++b) {
          memory_out += *cluster.map_shared_rank(&memory->out[d][r], b);
          AddMass(*cluster.map_shared_rank(&memory->most[r], b),
                  *cluster.map_shared_rank(&memory->sum[r], b), mass_most, mass);
        }
        const float most_of_both = fmaxf(base, mass_most);
        const float scale = Exp2(base - most_of_both);
        mass *= Exp2(mass_most - most_of_both);
        all_out = all_out * scale + mass * memory_out;
        all_sum = all_sum * scale + mass;
        base = most_of_both;
      }
    }
    static_cast<__nv_bfloat16*>(a.out)[queries.Element(r) + d] =
        __float2bfloat16_rn(all_out / all_sum);
    if (a.lse != nullptr && d == 0) a.lse[queries.Index(r)] = LogOfSum(base, all_sum);
  }
  cluster.sync();  // until the others have read this block's part
}

}  // namespace rasq
