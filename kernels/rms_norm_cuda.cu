#include "kernels/base/cuda_status.h"
#include "kernels/base/status.h"
#include "kernels/rms_norm.h"
#include "kernels/row_loops_cuda.h"

namespace rasq {
namespace {

// Grid: rows. Block: kThreads, each kFours times four elements, which stay in registers; if kFours
// is 0, any number of them, read a second time from the caches. Traffic: x and y once, weight from
// L2.
template <int kThreads, int kFours, bool kVector>
__global__ void __launch_bounds__(kThreads) RmsNormKernel(RmsNormArgs a) {
  __shared__ float warp_sum[kThreads / 32];
  constexpr int64_t kStep = kThreads * 4;
  for (int64_t t = blockIdx.x; t < a.rows; t += gridDim.x) {
    const float* x = a.x + (a.row == nullptr ? t : int64_t{a.row[t]}) * a.x_stride;
    __nv_bfloat16* y = static_cast<__nv_bfloat16*>(a.y) + t * a.hidden;
    const int64_t first = threadIdx.x * 4;
    float4 kept[kFours == 0 ? 1 : kFours];
    float sum = 0;
    const auto add = [&sum](float4 v) {
      sum = fmaf(v.w, v.w, fmaf(v.z, v.z, fmaf(v.y, v.y, fmaf(v.x, v.x, sum))));
    };
    if constexpr (kFours > 0) {
#pragma unroll
      for (int j = 0; j < kFours; ++j) {
        const int64_t i = first + j * kStep;
        kept[j] = i < a.hidden ? LoadFour<kVector>(x, i, a.hidden) : float4{0, 0, 0, 0};
      }
#pragma unroll
      for (int j = 0; j < kFours; ++j) add(kept[j]);
    } else {
#pragma unroll 4
      for (int64_t i = first; i < a.hidden; i += kStep) add(LoadFour<kVector>(x, i, a.hidden));
    }
    sum = SumLanes(sum);
    if (threadIdx.x % 32 == 0) warp_sum[threadIdx.x / 32] = sum;
    __syncthreads();
    sum = 0;
    for (const float s : warp_sum) sum += s;
    __syncthreads();  // before the next row's sums
    const float scale = 1.0f / sqrtf(sum / static_cast<float>(a.hidden) + a.epsilon);
    const auto store = [&](float4 v, int64_t i) {
      const float4 w = LoadFour<kVector>(a.weight, i, a.hidden);
      StoreFour<kVector>(
          {v.x * scale * w.x, v.y * scale * w.y, v.z * scale * w.z, v.w * scale * w.w}, y, i,
          a.hidden);
    };
    if constexpr (kFours > 0) {
#pragma unroll
      for (int j = 0; j < kFours; ++j) {
        const int64_t i = first + j * kStep;
        if (i < a.hidden) store(kept[j], i);
      }
    } else {
#pragma unroll 4
      for (int64_t i = first; i < a.hidden; i += kStep) {
        store(LoadFour<kVector>(x, i, a.hidden), i);
      }
    }
  }
}

template <int kThreads, int kFours>
void Launch(const RmsNormArgs& a, Stream stream) {
  const bool vector = a.hidden % 4 == 0 && a.x_stride % 4 == 0 && IsAligned(a.x, 16) &&
                      IsAligned(a.weight, 16) && IsAligned(a.y, 8);
  if (vector) {
    RmsNormKernel<kThreads, kFours, true><<<GridX(a.rows), kThreads, 0, stream>>>(a);
  } else {
    RmsNormKernel<kThreads, kFours, false><<<GridX(a.rows), kThreads, 0, stream>>>(a);
  }
}

}  // namespace

absl::Status RmsNormCuda(const RmsNormArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateRmsNorm(a));
  RASQ_RETURN_IF_ERROR(RequireBfloat16("RmsNorm", a.element));
  if (a.rows == 0) return absl::OkStatus();
  // The version follows from `hidden` alone, and vectors change no sum: so a row's bits depend on
  // nothing but the row.
  if (a.hidden <= 1024) {
    Launch<256, 1>(a, stream);
  } else if (a.hidden <= 2048) {
    Launch<256, 2>(a, stream);
  } else if (a.hidden <= 4096) {
    Launch<256, 4>(a, stream);
  } else if (a.hidden <= 8192) {
    Launch<256, 8>(a, stream);
  } else {
    Launch<1024, 0>(a, stream);
  }
  return LaunchStatus("RmsNorm");
}

}  // namespace rasq
