// Weights from float32 on the host to bfloat16 on the GPU. Private to the CUDA backend.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/dtype.h"
#include "kernels/base/stream.h"

namespace rasq {

class WeightUpload {
 public:
  // Takes page-locked memory and events of the current device.
  static absl::StatusOr<std::unique_ptr<WeightUpload>> Create();
  ~WeightUpload();
  WeightUpload(const WeightUpload&) = delete;
  WeightUpload& operator=(const WeightUpload&) = delete;

  // to[i] = from[i] for i < count. `from` may be changed on return; the last of it may still be on
  // its way, in the order of `stream`.
  absl::Status Run(const float* from, int64_t count, void* to, Stream stream);

 private:
  // One is converted into while the other is copied.
  struct Block {
    bfloat16* data = nullptr;
    cudaEvent_t copied = nullptr;
  };
  WeightUpload() = default;

  Block blocks_[2];
  int next_ = 0;
};

}  // namespace rasq
