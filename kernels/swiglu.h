// y[t,i] = silu(gate[t,i]) * up[t,i], silu(x) = x / (1 + exp(-x)).
// Source: Shazeer 2020, arXiv:2002.05202.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/base/dtype.h"
#include "kernels/base/stream.h"
#include "kernels/base/thread_pool.h"

namespace rasq {

struct SwigluArgs {
  const float* gate_up;  // [rows, 2 * width]: gate, then up
  void* y;               // [rows, width], of `element`
  DType element;         //
  int64_t rows;          // >= 0
  int64_t width;         // >= 1
};

absl::Status ValidateSwiglu(const SwigluArgs& args);
absl::Status SwigluCpu(const SwigluArgs& args, ThreadPool& pool);
absl::Status SwigluCuda(const SwigluArgs& args, Stream stream);

}  // namespace rasq
