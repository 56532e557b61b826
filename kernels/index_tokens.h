// What a retrieval layer keeps of each token: a query and a key of the retriever, of unit length,
// and at the first retrieval layer its write gate and its priority in the rotating buffer.
//   E_q = W_q h / |W_q h|, E_c = W_c h / |W_c h|, log g = log sigmoid(w_g h + b_g)
//   priority = log g + noise * Gumbel(seed, position) + position * log_growth
// or, for a stream that is to keep the newest (WritePolicy::by_age), priority = position. Pinned
// tokens have priority +infinity. Source: algorithm.md 2 and 3; Efraimidis and Spirakis 2006
// (weighted reservoir) for the noise, Cormode et al. 2009 (forward decay) for the growth.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/base/dtype.h"
#include "kernels/base/stream.h"
#include "kernels/base/thread_pool.h"
#include "kernels/entry_rows.h"
#include "kernels/stream_batch.h"

namespace rasq {

// How a chunk's stream ranks its tokens; one a chunk.
struct WritePolicy {
  double log_growth;    // ln(2) / half_life in tokens; 0: age does not matter
  double noise;         // 0: keep the most important; 1: sample in proportion to importance
  uint64_t seed;        // of the noise; the same seed and position give the same noise
  bool by_age = false;  // priority is the position alone
};

struct IndexTokensArgs {
  StreamBatch batch;
  const float* projected;     // [num_rows, projected_stride]: W_q h, W_c h, then w_g h if has_gate
  int64_t projected_stride;   // elements, >= 2 * index_dim + has_gate
  int32_t index_dim;          // d_r
  bool has_gate;              // the first retrieval layer; else the outputs below it are left alone
  float gate_bias;            // b_g
  void* query;                // [num_rows, index_dim], of `element`
  void* key;                  // [num_rows] rows of entry_rows.h, a vector of index_dim each
  DType element;              //
  EntryType entry_type;       // of keys: only entries' are ever read
  const uint8_t* pinned;      // [num_rows]: 1 for pinned tokens
  const WritePolicy* policy;  // [batch.num_chunks]
  float* log_gate;            // [num_rows]
  double* priority;           // [num_rows]
};

absl::Status ValidateIndexTokens(const IndexTokensArgs& args);
// A vector of length zero stays zero.
absl::Status IndexTokensCpu(const IndexTokensArgs& args, ThreadPool& pool);
absl::Status IndexTokensCuda(const IndexTokensArgs& args, Stream stream);

}  // namespace rasq
