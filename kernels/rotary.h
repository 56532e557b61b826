// Rotary position embedding on half-split pairs, and what happens to queries, keys and values
// between their projection and attention: bias, per-head norm, rotation.
// Source: Su et al. 2021, arXiv:2104.09864; pairs (i, i + head_dim/2) as in Llama; per-head norm of
// queries and keys as in Qwen3.
//
// A rotation by `position` is a row of head_dim floats: cos(position * inv_freq[i]) for
// i < head_dim/2, then the sines. Angles are computed in double: positions reach 10^9.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/base/dtype.h"
#include "kernels/base/stream.h"
#include "kernels/base/thread_pool.h"
#include "kernels/stream_batch.h"

namespace rasq {

// The rotations that one batch needs.
struct RotationTableArgs {
  StreamBatch batch;
  StreamShape shape;
  const double* inv_freq;  // [head_dim / 2]
  int32_t head_dim;        // even, >= 2
  float* row;              // [batch.num_rows, head_dim]: at each row's own position
  float* memory;           // [batch.num_segments, head_dim]: at start - window_rows - 1, where all
                           // of a segment's selected memory stands (may be negative)
  float* sink;             // [batch.num_segments, sink_rows, head_dim]: sink j at
                           // start - window_rows - memory_span - sink_rows + j
  float* staged;           // [batch.num_staged, head_dim]: at each leaving token's position
};
absl::Status ValidateRotationTable(const RotationTableArgs& args);
// Fills the rows of the batch's chunks and leaves others as they are.
absl::Status RotationTableCpu(const RotationTableArgs& args, ThreadPool& pool);
absl::Status RotationTableCuda(const RotationTableArgs& args, Stream stream);

struct RotaryArgs {
  const float* qkv;       // [rows, (num_heads + 2 * num_kv_heads) * head_dim]: q, k, v
  const float* bias;      // the same width, added first; null: none
  const float* q_norm;    // [head_dim], RMS norm of each head; null: none
  const float* k_norm;    // [head_dim]; null: none
  const float* rotation;  // [rows, head_dim]
  void* q;                // [rows, num_heads, head_dim], of `element`, rotated
  void* k;                // [rows, num_kv_heads, head_dim], of `element`, rotated
  void* v;                // [rows, num_kv_heads, head_dim], of `element`
  DType element;          //
  int64_t rows;           // >= 0
  int32_t num_heads;      // a multiple of num_kv_heads
  int32_t num_kv_heads;   // >= 1
  int32_t head_dim;       // even, >= 2
  float epsilon;          // of the norms; > 0
};
absl::Status ValidateRotary(const RotaryArgs& args);
absl::Status RotaryCpu(const RotaryArgs& args, ThreadPool& pool);
absl::Status RotaryCuda(const RotaryArgs& args, Stream stream);

}  // namespace rasq
