#include "kernels/base/cuda_status.h"
#include "kernels/random.h"
#include "kernels/random_cuda.h"
#include "kernels/row_loops_cuda.h"

namespace rasq {
namespace {

constexpr int kThreads = 256;

// Grid: count / kThreads. Block: kThreads. Bound by the mixing of bits; y is written once.
__global__ void __launch_bounds__(kThreads)
    FillRandomKernel(__nv_bfloat16* y, int64_t count, float scale, uint64_t seed) {
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * kThreads) {
    y[i] = __float2bfloat16_rn(WeightAt(seed, static_cast<uint64_t>(i), scale));
  }
}

}  // namespace

absl::Status FillRandomCuda(void* y, int64_t count, float scale, uint64_t seed, Stream stream) {
  FillRandomKernel<<<GridX((count - 1) / kThreads + 1), kThreads, 0, stream>>>(
      static_cast<__nv_bfloat16*>(y), count, scale, seed);
  return LaunchStatus("FillRandom");
}

}  // namespace rasq
