// Runs of elements whose type is known at run time. Private to kernels/.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/base/dtype.h"
#include "kernels/gemm.h"
#include "kernels/vector_loops_cpu.h"

namespace rasq {

// The type in which products of `element`s are computed here: bfloat16 needs the processor's help.
inline DType ProductType(DType element) {
  return element == DType::kBfloat16 && CpuHasBfloat16() ? element : DType::kFloat32;
}

inline void LoadElements(DType type, const void* from, float* to, int64_t n) {
  if (type == DType::kBfloat16) {
    Convert(static_cast<const bfloat16*>(from), to, n);
  } else {
    std::memcpy(to, from, n * sizeof(float));
  }
}

inline void StoreElements(DType type, const float* from, void* to, int64_t n) {
  if (type == DType::kBfloat16) {
    Convert(from, static_cast<bfloat16*>(to), n);
  } else {
    std::memcpy(to, from, n * sizeof(float));
  }
}

// From an element type to the type of its products: the same, or wider.
inline void ConvertElements(DType from_type, const void* from, DType to_type, void* to, int64_t n) {
  if (from_type == to_type) {
    std::memcpy(to, from, n * SizeOf(to_type));
  } else {
    LoadElements(from_type, from, static_cast<float*>(to), n);
  }
}

}  // namespace rasq
