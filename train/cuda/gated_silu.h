// silu(gate) * up of a feed-forward layer in one pass, forward and backward. Contract for both:
// bfloat16 that is contiguous, float32 arithmetic, a width that is a multiple of 8, tensors of this
// device, launched on `stream`.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace rasq::train::cuda {

// gate_up [rows, 2 width]: a row's gates, then what they let through. out [rows, width]
cudaError_t GatedSiluForward(int64_t rows, int64_t width, const __nv_bfloat16* gate_up,
                             __nv_bfloat16* out, cudaStream_t stream);

// out_gradient [rows, width]; gate_up_gradient [rows, 2 width]
cudaError_t GatedSiluBackward(int64_t rows, int64_t width, const __nv_bfloat16* gate_up,
                              const __nv_bfloat16* out_gradient, __nv_bfloat16* gate_up_gradient,
                              cudaStream_t stream);

}  // namespace rasq::train::cuda
