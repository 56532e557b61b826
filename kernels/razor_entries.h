// RazorAttention's cache, behind the window. Of the e tokens that have left it when a segment
// begins at p = e + window_rows, a kv head keeps
//   the first sink_rows of the stream,
//   the newest from position lo on,
//   and, if it is not a retrieval head, one compensation token in place of the others, those at
//   [sink_rows, lo): the mean of their (rotated) keys and the mean of their values, read with bias
//   log(lo - sink_rows), which weighs it as often as there are tokens in it.
// lo = e - retrieval_rows for retrieval heads, and for the others that which leaves the newest
// max(local_tokens, p / compression) of all tokens, the window's among them; 0 <= lo <= e.
// So retrieval heads whose retrieval_rows hold the whole stream keep everything, as published; with
// fewer they are first in, first out, the bounded form that the paper does not have.
// Source: Tang et al. 2024, arXiv:2407.15891, section 3.3 and equations 5 and 6.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/base/host_device.h"
#include "kernels/base/stream.h"
#include "kernels/base/thread_pool.h"
#include "kernels/head_lists.h"

namespace rasq {

inline constexpr int32_t kMaxRazorHeads = 64;  // kv heads of a layer

struct RazorPolicy {
  int32_t sink_rows;         // N0
  int32_t retrieval_rows;    // rows of a retrieval head beside its sinks
  int32_t local_rows;        // of another: at least as many as it may keep
  int32_t local_tokens;      // S0
  int32_t compression;       // C; 0: the local length does not grow with the stream
  uint64_t retrieval_heads;  // bit h: kv head h is one
};

// The rows of a kv head in the store: its sinks, its newest by position % rows, and behind them
// one for the compensation token if it is no retrieval head.
struct RazorRows {
  int64_t first;
  int64_t rows;    // of the newest
  bool retrieves;  // a retrieval head
};

RASQ_HOST_DEVICE inline RazorRows RazorRowsOf(const RazorPolicy& policy, int32_t kv_head) {
  RazorRows at{0, 0, false};
  for (int32_t h = 0; h <= kv_head; ++h) {
    if (h > 0) at.first += policy.sink_rows + at.rows + (at.retrieves ? 0 : 1);
    at.retrieves = (policy.retrieval_heads >> h & 1) != 0;
    at.rows = at.retrieves ? policy.retrieval_rows : policy.local_rows;
  }
  return at;
}

// Rows of all kv heads together.
inline int64_t NumRazorRows(const RazorPolicy& policy, int32_t num_kv_heads) {
  const RazorRows last = RazorRowsOf(policy, num_kv_heads - 1);
  return last.first + policy.sink_rows + last.rows + (last.retrieves ? 0 : 1);
}

// lo of a head when so many tokens have left a window of window_rows.
RASQ_HOST_DEVICE inline int64_t RazorFirstKept(const RazorPolicy& policy, bool retrieves,
                                               int64_t left, int64_t window_rows) {
  int64_t kept = policy.retrieval_rows;
  if (!retrieves) {
    kept = policy.local_tokens;
    const int64_t position = left + window_rows;
    if (policy.compression > 0 && position / policy.compression > kept) {
      kept = position / policy.compression;
    }
    kept -= window_rows;
  }
  if (kept < 0) kept = 0;
  return left > kept ? left - kept : 0;
}

// The row of the token at `position`, which is a sink or among the newest.
RASQ_HOST_DEVICE inline int64_t RazorRowOf(const RazorPolicy& policy, const RazorRows& at,
                                           int64_t position) {
  if (position < policy.sink_rows) return at.first + position;
  return at.first + policy.sink_rows + (position - policy.sink_rows) % at.rows;
}

struct RazorEntriesArgs {
  HeadStore store;
  RazorPolicy policy;
  // In the state: double [num_kv_heads, head_dim], the means of what the compensation token stands
  // for; they are not read before something has been folded into them.
  int64_t mean_k_offset;
  int64_t mean_v_offset;
  HeadLists lists;  // bias 0 but for the compensation token, which is the last of its list
};

absl::Status ValidateRazorEntries(const RazorEntriesArgs& args);
// Folds and keeps what leaves the window in this batch, and lists what each head then reads. Means
// are summed in double in order of position, so they do not depend on the batch.
absl::Status RazorEntriesCpu(const RazorEntriesArgs& args, ThreadPool& pool);
absl::Status RazorEntriesCuda(const RazorEntriesArgs& args, Stream stream);

}  // namespace rasq
