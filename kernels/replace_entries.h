// The rotating buffer's walk: which entries live when each segment begins. The L candidates of
// highest priority survive; a new one takes the slot of the one that falls out. Works on the table
// of entries alone (positions, priorities), in order of position, so the result of many segments at
// once is the result of one after another. Source: algorithm.md 2.
//
// Candidates are the tokens that leave the window, but for sinks: positions < sink_rows never
// enter. Between equal priorities the older entry stays.
//
// Entry rows: for a chunk that has a beginning segment, row first_entry + i is slot i of the buffer
// as it was before the batch (i < capacity), and row first_entry + capacity + i is the chunk's i-th
// staged token. The entry is there to be read by the chunk's j-th segment if
//   born[row] <= j < died[row].
// Chunks in which no segment begins have no entry rows and are left alone.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/base/stream.h"
#include "kernels/base/thread_pool.h"
#include "kernels/stream_batch.h"

namespace rasq {

struct ReplaceEntriesArgs {
  StreamBatch batch;
  StreamShape shape;
  // The table of entries, in the state: read, then brought to the end of the batch.
  int64_t position_offset;  // int64 [capacity], -1: the slot is empty
  int64_t priority_offset;  // double [capacity]
  int64_t log_gate_offset;  // float [capacity]
  int64_t token_offset;     // int32 [capacity]; carried along for evidence
  // Of the leaving tokens (copy_rows.h staged them).
  const double* staged_priority;  // [num_staged]
  const float* staged_log_gate;   // [num_staged]
  const int32_t* staged_token;    // [num_staged]
  // Results.
  int32_t* born;          // [entry rows]
  int32_t* died;          // [entry rows]; INT32_MAX: alive at the end of the batch
  int64_t* row_position;  // [entry rows]; -1 for a slot that was empty
  float* row_log_gate;    // [entry rows]
  int32_t* row_token;     // [entry rows]
  int32_t* slot;          // [num_staged]: where it lives after the batch; -1: it does not
  int32_t*
      num_replaced;  // [num_chunks]: entries that fell out to make room (not: into empty slots)
};

absl::Status ValidateReplaceEntries(const ReplaceEntriesArgs& args);
absl::Status ReplaceEntriesCpu(const ReplaceEntriesArgs& args, ThreadPool& pool);
absl::Status ReplaceEntriesCuda(const ReplaceEntriesArgs& args, Stream stream);

}  // namespace rasq
