// Root-mean-square norm: y[t,i] = x[t,i] * weight[i] / sqrt(mean_j x[t,j]^2 + epsilon)
// Source: Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4; epsilon as in Llama.
// Accumulates in float32 or wider and rounds once, at the store.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/base/dtype.h"
#include "kernels/base/stream.h"
#include "kernels/base/thread_pool.h"

namespace rasq {

struct RmsNormArgs {
  const float* x;       // [rows, hidden], row stride x_stride
  const int32_t* row;   // [rows]: which row of x each row of y is made from; null: its own
  const float* weight;  // [hidden]
  void* y;              // [rows, hidden], of `element`; must not overlap x
  DType element;        //
  int64_t rows;         // >= 0
  int64_t hidden;       // 1..65536
  int64_t x_stride;     // elements, >= hidden
  float epsilon;        // > 0
};

absl::Status ValidateRmsNorm(const RmsNormArgs& args);
// A row's result does not depend on `rows`.
absl::Status RmsNormCpu(const RmsNormArgs& args, ThreadPool& pool);
absl::Status RmsNormCuda(const RmsNormArgs& args, Stream stream);

}  // namespace rasq
