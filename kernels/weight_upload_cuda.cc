#include "kernels/weight_upload_cuda.h"

#include <algorithm>

#include "kernels/base/cuda_status.h"
#include "kernels/base/status.h"
#include "kernels/vector_loops_cpu.h"

namespace rasq {
namespace {

constexpr int64_t kBlockElements = 4 << 20;  // 8 MiB: a copy of some 200 us, far above its start

}  // namespace

absl::StatusOr<std::unique_ptr<WeightUpload>> WeightUpload::Create() {
  std::unique_ptr<WeightUpload> made(new WeightUpload);
  for (Block& block : made->blocks_) {
    void* data = nullptr;
    RASQ_RETURN_IF_ERROR(
        CudaStatus(cudaHostAlloc(&data, kBlockElements * sizeof(bfloat16), cudaHostAllocDefault),
                   "WeightUpload memory"));
    block.data = static_cast<bfloat16*>(data);
    RASQ_RETURN_IF_ERROR(CudaStatus(cudaEventCreateWithFlags(&block.copied, cudaEventDisableTiming),
                                    "WeightUpload event"));
  }
  return made;
}

WeightUpload::~WeightUpload() {
  for (const Block& block : blocks_) {
    if (block.copied != nullptr) {
      cudaEventSynchronize(block.copied);
      cudaEventDestroy(block.copied);
    }
    cudaFreeHost(block.data);
  }
}

absl::Status WeightUpload::Run(const float* from, int64_t count, void* to, Stream stream) {
  for (int64_t begin = 0; begin < count; begin += kBlockElements) {
    const int64_t n = std::min(kBlockElements, count - begin);
    const Block& block = blocks_[next_];
    next_ = 1 - next_;
    // An event that was never recorded counts as reached.
    RASQ_RETURN_IF_ERROR(CudaStatus(cudaEventSynchronize(block.copied), "WeightUpload wait"));
    Convert(from + begin, block.data, n);
    RASQ_RETURN_IF_ERROR(
        CudaStatus(cudaMemcpyAsync(static_cast<bfloat16*>(to) + begin, block.data,
                                   n * sizeof(bfloat16), cudaMemcpyHostToDevice, stream),
                   "WeightUpload copy"));
    RASQ_RETURN_IF_ERROR(CudaStatus(cudaEventRecord(block.copied, stream), "WeightUpload event"));
  }
  return absl::OkStatus();
}

}  // namespace rasq
