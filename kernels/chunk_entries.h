// Grouped cross attention over chunks that have left the window, on a model that was not trained
// for it: the tokens at positions [kChunkRows * c, kChunkRows * (c + 1)) are chunk c, its keys and
// values are those that the layer's own attention had, and its landmark is the mean of its keys. A
// chunk of which the end is still in the window counts with what has left. When a segment begins,
// each kv head scores its chunks by the mean query of the segment before,
//   r_c = <mean over the segment's tokens and the kv head's query heads of q, landmark_c> /
//         sqrt(head_dim)
// and the segment reads the read_chunks with the highest r_c, of equal ones the newer, each as a
// block of its own softmax (StreamAttentionArgs::fused_weight), weighted by
//   w_c = softmax of r over those that are read.
// In a store of `chunks` chunks that one makes room for a new one that has the lowest sum of w_c so
// far, of equal ones the oldest: a bound that the publication does not have.
// Source: Hu et al. 2024, arXiv:2410.01651, section 3. There landmarks, the queries' projection and
// the chunks' encoder are trained, and one retrieval serves all heads of several layers.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/base/stream.h"
#include "kernels/base/thread_pool.h"
#include "kernels/head_lists.h"
#include "kernels/stream_attention.h"

namespace rasq {

inline constexpr int32_t kChunkRows = kFusedRows;
inline constexpr int32_t kMaxReadChunks = 64;

// Offsets of arrays in the state, of each kv head and chunk of the store; zeroes: an empty store.
struct ChunkTable {
  int64_t number;   // int32 [num_kv_heads, chunks]: c + 1; 0: empty
  int64_t key_sum;  // float [num_kv_heads, chunks, head_dim]
  int64_t used;     // float [num_kv_heads, chunks]: the sum of w so far
  // What the open segment reads: int32 [num_kv_heads], int32 and float [num_kv_heads, read_chunks].
  int64_t read_count;
  int64_t read_chunk;  // by their number
  int64_t read_weight;
  // Of the open segment's queries so far: float [num_kv_heads, head_dim] and int32 [num_kv_heads].
  int64_t query_sum;
  int64_t query_count;
};

struct ChunkEntriesArgs {
  HeadStore store;  // capacity: num_kv_heads * chunks * kChunkRows
  int32_t chunks;   // of a kv head in the store
  int32_t read_chunks;
  ChunkTable table;
  float* score;         // [num_segments, num_kv_heads, chunks], for the operation's own use
  HeadLists lists;      // whole blocks; bias -infinity where a chunk has no token
  float* fused_weight;  // [num_segments, num_kv_heads, max_selected / kChunkRows]
};

absl::Status ValidateChunkEntries(const ChunkEntriesArgs& args);
// Before a layer attends: keeps what leaves, and chooses for segments that begin.
absl::Status ChunkEntriesCpu(const ChunkEntriesArgs& args, ThreadPool& pool);
absl::Status ChunkEntriesCuda(const ChunkEntriesArgs& args, Stream stream);

// Adds the batch's queries to their segments' sums, in order of position.
struct ChunkQueriesArgs {
  StreamBatch batch;  // chunks of one segment each
  DType element;
  int32_t num_heads;  // a multiple of num_kv_heads
  int32_t num_kv_heads;
  int32_t head_dim;
  const void* q;  // [num_rows, num_heads, head_dim]
  ChunkTable table;
};

absl::Status ValidateChunkQueries(const ChunkQueriesArgs& args);
absl::Status ChunkQueriesCpu(const ChunkQueriesArgs& args, ThreadPool& pool);
absl::Status ChunkQueriesCuda(const ChunkQueriesArgs& args, Stream stream);

}  // namespace rasq
