// How well each entry of the memory answers what was just said: for each segment that begins,
//   score[j] = temperature * max_i <E_q,i , E_c,j>,   key[j] = score[j] + log g_j
// where i runs over the last `segment_rows` tokens before the segment (fewer at a stream's start).
// Entries that are not there for this segment have key -infinity. Source: algorithm.md 3.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/base/dtype.h"
#include "kernels/base/stream.h"
#include "kernels/base/thread_pool.h"
#include "kernels/entry_rows.h"
#include "kernels/stream_batch.h"

namespace rasq {

struct RetrievalScoresArgs {
  StreamBatch batch;
  StreamShape shape;
  int32_t index_dim;     // d_r
  DType element;         // of queries
  EntryType entry_type;  // of keys
  float temperature;     // tau
  int64_t
      query_ring_offset;  // in the state: [segment_rows, index_dim]; row position % segment_rows
  const void* query;      // [num_rows, index_dim]: the batch's own
  int64_t entry_index_offset;  // in the state: E_c of the slots, [capacity] rows of entry_rows.h
  const void* staged_index;    // E_c of the staged, [num_staged] such rows
  const int32_t* born;         // entry rows: see replace_entries.h
  const int32_t* died;
  const float* row_log_gate;
  float* score;    // [num_segments, stride]; column i is entry row first_entry + i of its chunk
  float* key;      // the same; rows of segments that do not begin are left alone
  int64_t stride;  // elements, >= capacity + the most staged rows of a chunk
};

absl::Status ValidateRetrievalScores(const RetrievalScoresArgs& args);
absl::Status RetrievalScoresCpu(const RetrievalScoresArgs& args, ThreadPool& pool);
absl::Status RetrievalScoresCuda(const RetrievalScoresArgs& args, Stream stream);

}  // namespace rasq
