#include "kernels/base/cuda_status.h"
#include "kernels/base/status.h"
#include "kernels/row_loops_cuda.h"
#include "kernels/swiglu.h"

namespace rasq {
namespace {

constexpr int kThreads = 256;

__device__ float SiluTimes(float gate, float up) { return gate / (1.0f + expf(-gate)) * up; }

// Grid: (width / (4 * kThreads), rows). Block: kThreads, each four elements. Traffic: gate, up and
// y once each.
template <bool kVector>
__global__ void __launch_bounds__(kThreads) SwigluKernel(SwigluArgs a) {
  const int64_t step = int64_t{gridDim.x} * kThreads * 4;
  const int64_t first = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * 4;
  for (int64_t t = blockIdx.y; t < a.rows; t += gridDim.y) {
    const float* gate = a.gate_up + t * 2 * a.width;
    __nv_bfloat16* y = static_cast<__nv_bfloat16*>(a.y) + t * a.width;
    for (int64_t i = first; i < a.width; i += step) {
      const float4 g = LoadFour<kVector>(gate, i, a.width);
      const float4 u = LoadFour<kVector>(gate + a.width, i, a.width);
      StoreFour<kVector>(
          {SiluTimes(g.x, u.x), SiluTimes(g.y, u.y), SiluTimes(g.z, u.z), SiluTimes(g.w, u.w)}, y,
          i, a.width);
    }
  }
}

}  // namespace

absl::Status SwigluCuda(const SwigluArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateSwiglu(a));
  RASQ_RETURN_IF_ERROR(RequireBfloat16("Swiglu", a.element));
  if (a.rows == 0) return absl::OkStatus();
  const dim3 grid(GridX((a.width - 1) / (4 * kThreads) + 1), GridY(a.rows));
  if (a.width % 4 == 0 && IsAligned(a.gate_up, 16) && IsAligned(a.y, 8)) {
    SwigluKernel<true><<<grid, kThreads, 0, stream>>>(a);
  } else {
    SwigluKernel<false><<<grid, kThreads, 0, stream>>>(a);
  }
  return LaunchStatus("Swiglu");
}

}  // namespace rasq
