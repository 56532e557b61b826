// Per-head RMS norm and rotary positions of queries and keys in one pass, forward and backward: the
// plain operations (../segment_attention.h, Decoder::Norm) read and write every vector six times.
// Contract for both: bfloat16 rows, float32 arithmetic, tensors of this device, launched on
// `stream`. head_dim is 64 or 128.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace rasq::train::cuda {

struct NormRotateShape {
  int64_t rows;    // streams x tokens
  int64_t tokens;  // of a stream: a row's position is row % tokens
  int32_t heads;   // of queries
  int32_t kv_heads;
  int32_t head_dim;
  int32_t query_width;  // >= head_dim: of a query's row in `query`
  float epsilon;
};

struct NormRotateTensors {
  const __nv_bfloat16* qkv;  // [rows, heads + 2 kv_heads, head_dim]
  const float* query_norm;   // [head_dim]
  const float* key_norm;     // [head_dim]
  const float* cos;          // [tokens, head_dim / 2]
  const float* sin;          // [tokens, head_dim / 2]
};

struct NormRotateOutputs {
  __nv_bfloat16* query;      // [rows, heads, query_width]: the first head_dim of each
  __nv_bfloat16* key;        // [rows, kv_heads, head_dim]: rotated
  __nv_bfloat16* plain_key;  // the same, not rotated
  __nv_bfloat16* value;      // [rows, kv_heads, head_dim]
};

// Gradients of the outputs, contiguous.
struct NormRotateGradients {
  const __nv_bfloat16* query;
  const __nv_bfloat16* key;
  const __nv_bfloat16* plain_key;
  const __nv_bfloat16* value;
};

cudaError_t NormRotateForward(const NormRotateShape& shape, const NormRotateTensors& tensors,
                              const NormRotateOutputs& outputs, cudaStream_t stream);

// qkv_gradient: [rows, heads + 2 kv_heads, head_dim]. The norms' gradients, float [head_dim], are
// added to; in an order that is not fixed.
cudaError_t NormRotateBackward(const NormRotateShape& shape, const NormRotateTensors& tensors,
                               const NormRotateGradients& gradients, __nv_bfloat16* qkv_gradient,
                               float* query_norm_gradient, float* key_norm_gradient,
                               cudaStream_t stream);

}  // namespace rasq::train::cuda
