// Entries fused by blocks (stream_attention.h, fused_weight): a block is a tile of entries, with a
// softmax of its own. Private to the CUDA backend.
#pragma once

#include "kernels/attention_keys_cuda.h"
#include "kernels/tensor_tile_cuda.h"

namespace rasq {

static_assert(kFusedRows == kTileKeys);

// The weight of a list's block of entries.
__device__ inline float FusedWeight(const StreamAttentionArgs& a, int list, int block) {
  return a.fused_weight[list * NumFusedBlocks(a.shape.max_selected) + block];
}

// What keys weigh together, powers of two of their logits: a sum relative to 2^most. Adds another.
__device__ inline void AddMass(float most, float sum, float& to_most, float& to_sum) {
  const float best = fmaxf(to_most, most);
  const float base = best == -INFINITY ? 0.0f : best;
  to_sum = to_sum * Exp2(to_most - base) + sum * Exp2(most - base);
  to_most = best;
}

// The softmaxes of a lane's two rows over one block of entries after another (stream_attention.h,
// fused_weight), and in powers of two what all blocks weigh together: whole rows, in each lane.
struct FusedSoftmax {
  float most[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0, 0};

  // Turns a block's logits into weights: its softmax of logits * factor, times `weight`.
  template <int kTiles>
  __device__ void Add(float (&logits)[kTiles][4], float factor, float weight) {
    RunningSoftmax block;
    float scale[2];
    block.Add(logits, factor, scale);
    block.Finish();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      AddMass(block.most[r], block.sum[r], most[r], sum[r]);
      scale[r] = block.sum[r] > 0 ? weight / block.sum[r] : 0.0f;
    }
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) logits[n][i] *= scale[i / 2];
    }
  }

  // One part of a softmax that goes on with other keys, and the sum of values as part of its sum.
  template <int kTiles>
  __device__ RunningSoftmax AsRunning(float (&out)[kTiles][4]) const {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) out[n][i] *= sum[i / 2];
    }
    const bool counts = threadIdx.x % 4 == 0;  // its lanes' sums are added in the end
    return {.most = {most[0], most[1]}, .sum = {counts ? sum[0] : 0, counts ? sum[1] : 0}};
  }
};

}  // namespace rasq
