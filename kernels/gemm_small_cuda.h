// Products of shapes that the library has no algorithm for: rows that are not aligned to vectors.
// Any shape, at a fraction of the library's speed. Private to the CUDA backend.
#pragma once

#include "absl/status/status.h"
#include "kernels/base/stream.h"
#include "kernels/gemm.h"

namespace rasq {

// `weight` is args.w's data: bfloat16 [out, in] on the device. args are valid, and rows > 0. A
// row's result does not depend on `rows`.
absl::Status GemmSmallCuda(const GemmArgs& args, const void* weight, Stream stream);

}  // namespace rasq
