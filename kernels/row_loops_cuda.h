// What the CUDA operations on rows share: loads and stores of four elements, sums of a warp, sizes
// of grids. Private to the CUDA backend.
#pragma once

#include <cuda_bf16.h>

#include <algorithm>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "kernels/base/dtype.h"

namespace rasq {

// Whether `pointer` is null or a multiple of `bytes`.
__host__ __device__ inline bool IsAligned(const void* pointer, int64_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

inline absl::Status RequireBfloat16(absl::string_view op, DType element) {
  if (element == DType::kBfloat16) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(op, ": element=", Name(element)));
}

// Blocks of a kernel that strides over `work` by gridDim.x, or by gridDim.y.
inline unsigned GridX(int64_t work) {
  return static_cast<unsigned>(std::min<int64_t>(work, INT32_MAX));
}
inline unsigned GridY(int64_t work) {
  return static_cast<unsigned>(std::min<int64_t>(work, 65535));
}

struct alignas(8) Bfloat16x4 {
  __nv_bfloat162 low, high;
};

__device__ inline float4 ToFloats(Bfloat16x4 x) {
  const float2 low = __bfloat1622float2(x.low), high = __bfloat1622float2(x.high);
  return {low.x, low.y, high.x, high.y};
}
__device__ inline Bfloat16x4 ToBfloat16x4(float4 x) {
  return {__floats2bfloat162_rn(x.x, x.y), __floats2bfloat162_rn(x.z, x.w)};
}

// Elements i .. i + 3 of n: at once if kVector (then i + 4 <= n, and x + i is aligned to 16 bytes),
// else one by one, zeroes from n on. Both give a caller the same numbers in the same places.
template <bool kVector>
__device__ inline float4 LoadFour(const float* x, int64_t i, int64_t n) {
  if constexpr (kVector) {
    return *reinterpret_cast<const float4*>(x + i);
  } else {
    return {x[i], i + 1 < n ? x[i + 1] : 0, i + 2 < n ? x[i + 2] : 0, i + 3 < n ? x[i + 3] : 0};
  }
}

// As LoadFour; a vector's alignment is 8 bytes.
template <bool kVector>
__device__ inline void StoreFour(float4 x, __nv_bfloat16* y, int64_t i, int64_t n) {
  if constexpr (kVector) {
    *reinterpret_cast<Bfloat16x4*>(y + i) = ToBfloat16x4(x);
  } else {
    y[i] = __float2bfloat16_rn(x.x);
    if (i + 1 < n) y[i + 1] = __float2bfloat16_rn(x.y);
    if (i + 2 < n) y[i + 2] = __float2bfloat16_rn(x.z);
    if (i + 3 < n) y[i + 3] = __float2bfloat16_rn(x.w);
  }
}

// The sum over groups of `lanes` (a power of two, at most 32) neighbouring lanes, in all of them,
// in an order of its own. The whole warp must call it.
__device__ inline float SumLanes(float x, int lanes = 32) {
  for (int step = lanes / 2; step > 0; step /= 2) x += __shfl_xor_sync(~0u, x, step);
  return x;
}
// The same for the largest.
__device__ inline float MaxLanes(float x, int lanes = 32) {
  for (int step = lanes / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, step));
  return x;
}

}  // namespace rasq
