#include "kernels/base/cuda_status.h"
#include "kernels/base/status.h"
#include "kernels/embed.h"
#include "kernels/row_loops_cuda.h"

namespace rasq {
namespace {

constexpr int kThreads = 256;

// Grid: rows. Block: kThreads, each four elements at a time. Traffic: the table's row once, y once.
template <bool kVector>
__global__ void __launch_bounds__(kThreads) EmbedKernel(EmbedArgs a) {
  for (int64_t t = blockIdx.x; t < a.rows; t += gridDim.x) {
    const int64_t id = a.token_id[t];
    if (id < 0) continue;
    const __nv_bfloat16* from = static_cast<const __nv_bfloat16*>(a.table) + id * a.hidden;
    float* y = a.y + t * a.hidden;
    if constexpr (kVector) {
#pragma unroll 4
      for (int64_t i = threadIdx.x * 4; i < a.hidden; i += kThreads * 4) {
        *reinterpret_cast<float4*>(y + i) =
            ToFloats(*reinterpret_cast<const Bfloat16x4*>(from + i));
      }
    } else {
      for (int64_t i = threadIdx.x; i < a.hidden; i += kThreads) y[i] = __bfloat162float(from[i]);
    }
  }
}

}  // namespace

absl::Status EmbedCuda(const EmbedArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateEmbed(a));
  RASQ_RETURN_IF_ERROR(RequireBfloat16("Embed", a.element));
  if (a.rows == 0) return absl::OkStatus();
  if (a.hidden % 4 == 0 && IsAligned(a.table, 8) && IsAligned(a.y, 16)) {
    EmbedKernel<true><<<GridX(a.rows), kThreads, 0, stream>>>(a);
  } else {
    EmbedKernel<false><<<GridX(a.rows), kThreads, 0, stream>>>(a);
  }
  return LaunchStatus("Embed");
}

}  // namespace rasq
