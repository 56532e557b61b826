// Matrix products by cuBLASLt: bfloat16 in, float32 out, float32 accumulation. Algorithms are
// chosen once for each weight shape and range of rows, and kept.
#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/stream.h"
#include "kernels/gemm.h"
#include "kernels/ops.h"

namespace rasq {

class CudaGemm {
 public:
  // Holds the library's handle and workspace on the current device. With `batch_invariant`, one
  // range holds all row counts.
  static absl::StatusOr<std::unique_ptr<CudaGemm>> Create(bool batch_invariant);
  virtual ~CudaGemm() = default;

  // args.w must be a CudaMatrix. Rows of one range (1..16, 17..64, 65..256, more) are computed by
  // one algorithm: within it a row's result does not depend on `rows` or on the other rows.
  virtual absl::Status Run(const GemmArgs& args, Stream stream) = 0;
};

// bfloat16 [out, in], row-major, in device memory.
class CudaMatrix : public Matrix {
 public:
  CudaMatrix(int64_t out, int64_t in, std::unique_ptr<Buffer> memory)
      : Matrix(out, in, memory->bytes()), memory_(std::move(memory)) {}
  const void* data() const { return memory_->data(); }

 private:
  std::unique_ptr<Buffer> memory_;
};

}  // namespace rasq
