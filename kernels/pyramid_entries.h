// PyramidKV's cache, behind the window: a budget for each layer that falls from the first to the
// last, and in each kv head so many of the tokens that have left the window as the last queries
// looked at most. The rows of a kv head that are in use stand in a list, by position; it grows by
// what leaves the window, and when it is chosen anew, from what is in it and what leaves in this
// batch,
//   weight_j = sum over the last num_queries queries of the mean over the kv head's query heads of
//              exp(q . k_j / sqrt(head_dim) - lse)
//   pooled_j = max of the weights from j - pool_rows / 2 to j + pool_rows / 2, in the list's order
// the `budget` tokens with the highest pooled_j stay; between equal ones that with the higher
// weight, then the newer. What is not chosen never returns. Queries are those before the batch, so
// what a segment reads does not depend on how it is cut.
// Source: Cai et al. 2024, arXiv:2406.02069, section 4, and Li et al. 2024, arXiv:2404.14469
// (SnapKV), section 4. There the observation window of w tokens alone is kept beside the budget;
// here it is the window that all strategies read, of which the last num_queries tokens observe.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/base/host_device.h"
#include "kernels/base/stream.h"
#include "kernels/base/thread_pool.h"
#include "kernels/head_lists.h"

namespace rasq {

// Entries of a layer's kv head beside a window of window_rows, for a mean of mean_tokens a layer,
// the window's among them, after so many tokens: all while they fit in the mean; the same for each
// layer up to twice what the mean leaves beside the window; then from the first layer's 2 - 1 /
// beta parts of that in even steps to the last layer's 1 / beta.
RASQ_HOST_DEVICE inline int64_t PyramidBudget(int64_t mean_tokens, int64_t window_rows,
                                              int64_t beta, int64_t layer, int64_t num_layers,
                                              int64_t tokens) {
  const int64_t behind = tokens > window_rows ? tokens - window_rows : 0;
  const int64_t mean = mean_tokens > window_rows ? mean_tokens - window_rows : 0;
  if (tokens < mean_tokens) return behind;
  if (tokens < 2 * mean) return mean;
  int64_t least = mean / beta;
  int64_t most = 2 * mean - least;
  if (most >= behind) {  // the first layer cannot keep more than there is
    most = behind;
    least = 2 * mean - most;
  }
  if (num_layers < 2) return mean;
  return most - ((most - least) * layer + (num_layers - 1) / 2) / (num_layers - 1);
}

struct PyramidEntriesArgs {
  HeadStore store;      // capacity: num_kv_heads * rows
  int32_t num_heads;    // a multiple of num_kv_heads
  int32_t rows;         // of a kv head in the store
  int32_t num_queries;  // 1..window_rows
  int32_t pool_rows;    // odd
  // In the state: rings of the last queries and what they were divided by, row position %
  // num_queries: [num_queries, num_heads, head_dim] and float [num_queries, num_heads].
  int64_t query_offset;
  int64_t lse_offset;
  // In the state: int32 [num_kv_heads, rows], a permutation of a kv head's rows, those in use
  // first; and int32 [num_kv_heads], how many these are. Not read before something has left.
  int64_t order_offset;
  int64_t count_offset;
  // [num_chunks]: how many may stay of the chunk's lists; what is negative is not chosen anew.
  const int32_t* budget;
  // For the operation's own use: [num_segments, num_kv_heads, rows + segment_rows] each.
  float* weight;
  int32_t* scratch;
  HeadLists lists;  // bias 0
};

absl::Status ValidatePyramidEntries(const PyramidEntriesArgs& args);
absl::Status PyramidEntriesCpu(const PyramidEntriesArgs& args, ThreadPool& pool);
absl::Status PyramidEntriesCuda(const PyramidEntriesArgs& args, Stream stream);

}  // namespace rasq
