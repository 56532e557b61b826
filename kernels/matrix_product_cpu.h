// y = x w for one thread: a thin layer over oneDNN's matmul, whose primitives it keeps. Private to
// kernels/.
//
// All matrices are dense: oneDNN's fast path takes no strides between rows. Call from tasks of a
// ThreadPool, where oneDNN runs on the calling thread alone. Each thread keeps its own primitives
// (at most kMaxProducts), so there is no lock; oneDNN shares the machine code. A product that
// oneDNN refuses is a bug of ours and ends the process: types are checked before.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"

namespace rasq {

enum class WeightLayout : int8_t {
  kPacked,      // by PackWeight
  kInnerOuter,  // w[i, o] at i * columns + o
  kOuterInner,  // w[i, o] at o * inner + i
};

struct ProductShape {
  DType type;       // of x and w; y is float32. kBfloat16 only where CpuHasBfloat16()
  int64_t rows;     // of x and y
  int64_t columns;  // of w and y
  int64_t inner;    // of x's rows and w's columns
  WeightLayout layout;
  bool accumulate = false;  // y += x w

  bool operator==(const ProductShape&) const = default;
};

inline constexpr int64_t kMaxProducts = 512;

void RunProduct(const ProductShape& shape, const void* x, const void* w, float* y) noexcept;

// Of a packed w, the same for every number of rows.
int64_t PackedWeightBytes(DType type, int64_t columns, int64_t inner) noexcept;
// `weight` is [columns, inner] in float32; `packed` is aligned to 64 bytes.
void PackWeight(DType type, int64_t columns, int64_t inner, const float* weight,
                void* packed) noexcept;

// What oneDNN does not promise, tried out on this machine for a packed weight that is cut into
// panels of columns. Remembered: each shape is tried once in a process.
struct PackedTraits {
  // A row has the same bits whether it is computed in 1, 2, 4, 8, 16, 32 or 64 rows.
  bool any_row_count;
  // The panels' packed bytes behind each other are those of the whole, and give the same bits.
  bool panels_are_slices;
};
PackedTraits TryPacked(DType type, int64_t columns, int64_t inner, int64_t panel_columns);

// Keeps oneDNN from AMX: with it, oneDNN 2.6.3 writes beyond its own memory in these products (seen
// on a Xeon with amx_bf16: the process ends in malloc's checks). The variable ONEDNN_MAX_CPU_ISA
// decides where it is set. Precedes any other use of oneDNN.
void LimitInstructionSet();

}  // namespace rasq
