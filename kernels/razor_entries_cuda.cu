#include <cuda_runtime.h>

#include "kernels/base/cuda_status.h"
#include "kernels/base/status.h"
#include "kernels/head_lists_cuda.h"
#include "kernels/razor_entries.h"
#include "kernels/row_loops_cuda.h"

namespace rasq {
namespace {

constexpr int kThreads = 256;

// Adds rows [before, kept) to the head's mean: a thread a column, so neighbours read neighbours.
__device__ void FoldRows(const RazorEntriesArgs& a, const StreamChunk& chunk, int kv_head,
                         const RazorRows& at, bool key, int64_t before, int64_t kept) {
  const int dim = a.store.head_dim;
  auto* mean = reinterpret_cast<double*>(chunk.state + (key ? a.mean_k_offset : a.mean_v_offset)) +
               int64_t{kv_head} * dim;
  const double had = static_cast<double>(before - a.policy.sink_rows);
  const double has = static_cast<double>(kept - a.policy.sink_rows);
  __nv_bfloat16* to = StoredRow(a.store, chunk, key, at.first + a.policy.sink_rows + at.rows);
  for (int d = threadIdx.x; d < dim; d += kThreads) {
    double sum = 0;
    for (int64_t p = before; p < kept; ++p) {
      const __nv_bfloat16* from = p < chunk.leave_begin
                                      ? StoredRow(a.store, chunk, key, RazorRowOf(a.policy, at, p))
                                      : RingRow(a.store, chunk, kv_head, key, p);
      sum += __bfloat162float(from[d]);
    }
    const double now = had > 0 ? mean[d] + (sum - (has - had) * mean[d]) / has : sum / has;
    mean[d] = now;
    to[d] = __float2bfloat16_rn(static_cast<float>(now));
  }
}

// Grid: num_segments x num_kv_heads. Block: kThreads. Traffic: what is folded once, what is kept
// once in and once out, and the list.
__global__ void __launch_bounds__(kThreads) RazorEntriesKernel(RazorEntriesArgs a) {
  const int segment = blockIdx.x, kv_head = blockIdx.y;
  const StreamChunk& chunk = a.store.batch.chunks[a.store.batch.segments[segment].chunk];
  if (IsPadding(chunk)) return;
  const RazorRows at = RazorRowsOf(a.policy, kv_head);
  const int64_t window = a.store.shape.window_rows, sink_rows = a.policy.sink_rows;
  const int64_t left = chunk.leave_end;
  const int64_t kept = RazorFirstKept(a.policy, at.retrieves, left, window);
  const int64_t before =
      max(RazorFirstKept(a.policy, at.retrieves, chunk.leave_begin, window), sink_rows);
  if (!at.retrieves && kept > before) {
    FoldRows(a, chunk, kv_head, at, /*key=*/true, before, kept);
    FoldRows(a, chunk, kv_head, at, /*key=*/false, before, kept);
    __syncthreads();  // their rows may be taken now
  }
  for (int64_t p = chunk.leave_begin + threadIdx.x / 32; p < left; p += kThreads / 32) {
    if (p < sink_rows || p >= kept) {
      KeepRow(a.store, chunk, kv_head, p, RazorRowOf(a.policy, at, p));
    }
  }

  const int64_t list = int64_t{segment} * a.store.num_kv_heads + kv_head;
  int32_t* row = a.lists.row + list * a.store.shape.max_selected;
  float* bias = a.lists.bias + list * a.store.shape.max_selected;
  const int64_t sinks = min(sink_rows, left);
  const int64_t first = max(sinks, kept);
  const int64_t count = sinks + left - first;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) {
    row[i] = static_cast<int32_t>(RazorRowOf(a.policy, at, i < sinks ? i : first + i - sinks));
    bias[i] = 0;
  }
  if (threadIdx.x != 0) return;
  const bool folded = !at.retrieves && kept > sink_rows;
  if (folded) {
    row[count] = static_cast<int32_t>(at.first + sink_rows + at.rows);
    bias[count] = static_cast<float>(log(static_cast<double>(kept - sink_rows)));
  }
  a.lists.count[list] = static_cast<int32_t>(count + (folded ? 1 : 0));
}

}  // namespace

absl::Status RazorEntriesCuda(const RazorEntriesArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateRazorEntries(a));
  RASQ_RETURN_IF_ERROR(RequireBfloat16("RazorEntries", a.store.element));
  if (a.store.batch.num_segments == 0) return absl::OkStatus();
  const dim3 grid(a.store.batch.num_segments, a.store.num_kv_heads);
  RazorEntriesKernel<<<grid, kThreads, 0, stream>>>(a);
  return LaunchStatus("RazorEntries");
}

}  // namespace rasq
