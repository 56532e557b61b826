// How much a segment that begins may read, by what was just said: a categorical head over factors
// of the budget on the pooled query of the retriever,
//   logits = W_b mean_i E_q,i + b_b,   factor = factors[argmax logits],
// where i runs over the last `segment_rows` tokens before the segment (fewer at a stream's start;
// with none the mean is zero), and between equal logits the first wins. select_entries.h multiplies
// the budget by it. Source: algorithm.md 3 and 7.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/base/dtype.h"
#include "kernels/base/stream.h"
#include "kernels/base/thread_pool.h"
#include "kernels/stream_batch.h"

namespace rasq {

inline constexpr int32_t kMaxBudgetFactors = 32;

struct BudgetHeadArgs {
  StreamBatch batch;
  StreamShape shape;
  int32_t index_dim;    // d_r
  int32_t num_factors;  // 1..kMaxBudgetFactors
  DType element;        // of queries
  int64_t
      query_ring_offset;  // in the state: [segment_rows, index_dim]; row position % segment_rows
  const void* query;      // [num_rows, index_dim]: the batch's own
  const float* weight;    // W_b [num_factors, index_dim]
  const float* bias;      // b_b [num_factors]
  const float* factors;   // [num_factors]
  float* factor;          // [num_segments]; of segments that do not begin, left alone
};

absl::Status ValidateBudgetHead(const BudgetHeadArgs& args);
// Sums are in float32 in order of position, so that a segment's logits do not depend on where its
// queries lie.
absl::Status BudgetHeadCpu(const BudgetHeadArgs& args, ThreadPool& pool);
absl::Status BudgetHeadCuda(const BudgetHeadArgs& args, Stream stream);

}  // namespace rasq
