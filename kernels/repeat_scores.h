// How much heads look back at repeats. In a stream of `period` tokens that repeats from position
// `first` on, the token at position i stood before at i - r * period, r = 1, 2, ..., from `first`
// on. For each row of a batch, at position i, and each query head,
//   echo       = sum_r P[i, i - r * period]
//   induction  = sum_r P[i, i - r * period + 1]: what came after the token when it stood there
// where P[i, j] = exp(q_i . k_j / sqrt(head_dim) - lse_i) are the attention weights of a
// StreamAttention call in which nothing has left the window. What RazorAttention finds its
// retrieval heads by. Source: Tang et al. 2024, arXiv:2407.15891, section 3.2 and figure 3.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/base/dtype.h"
#include "kernels/base/stream.h"
#include "kernels/base/thread_pool.h"
#include "kernels/stream_batch.h"

namespace rasq {

struct RepeatScores {
  float echo;
  float induction;
};

struct RepeatScoresArgs {
  StreamBatch batch;
  StreamShape shape;
  DType element;
  int32_t num_heads;  // a multiple of num_kv_heads
  int32_t num_kv_heads;
  int32_t head_dim;
  const void* q;          // [num_rows, num_heads, head_dim], rotated
  const void* k;          // [num_rows, num_kv_heads, head_dim], rotated
  int64_t ring_k_offset;  // in the state: [ring_rows, num_kv_heads, head_dim]
  const float* lse;       // [num_rows, num_heads]
  int64_t first;          // >= 0
  int64_t period;         // >= 1
  RepeatScores* out;      // [num_rows, num_heads]
};

absl::Status ValidateRepeatScores(const RepeatScoresArgs& args);
absl::Status RepeatScoresCpu(const RepeatScoresArgs& args, ThreadPool& pool);
absl::Status RepeatScoresCuda(const RepeatScoresArgs& args, Stream stream);

}  // namespace rasq
