// Element types of tensors, and bfloat16 on the host.
#pragma once

#include <bit>
#include <cstdint>

namespace rasq {

enum class DType : int8_t { kFloat32, kBfloat16 };

constexpr int64_t SizeOf(DType type) { return type == DType::kFloat32 ? 4 : 2; }
constexpr const char* Name(DType type) { return type == DType::kFloat32 ? "float32" : "bfloat16"; }

// The upper half of a float32.
struct bfloat16 {
  uint16_t bits;
};

inline float ToFloat(float x) { return x; }
inline float ToFloat(bfloat16 x) { return std::bit_cast<float>(uint32_t{x.bits} << 16); }

// Rounds to nearest, ties to even; a NaN stays a (quiet) NaN.
inline bfloat16 ToBfloat16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const uint32_t quiet_nan = (bits >> 16) | 0x40;
  return {static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? quiet_nan : rounded)};
}

}  // namespace rasq
