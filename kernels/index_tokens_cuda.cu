#include "kernels/base/cuda_status.h"
#include "kernels/base/status.h"
#include "kernels/entry_rows_cuda.h"
#include "kernels/index_tokens.h"
#include "kernels/random.h"
#include "kernels/row_loops_cuda.h"
#include "kernels/stream_batch_cuda.h"

namespace rasq {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

// Of a vector whose square is given; a vector of length zero stays zero.
__device__ float UnitScale(float square) {
  const float length = sqrtf(square);
  return length > 0 ? 1.0f / length : 0.0f;
}

// As the CPU's: no overflow, and a NaN counts as a closed gate.
__device__ float LogSigmoid(float x) {
  if (isnan(x)) return -INFINITY;
  return fminf(x, 0.0f) - log1pf(expf(-fabsf(x)));
}

// Multiplications and additions are kept apart, as on a processor without fused ones: priorities
// decide what is kept, and should not depend on the backend more than logarithms do.
__device__ double Priority(float log_gate, const WritePolicy& policy, int64_t position) {
  if (policy.by_age) return static_cast<double>(position);
  double priority =
      __dadd_rn(double{log_gate}, __dmul_rn(static_cast<double>(position), policy.log_growth));
  if (policy.noise != 0) {
    const double u = UniformAt(policy.seed, static_cast<uint64_t>(position));
    priority = __dsub_rn(priority, __dmul_rn(policy.noise, log(-log(u))));
  }
  return priority;
}

// A warp's row of the key in int8. It is divided by its length first, as on the CPU.
__device__ void StoreInt8(const IndexTokensArgs& a, int64_t row, const float* key, float scale) {
  const int lane = threadIdx.x % 32;
  float most = 0;
  for (int i = lane; i < a.index_dim; i += 32) most = fmaxf(most, fabsf(key[i] * scale));
  const Int8Scale int8 = Int8Scale::Of(MaxLanes(most));
  std::byte* to = static_cast<std::byte*>(a.key) + row * Int8RowBytes(/*heads=*/1, a.index_dim);
  for (int i = lane; i < a.index_dim; i += 32) {
    reinterpret_cast<int8_t*>(to)[i] = int8.Round(key[i] * scale);
  }
  if (lane == 0) {
    *reinterpret_cast<float*>(to + EntryScaleOffset(/*heads=*/1, a.index_dim)) = int8.scale;
  }
}

// Grid: rows / kWarps. Block: a warp a row. Traffic: projected once (rows have no alignment: the
// gate makes them odd), query and key once. Too little of both to gain from vectors.
__global__ void __launch_bounds__(kThreads) IndexTokensKernel(IndexTokensArgs a) {
  const int lane = threadIdx.x % 32;
  for (int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32; row < a.batch.num_rows;
       row += int64_t{gridDim.x} * kWarps) {
    const int32_t chunk = ChunkOfRow(a.batch, row);
    const StreamChunk& c = a.batch.chunks[chunk];
    const int64_t offset = row - c.first_row;
    if (IsPadding(c) || offset < 0 || offset >= c.num_rows) continue;
    const float* query = a.projected + row * a.projected_stride;
    const float* key = query + a.index_dim;
    float query_square = 0, key_square = 0;
    for (int i = lane; i < a.index_dim; i += 32) {
      query_square = fmaf(query[i], query[i], query_square);
      key_square = fmaf(key[i], key[i], key_square);
    }
    const float query_scale = UnitScale(SumLanes(query_square));
    const float key_scale = UnitScale(SumLanes(key_square));
    __nv_bfloat16* unit_query = static_cast<__nv_bfloat16*>(a.query) + row * a.index_dim;
    for (int i = lane; i < a.index_dim; i += 32) {
      unit_query[i] = __float2bfloat16_rn(query[i] * query_scale);
    }
    if (a.entry_type == EntryType::kInt8) {
      StoreInt8(a, row, key, key_scale);
    } else {
      __nv_bfloat16* unit_key = static_cast<__nv_bfloat16*>(a.key) + row * a.index_dim;
      for (int i = lane; i < a.index_dim; i += 32) {
        unit_key[i] = __float2bfloat16_rn(key[i] * key_scale);
      }
    }
    if (a.has_gate && lane == 0) {
      const float log_gate = LogSigmoid(key[a.index_dim] + a.gate_bias);
      a.log_gate[row] = log_gate;
      a.priority[row] = a.pinned[row] != 0
                            ? static_cast<double>(INFINITY)
                            : Priority(log_gate, a.policy[chunk], c.first_position + offset);
    }
  }
}

}  // namespace

absl::Status IndexTokensCuda(const IndexTokensArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateIndexTokens(a));
  RASQ_RETURN_IF_ERROR(RequireBfloat16("IndexTokens", a.element));
  if (a.batch.num_chunks == 0) return absl::OkStatus();
  const int64_t blocks = (int64_t{a.batch.num_rows} - 1) / kWarps + 1;
  IndexTokensKernel<<<GridX(blocks), kThreads, 0, stream>>>(a);
  return LaunchStatus("IndexTokens");
}

}  // namespace rasq
