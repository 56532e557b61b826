// Eight bfloat16 that are read and written at once, as floats.
#pragma once

#include <cuda_bf16.h>

namespace rasq::train::cuda {

inline constexpr int kVector = 8;

struct Floats {
  float value[kVector];

  static __device__ Floats Load(const __nv_bfloat16* from) {
    const uint4 raw = *reinterpret_cast<const uint4*>(from);
    const auto* pairs = reinterpret_cast<const __nv_bfloat162*>(&raw);
    Floats floats;
    for (int i = 0; i < kVector / 2; ++i) {
      const float2 pair = __bfloat1622float2(pairs[i]);
      floats.value[2 * i] = pair.x;
      floats.value[2 * i + 1] = pair.y;
    }
    return floats;
  }
  __device__ void Store(__nv_bfloat16* to) const {
    uint4 raw;
    auto* pairs = reinterpret_cast<__nv_bfloat162*>(&raw);
    for (int i = 0; i < kVector / 2; ++i) {
      pairs[i] = __floats2bfloat162_rn(value[2 * i], value[2 * i + 1]);
    }
    *reinterpret_cast<uint4*>(to) = raw;
  }
  __device__ void Add(const Floats& other, float factor) {
    for (int i = 0; i < kVector; ++i) value[i] += factor * other.value[i];
  }
};

}  // namespace rasq::train::cuda
