// Matrix product with a weight: y[t,o] = sum_i x[t,i] * w[o,i], or y += that. Accumulates in
// float32. By oneDNN on the CPU.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/dtype.h"
#include "kernels/base/thread_pool.h"

namespace rasq {

// A weight in the backend's own layout.
class Matrix {
 public:
  virtual ~Matrix() = default;
  int64_t out() const { return out_; }
  int64_t in() const { return in_; }
  int64_t bytes() const { return bytes_; }

 protected:
  Matrix(int64_t out, int64_t in, int64_t bytes) : out_(out), in_(in), bytes_(bytes) {}

 private:
  int64_t out_, in_, bytes_;
};

struct GemmArgs {
  const void* x;     // [rows, in], of the backend's element type, row stride x_stride
  const Matrix* w;   // made by the same backend
  float* y;          // [rows, out], row stride y_stride
  int64_t rows;      // >= 0
  int64_t x_stride;  // elements, >= in
  int64_t y_stride;  // elements, >= out
  bool accumulate;   // add to y in place of overwriting it
};

// kInvalidArgument if a bound above is broken or w is null.
absl::Status ValidateGemm(const GemmArgs& args);

// Packs [out, in] row-major weights, given in float32, for products with rows of `element`.
// kUnimplemented if the processor has no fast path for `element` (see CpuHasBfloat16).
absl::StatusOr<std::unique_ptr<Matrix>> PackMatrixCpu(const float* weight, int64_t out, int64_t in,
                                                      DType element);

// A row's result does not depend on `rows` or on the other rows, bit for bit.
absl::Status GemmCpu(const GemmArgs& args, ThreadPool& pool);

// Whether bf16 products are faster than float32 ones here (AVX512-BF16 or better).
bool CpuHasBfloat16();

}  // namespace rasq
