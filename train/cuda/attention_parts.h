// What attention in parts (../attention_parts.h) does around the attention kernel: windows are
// copied out for each segment and their gradients added up, and parts become one.
// Contract for all: bfloat16 vectors that are contiguous but where a width says otherwise,
// head_dim a multiple of 8, tensors of this device, launched on `stream`.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace rasq::train::cuda {

// Segments are counted over all streams. Segment s of a stream has a window of the
// min(window, s * segment) tokens before it, rows ends[i] .. ends[i + 1] - 1 of all windows.
struct WindowShape {
  int64_t streams, segments;  // of a stream
  int32_t segment, window;    // tokens
  int32_t width;              // kv_heads x head_dim
  const int32_t* ends;        // [streams * segments + 1]
};

// windows[...] = tokens [streams, segments * segment, width].
cudaError_t GatherWindows(const WindowShape& shape, const __nv_bfloat16* tokens,
                          __nv_bfloat16* windows, cudaStream_t stream);

// gradient [streams, segments * segment, width] += the windows' gradients, summed in float32.
cudaError_t AddWindows(const WindowShape& shape, const __nv_bfloat16* windows,
                       __nv_bfloat16* gradient, cudaStream_t stream);

struct MergeShape {
  int64_t segments;  // of all streams
  int32_t segment;
  int32_t kv_heads, group;  // query heads: kv_heads x group
  int32_t head_dim;
  int32_t memory_width;  // of a row of `memory`; >= head_dim
};

// What a query read of each part, by the softmax of that part, and the logarithm of its sum (not
// finite: it read nothing there). Rows of memory and window are a segment's (token, head of group).
struct AttentionParts {
  const __nv_bfloat16* own;     // [segments, segment, heads, head_dim]
  const __nv_bfloat16* memory;  // [segments, segment * group, kv_heads, memory_width]; or null
  const __nv_bfloat16* window;  // [segments, segment * group, kv_heads, head_dim]; or null
  float* own_lse;               // [segments, heads, segment]
  float* memory_lse;            // [segments, kv_heads, segment * group]
  float* window_lse;            // [kv_heads, segments, segment * group]
};

// out, like `own`: by the softmax of all parts. The parts' lse become those of all.
cudaError_t MergeParts(const MergeShape& shape, const AttentionParts& parts, __nv_bfloat16* out,
                       cudaStream_t stream);

}  // namespace rasq::train::cuda
