// Vectors in int8 with a scale (entry_rows.h) on the GPU, eight numbers at a time. Private to the
// CUDA backend.
#pragma once

#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>

#include "kernels/entry_rows.h"

namespace rasq {

// The numbers in a word's bytes, exact. A byte is put below the exponent of 2^23, where a step of
// the float is 1: conversions of integers have a fraction of additions' rate.
__device__ inline void FourInt8(uint32_t four, float (&x)[4]) {
  constexpr uint32_t kExponent = 0x4b000000;  // of 2^23
  const uint32_t biased = four ^ 0x80808080;  // q + 128
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    x[i] = __uint_as_float(__byte_perm(biased, kExponent, 0x7540 + i)) - (8388608.0f + 128.0f);
  }
}

// Eight numbers times their scale as a piece of 16 bytes, each rounded to bfloat16; with scale 1
// they are exact.
__device__ inline uint4 SpreadInt8(uint2 q, float scale) {
  float low[4], high[4];
  FourInt8(q.x, low);
  FourInt8(q.y, high);
  uint4 piece;
  auto* pairs = reinterpret_cast<__nv_bfloat162*>(&piece);
  pairs[0] = __floats2bfloat162_rn(low[0] * scale, low[1] * scale);
  pairs[1] = __floats2bfloat162_rn(low[2] * scale, low[3] * scale);
  pairs[2] = __floats2bfloat162_rn(high[0] * scale, high[1] * scale);
  pairs[3] = __floats2bfloat162_rn(high[2] * scale, high[3] * scale);
  return piece;
}

// What a vector's numbers are multiplied by to become int8, and back.
struct Int8Scale {
  float inverse, scale;

  // `most`: the vector's largest number, without its sign.
  __device__ static Int8Scale Of(float most) {
    return {.inverse = most > 0 ? __fdiv_rn(kMostInt8, most) : 0.0f,
            .scale = __fdiv_rn(most, kMostInt8)};
  }

  // A NaN becomes the least number, as on the CPU.
  __device__ int8_t Round(float x) const {
    return static_cast<int8_t>(
        __float2int_rn(fminf(fmaxf(__fmul_rn(x, inverse), -kMostInt8), kMostInt8)));
  }
};

}  // namespace rasq
