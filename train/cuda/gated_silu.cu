#include "train/cuda/bf16_vector.cuh"
#include "train/cuda/gated_silu.h"

namespace rasq::train::cuda {
namespace {

constexpr int kThreads = 256;

__device__ float Sigmoid(float x) { return 1 / (1 + __expf(-x)); }

// A thread a vector of `out`.
__global__ void __launch_bounds__(kThreads)
    ForwardKernel(int64_t vectors, int64_t width, const __nv_bfloat16* gate_up,
                  __nv_bfloat16* out) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= vectors) return;
  const int64_t row = i * kVector / width, column = i * kVector % width;
  const Floats gate = Floats::Load(gate_up + row * 2 * width + column);
  const Floats up = Floats::Load(gate_up + row * 2 * width + width + column);
  Floats result;
  for (int j = 0; j < kVector; ++j) {
    result.value[j] = gate.value[j] * Sigmoid(gate.value[j]) * up.value[j];
  }
  result.Store(out + i * kVector);
}

__global__ void __launch_bounds__(kThreads)
    BackwardKernel(int64_t vectors, int64_t width, const __nv_bfloat16* gate_up,
                   const __nv_bfloat16* out_gradient, __nv_bfloat16* gate_up_gradient) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= vectors) return;
  const int64_t at = i * kVector / width * 2 * width + i * kVector % width;
  const Floats gate = Floats::Load(gate_up + at), up = Floats::Load(gate_up + at + width);
  const Floats given = Floats::Load(out_gradient + i * kVector);
  Floats of_gate, of_up;
  for (int j = 0; j < kVector; ++j) {
    const float g = gate.value[j], open = Sigmoid(g);
    of_up.value[j] = given.value[j] * g * open;
    of_gate.value[j] = given.value[j] * up.value[j] * open * (1 + g * (1 - open));
  }
  of_gate.Store(gate_up_gradient + at);
  of_up.Store(gate_up_gradient + at + width);
}

unsigned Blocks(int64_t vectors) {
  return static_cast<unsigned>((vectors + kThreads - 1) / kThreads);
}

}  // namespace

cudaError_t GatedSiluForward(int64_t rows, int64_t width, const __nv_bfloat16* gate_up,
                             __nv_bfloat16* out, cudaStream_t stream) {
  const int64_t vectors = rows * width / kVector;
  ForwardKernel<<<Blocks(vectors), kThreads, 0, stream>>>(vectors, width, gate_up, out);
  return cudaGetLastError();
}

cudaError_t GatedSiluBackward(int64_t rows, int64_t width, const __nv_bfloat16* gate_up,
                              const __nv_bfloat16* out_gradient, __nv_bfloat16* gate_up_gradient,
                              cudaStream_t stream) {
  const int64_t vectors = rows * width / kVector;
  BackwardKernel<<<Blocks(vectors), kThreads, 0, stream>>>(vectors, width, gate_up, out_gradient,
                                                           gate_up_gradient);
  return cudaGetLastError();
}

}  // namespace rasq::train::cuda
