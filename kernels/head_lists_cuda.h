// Where rows of stores and rings lie, on the device: the CUDA twin of head_lists_cpu.h.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/head_lists.h"
#include "kernels/row_loops_cuda.h"
#include "kernels/stream_batch_cuda.h"

namespace rasq {

__device__ inline __nv_bfloat16* StoredRow(const HeadStore& s, const StreamChunk& chunk, bool key,
                                           int64_t row) {
  return reinterpret_cast<__nv_bfloat16*>(chunk.state +
                                          (key ? s.store_k_offset : s.store_v_offset)) +
         row * s.head_dim;
}

__device__ inline const __nv_bfloat16* RingRow(const HeadStore& s, const StreamChunk& chunk,
                                               int64_t kv_head, bool key, int64_t position) {
  const int64_t row = position % s.shape.ring_rows * s.num_kv_heads + kv_head;
  return reinterpret_cast<const __nv_bfloat16*>(chunk.state +
                                                (key ? s.ring_k_offset : s.ring_v_offset)) +
         row * s.head_dim;
}

// From the ring into the store, by a warp.
__device__ inline void KeepRow(const HeadStore& s, const StreamChunk& chunk, int64_t kv_head,
                               int64_t position, int64_t row) {
  for (int side = 0; side < 2; ++side) {
    const __nv_bfloat16* from = RingRow(s, chunk, kv_head, side == 0, position);
    __nv_bfloat16* to = StoredRow(s, chunk, side == 0, row);
    const bool vectors = s.head_dim % 4 == 0 && IsAligned(from, 8) && IsAligned(to, 8);
    for (int d = 4 * (threadIdx.x % 32); d < s.head_dim; d += 128) {
      if (vectors) {
        *reinterpret_cast<uint2*>(to + d) = *reinterpret_cast<const uint2*>(from + d);
      } else {
        for (int i = d; i < min(d + 4, s.head_dim); ++i) to[i] = from[i];
      }
    }
  }
}

}  // namespace rasq
