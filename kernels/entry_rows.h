// How the memory's entries lie in states and staging rows: of the element type, or in int8 with a
// scale for each vector. A row is an entry's `heads` vectors of `width`: K_c or V_c of all kv
// heads, or its index key E_c, which is one vector.
//   kElement  E [heads, width]
//   kInt8     int8 q [heads, width], at EntryScaleOffset float scale [heads], and nothing up to a
//             multiple of 8 bytes. A vector x has scale = max_i |x_i| / 127 and
//             q_i = x_i * (127 / max_i |x_i|), each step in float32, then to the nearest integer,
//             ties to even; a vector of zeroes has scale 0.
// Keys and values in int8 are read as scale * q, rounded to the element type; an index key's scale
// is applied to its product with a query. Source: algorithm.md 2.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/host_device.h"

namespace rasq {

enum class EntryType : int8_t { kElement, kInt8 };

constexpr const char* Name(EntryType type, DType element) {
  return type == EntryType::kInt8 ? "int8" : Name(element);
}

inline constexpr float kMostInt8 = 127;

// Bytes from a row's beginning to its scales.
RASQ_HOST_DEVICE constexpr int64_t EntryScaleOffset(int64_t heads, int64_t width) {
  return (heads * width + 3) / 4 * 4;
}

RASQ_HOST_DEVICE constexpr int64_t Int8RowBytes(int64_t heads, int64_t width) {
  return (EntryScaleOffset(heads, width) + heads * int64_t{sizeof(float)} + 7) / 8 * 8;
}

constexpr int64_t EntryRowBytes(EntryType type, DType element, int64_t heads, int64_t width) {
  return type == EntryType::kInt8 ? Int8RowBytes(heads, width) : heads * width * SizeOf(element);
}

}  // namespace rasq
