#include "train/cuda/attention_parts.h"
#include "train/cuda/bf16_vector.cuh"

namespace rasq::train::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRowThreads = 8;  // of a query's row in a merge

// Block (x, y): vectors of segment x's window.
__global__ void __launch_bounds__(kThreads)
    GatherKernel(WindowShape shape, const __nv_bfloat16* tokens, __nv_bfloat16* windows) {
  const int64_t segment = blockIdx.x;
  const int32_t begin = shape.ends[segment], count = shape.ends[segment + 1] - begin;
  const int32_t vectors = shape.width / kVector;
  const int32_t i = blockIdx.y * kThreads + threadIdx.x;
  const int32_t row = i / vectors, column = i % vectors * kVector;
  if (row >= count) return;
  const int64_t token = segment * shape.segment - count + row;
  *reinterpret_cast<uint4*>(windows + int64_t{begin + row} * shape.width + column) =
      *reinterpret_cast<const uint4*>(tokens + token * shape.width + column);
}

// A thread a vector of a token, which stands in the windows of the segments behind its own.
__global__ void __launch_bounds__(kThreads)
    AddKernel(WindowShape shape, const __nv_bfloat16* windows, __nv_bfloat16* gradient) {
  const int32_t vectors = shape.width / kVector;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t token = i / vectors, column = i % vectors * kVector;
  const int64_t own = token / shape.segment;
  if (own >= shape.streams * shape.segments) return;
  const int64_t end = (own / shape.segments + 1) * shape.segments;  // of the stream
  Floats sum = Floats::Load(gradient + i * kVector);
  for (int64_t s = own + 1; s < end; ++s) {
    const int32_t begin = shape.ends[s], count = shape.ends[s + 1] - begin;
    const int64_t row = token - (s * shape.segment - count);
    if (row < 0) break;
    sum.Add(Floats::Load(windows + (begin + row) * shape.width + column), 1);
  }
  sum.Store(gradient + i * kVector);
}

__device__ float Exponential(float lse, float highest) {
  return isfinite(lse) ? __expf(lse - highest) : 0;
}

__device__ float Higher(float lse, float highest) {
  return isfinite(lse) ? fmaxf(lse, highest) : highest;
}

// kRowThreads threads a query.
__global__ void __launch_bounds__(kThreads)
    MergeKernel(MergeShape shape, AttentionParts parts, __nv_bfloat16* out) {
  const int heads = shape.kv_heads * shape.group;
  const int64_t query = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / kRowThreads;
  const bool there = query < shape.segments * shape.segment * heads;
  const int64_t head = query % heads, token = query / heads;  // of all streams
  const int64_t segment = token / shape.segment, t = token % shape.segment;
  const int64_t rows = int64_t{shape.segment} * shape.group;
  const int64_t row = t * shape.group + head % shape.group, kv_head = head / shape.group;
  const int64_t own_at = (segment * heads + head) * shape.segment + t;
  const int64_t memory_at = (segment * shape.kv_heads + kv_head) * rows + row;
  const int64_t window_at = (kv_head * shape.segments + segment) * rows + row;
  const int64_t vector_at = (segment * rows + row) * shape.kv_heads + kv_head;
  if (there) {
    const float none = -INFINITY;
    const float own = parts.own_lse[own_at];  // a query reads itself: finite
    const float memory = parts.memory == nullptr ? none : parts.memory_lse[memory_at];
    const float window = parts.window == nullptr ? none : parts.window_lse[window_at];
    const float highest = Higher(window, Higher(memory, own));
    const float sum =
        Exponential(own, highest) + Exponential(memory, highest) + Exponential(window, highest);
    const float lse = highest + __logf(sum);
    const float of_memory = Exponential(memory, lse), of_window = Exponential(window, lse);
    for (int at = threadIdx.x % kRowThreads * kVector; at < shape.head_dim;
         at += kRowThreads * kVector) {
      Floats all{};
      all.Add(Floats::Load(parts.own + query * shape.head_dim + at), Exponential(own, lse));
      if (of_memory > 0) {
        all.Add(Floats::Load(parts.memory + vector_at * shape.memory_width + at), of_memory);
      }
      if (of_window > 0) {
        all.Add(Floats::Load(parts.window + vector_at * shape.head_dim + at), of_window);
      }
      all.Store(out + query * shape.head_dim + at);
    }
    // The query's other threads have read theirs.
    __syncwarp(((1u << kRowThreads) - 1) << (threadIdx.x % 32 / kRowThreads * kRowThreads));
    if (threadIdx.x % kRowThreads == 0) {
      parts.own_lse[own_at] = lse;
      if (parts.memory != nullptr) parts.memory_lse[memory_at] = lse;
      if (parts.window != nullptr) parts.window_lse[window_at] = lse;
    }
  }
}

unsigned Blocks(int64_t threads) {
  return static_cast<unsigned>((threads + kThreads - 1) / kThreads);
}

}  // namespace

cudaError_t GatherWindows(const WindowShape& shape, const __nv_bfloat16* tokens,
                          __nv_bfloat16* windows, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(shape.streams * shape.segments),
                  Blocks(int64_t{shape.window} * shape.width / kVector));
  GatherKernel<<<grid, kThreads, 0, stream>>>(shape, tokens, windows);
  return cudaGetLastError();
}

cudaError_t AddWindows(const WindowShape& shape, const __nv_bfloat16* windows,
                       __nv_bfloat16* gradient, cudaStream_t stream) {
  const int64_t vectors = shape.streams * shape.segments * shape.segment * (shape.width / kVector);
  AddKernel<<<Blocks(vectors), kThreads, 0, stream>>>(shape, windows, gradient);
  return cudaGetLastError();
}

cudaError_t MergeParts(const MergeShape& shape, const AttentionParts& parts, __nv_bfloat16* out,
                       cudaStream_t stream) {
  const int64_t queries = shape.segments * shape.segment * shape.kv_heads * shape.group;
  MergeKernel<<<Blocks(queries * kRowThreads), kThreads, 0, stream>>>(shape, parts, out);
  return cudaGetLastError();
}

}  // namespace rasq::train::cuda
