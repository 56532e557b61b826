// Vectors in int8 with a scale (entry_rows.h) on the CPU. Private to kernels/.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/elements_cpu.h"
#include "kernels/entry_rows.h"
#include "kernels/vector_loops_cpu.h"

namespace rasq {

// `scale` need not be aligned.
inline void StoreInt8(const float* x, int64_t n, std::byte* q, std::byte* scale) {
  const float most = MaxAbs(x, n);
  const float step = most / kMostInt8;
  Quantize(x, most > 0 ? kMostInt8 / most : 0.0f, reinterpret_cast<int8_t*>(q), n);
  std::memcpy(scale, &step, sizeof(step));
}

inline float LoadScale(const std::byte* scale) {
  float value;
  std::memcpy(&value, scale, sizeof(value));
  return value;
}

// scale * q, rounded to the element type, in `to_type`: the same or wider.
inline void LoadInt8(const std::byte* q, float scale, DType element, DType to_type, void* to,
                     int64_t n) {
  const auto* from = reinterpret_cast<const int8_t*>(q);
  if (element == DType::kFloat32) return Dequantize(from, scale, static_cast<float*>(to), n);
  if (to_type == element) return Dequantize(from, scale, static_cast<bfloat16*>(to), n);
  constexpr int64_t kBlock = 256;
  bfloat16 rounded[kBlock];
  for (int64_t i = 0; i < n; i += kBlock) {
    const int64_t count = std::min(kBlock, n - i);
    Dequantize(from + i, scale, rounded, count);
    Convert(rounded, static_cast<float*>(to) + i, count);
  }
}

}  // namespace rasq
