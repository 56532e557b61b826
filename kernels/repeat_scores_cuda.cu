#include <cuda_runtime.h>

#include <cmath>

#include "kernels/base/cuda_status.h"
#include "kernels/base/status.h"
#include "kernels/repeat_scores.h"
#include "kernels/row_loops_cuda.h"
#include "kernels/stream_batch_cuda.h"

namespace rasq {
namespace {

constexpr int kThreads = 128;

// A warp a row and head. Grid: rows / warps x num_heads. Block: kThreads. Traffic: a query once and
// two keys for each repeat before it.
__global__ void __launch_bounds__(kThreads) RepeatScoresKernel(RepeatScoresArgs a) {
  const int64_t row = int64_t{blockIdx.x} * (kThreads / 32) + threadIdx.x / 32;
  const int head = blockIdx.y, lane = threadIdx.x % 32;
  if (row >= a.batch.num_rows) return;
  const StreamChunk& chunk = a.batch.chunks[ChunkOfRow(a.batch, row)];
  const int64_t offset = row - chunk.first_row;
  if (IsPadding(chunk) || offset < 0 || offset >= chunk.num_rows) return;
  const int64_t row_bytes = int64_t{a.num_kv_heads} * a.head_dim * sizeof(__nv_bfloat16);
  const int64_t in_row = int64_t{head / (a.num_heads / a.num_kv_heads)} * a.head_dim;
  const int64_t at = row * a.num_heads + head;
  const auto* q = static_cast<const __nv_bfloat16*>(a.q) + at * a.head_dim;
  const float scale = rsqrtf(static_cast<float>(a.head_dim)), lse = a.lse[at];
  const auto weight = [&](int64_t position) {
    const auto* k = reinterpret_cast<const __nv_bfloat16*>(TokenRow(
                        chunk, a.ring_k_offset, a.shape.ring_rows, a.k, position, row_bytes)) +
                    in_row;
    float sum = 0;
    for (int d = lane; d < a.head_dim; d += 32) {
      sum = fmaf(__bfloat162float(q[d]), __bfloat162float(k[d]), sum);
    }
    return expf(SumLanes(sum) * scale - lse);
  };
  float echo = 0, induction = 0;
  for (int64_t key = chunk.first_position + offset - a.period; key >= a.first; key -= a.period) {
    echo += weight(key);
    induction += weight(key + 1);
  }
  if (lane == 0) a.out[at] = {echo, induction};
}

}  // namespace

absl::Status RepeatScoresCuda(const RepeatScoresArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateRepeatScores(a));
  RASQ_RETURN_IF_ERROR(RequireBfloat16("RepeatScores", a.element));
  if (a.batch.num_chunks == 0) return absl::OkStatus();
  constexpr int kRows = kThreads / 32;
  const dim3 grid((a.batch.num_rows + kRows - 1) / kRows, a.num_heads);
  RepeatScoresKernel<<<grid, kThreads, 0, stream>>>(a);
  return LaunchStatus("RepeatScores");
}

}  // namespace rasq
