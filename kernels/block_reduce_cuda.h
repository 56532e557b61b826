// What the kernels that search rows share: sums over a block, an order of floats as integers, and
// places in a list that a block fills. Private to kernels/.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace rasq {

constexpr unsigned kAllLanes = ~0u;

// The sum over the block, for all of its threads; one-dimensional blocks of whole warps. The order
// of additions is fixed, so that the same values give the same sum.
template <int kNumThreads, typename T>
__device__ T BlockSum(T value) {
  static_assert(kNumThreads % 32 == 0 && kNumThreads <= 1024);
  __shared__ T warp_sum[kNumThreads / 32];
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, distance);
  }
  __syncthreads();  // an earlier sum's readers are done
  if (threadIdx.x % 32 == 0) warp_sum[threadIdx.x / 32] = value;
  __syncthreads();
  T sum = warp_sum[0];
  for (int warp = 1; warp < kNumThreads / 32; ++warp) sum += warp_sum[warp];
  return sum;
}

// Unsigned integers in the order of the floats: -0 and 0 are the same, -infinity is below every
// finite number, NaNs lie beyond the infinities. 0 is no number's.
__device__ inline uint32_t OrderedBits(float x) {
  const uint32_t bits = __float_as_uint(x == 0 ? 0.0f : x);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}

__device__ inline float FromOrderedBits(uint32_t ordered) {
  return __uint_as_float((ordered >> 31) != 0 ? ordered & 0x7fffffffu : ~ordered);
}

// A place in a list of which *size is the length, in shared memory. For any subset of a warp's
// threads: one addition a warp, since many threads append at once.
__device__ inline int32_t Append(int32_t* size) {
  const unsigned here = __activemask();
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int leader = __ffs(static_cast<int>(here)) - 1;
  int32_t first = 0;
  if (lane == leader) first = atomicAdd(size, __popc(here));
  return __shfl_sync(here, first, leader) + __popc(here & ((1u << lane) - 1));
}

}  // namespace rasq
