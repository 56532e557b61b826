#include "kernels/base/cuda_status.h"
#include "kernels/gemm_small_cuda.h"
#include "kernels/row_loops_cuda.h"

namespace rasq {
namespace {

constexpr int kTile = 16;

struct SmallGemm {
  const __nv_bfloat16* x;
  const __nv_bfloat16* w;
  float* y;
  int64_t rows, out, in, x_stride, y_stride;
  bool accumulate;
};

// Grid: (out / kTile, rows / kTile). Block: kTile x kTile, a thread an output. Traffic: x and w
// once for every kTile outputs or rows.
__global__ void __launch_bounds__(kTile* kTile) SmallGemmKernel(SmallGemm g) {
  __shared__ float x[kTile][kTile + 1], w[kTile][kTile + 1];  // + 1: columns in different banks
  const int64_t first_out = int64_t{blockIdx.x} * kTile;
  for (int64_t first_row = int64_t{blockIdx.y} * kTile; first_row < g.rows;
       first_row += int64_t{gridDim.y} * kTile) {
    float sum = 0;
    for (int64_t first = 0; first < g.in; first += kTile) {
      const int64_t i = first + threadIdx.x;
      const int64_t row = first_row + threadIdx.y, out = first_out + threadIdx.y;
      x[threadIdx.y][threadIdx.x] =
          row < g.rows && i < g.in ? __bfloat162float(g.x[row * g.x_stride + i]) : 0.0f;
      w[threadIdx.y][threadIdx.x] =
          out < g.out && i < g.in ? __bfloat162float(g.w[out * g.in + i]) : 0.0f;
      __syncthreads();
      for (int j = 0; j < kTile; ++j) sum = fmaf(x[threadIdx.y][j], w[threadIdx.x][j], sum);
      __syncthreads();
    }
    const int64_t row = first_row + threadIdx.y, out = first_out + threadIdx.x;
    if (row < g.rows && out < g.out) {
      float& y = g.y[row * g.y_stride + out];
      y = g.accumulate ? y + sum : sum;
    }
  }
}

}  // namespace

absl::Status GemmSmallCuda(const GemmArgs& a, const void* weight, Stream stream) {
  const SmallGemm g{.x = static_cast<const __nv_bfloat16*>(a.x),
                    .w = static_cast<const __nv_bfloat16*>(weight),
                    .y = a.y,
                    .rows = a.rows,
                    .out = a.w->out(),
                    .in = a.w->in(),
                    .x_stride = a.x_stride,
                    .y_stride = a.y_stride,
                    .accumulate = a.accumulate};
  const dim3 grid(GridX((g.out - 1) / kTile + 1), GridY((g.rows - 1) / kTile + 1));
  SmallGemmKernel<<<grid, dim3(kTile, kTile), 0, stream>>>(g);
  return LaunchStatus("Gemm");
}

}  // namespace rasq
