#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "kernels/base/cuda_status.h"
#include "kernels/base/status.h"
#include "kernels/block_reduce_cuda.h"
#include "kernels/row_loops_cuda.h"
#include "kernels/token_logprobs.h"

namespace rasq {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr float kNever = -INFINITY;

__device__ float Finite(float logit) { return isfinite(logit) ? logit : kNever; }

// The largest over the block, for all of its threads.
__device__ float BlockMax(float value) {
  __shared__ float warp_max[kWarps];
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, distance));
  }
  __syncthreads();  // the row before is done with it
  if (threadIdx.x % 32 == 0) warp_max[threadIdx.x / 32] = value;
  __syncthreads();
  float most = warp_max[0];
  for (int warp = 1; warp < kWarps; ++warp) most = fmaxf(most, warp_max[warp]);
  return most;
}

// Grid: rows. Block: kThreads. Traffic: the row twice, the second time out of the cache.
__global__ void __launch_bounds__(kThreads) TokenLogprobsKernel(TokenLogprobsArgs a) {
  for (int64_t t = blockIdx.x; t < a.rows; t += gridDim.x) {
    const float* logits = a.logits + t * a.vocab;
    float best = kNever;
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < a.vocab; i += kThreads) best = fmaxf(best, Finite(logits[i]));
    best = BlockMax(best);
    // Summed in double: a thread adds hundreds of terms, a block 512 sums.
    double sum = 0;
    if (best != kNever) {
#pragma unroll 4
      for (int64_t i = threadIdx.x; i < a.vocab; i += kThreads) {
        sum += __expf(Finite(logits[i]) - best);
      }
    }
    sum = BlockSum<kThreads>(sum);
    if (threadIdx.x == 0) {
      a.logprob[t] = best == kNever
                         ? kNever
                         : (Finite(logits[a.token[t]]) - best) - static_cast<float>(log(sum));
    }
  }
}

}  // namespace

absl::Status TokenLogprobsCuda(const TokenLogprobsArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateTokenLogprobs(a));
  if (a.rows == 0) return absl::OkStatus();
  TokenLogprobsKernel<<<GridX(a.rows), kThreads, 0, stream>>>(a);
  return LaunchStatus("TokenLogprobs");
}

}  // namespace rasq
