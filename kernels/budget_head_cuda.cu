#include <cuda_runtime.h>

#include "kernels/base/check_args.h"
#include "kernels/base/cuda_status.h"
#include "kernels/base/status.h"
#include "kernels/budget_head.h"
#include "kernels/row_loops_cuda.h"
#include "kernels/stream_batch_cuda.h"

namespace rasq {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr int kMostWidth = 4096;  // of the pooled query, in shared memory

// Grid: num_segments. Block: kThreads: a thread pools columns, then a warp takes a factor at a
// time. Traffic: the segment's queries and the head's weights once, both mostly from L2.
__global__ void __launch_bounds__(kThreads) BudgetHeadKernel(BudgetHeadArgs a) {
  extern __shared__ float pooled[];
  __shared__ float logits[kMaxBudgetFactors];
  const StreamSegment& segment = a.batch.segments[blockIdx.x];
  const StreamChunk& chunk = a.batch.chunks[segment.chunk];
  if (IsPadding(chunk) || segment.begins == 0) return;
  const int num_queries = static_cast<int>(min(segment.start, int64_t{a.shape.segment_rows}));
  const int64_t row_bytes = int64_t{a.index_dim} * sizeof(__nv_bfloat16);
  for (int d = threadIdx.x; d < a.index_dim; d += kThreads) {
    float sum = 0;
    for (int i = 0; i < num_queries; ++i) {
      const std::byte* row = TokenRow(chunk, a.query_ring_offset, a.shape.segment_rows, a.query,
                                      segment.start - num_queries + i, row_bytes);
      sum += __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(row)[d]);
    }
    pooled[d] = num_queries > 0 ? sum / static_cast<float>(num_queries) : 0;
  }
  __syncthreads();
  const int lane = threadIdx.x % 32;
  for (int f = threadIdx.x / 32; f < a.num_factors; f += kWarps) {
    float sum = 0;
    for (int d = lane; d < a.index_dim; d += 32) {
      sum = fmaf(a.weight[int64_t{f} * a.index_dim + d], pooled[d], sum);
    }
    sum = SumLanes(sum);
    if (lane == 0) logits[f] = sum + a.bias[f];
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  int best = 0;
  for (int f = 1; f < a.num_factors; ++f) {
    if (logits[f] > logits[best]) best = f;
  }
  a.factor[blockIdx.x] = a.factors[best];
}

}  // namespace

absl::Status BudgetHeadCuda(const BudgetHeadArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateBudgetHead(a));
  RASQ_RETURN_IF_ERROR(RequireBfloat16("BudgetHead", a.element));
  RASQ_RETURN_IF_ERROR(CheckRange("BudgetHead", "index_dim", a.index_dim, 1, kMostWidth));
  if (a.batch.num_segments == 0) return absl::OkStatus();
  BudgetHeadKernel<<<static_cast<unsigned>(a.batch.num_segments), kThreads,
                     a.index_dim * sizeof(float), stream>>>(a);
  return LaunchStatus("BudgetHead");
}

}  // namespace rasq
