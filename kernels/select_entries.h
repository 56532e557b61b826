// Exact top-k of the retrieval keys with a budget of its own for each segment.
//   k = clamp(round(budget * factor * (1 + gain * c)), 1, max_selected),
//   c = entropy(softmax(key)) / log(live entries), in [0, 1]; factor: budget_head.h, or 1
// The k live entries of highest key are selected, but for those with key < floor, and stand in
// order of position. Between equal keys the newer entry wins. Source: algorithm.md 3.
//
// A stream that is to read without the retriever (ReadPolicy::newest) gets the newest `budget` live
// entries whatever their keys, with scores of 0, so that they add nothing to logits.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/base/stream.h"
#include "kernels/base/thread_pool.h"
#include "kernels/stream_batch.h"

namespace rasq {

// How much a chunk's stream may read; one a chunk.
struct ReadPolicy {
  int32_t budget;       // b0 in tokens, >= 1
  float gain;           // alpha >= 0; 0: k is the budget
  float floor;          // -infinity: none
  bool newest = false;  // the newest `budget` entries, without score: gain, floor, factor unused
};

// The selected entries of each segment: arrays [num_segments, max_selected].
struct SelectedEntries {
  int32_t* count;     // [num_segments]
  int32_t* row;       // < capacity: a slot; else capacity + the chunk's staged row
  float* score;       // without the gate
  float* log_gate;    //
  int64_t* position;  // ascending
};

// Where the selection of the segment that is open lives in the state; one a retrieval layer.
struct SelectionOffsets {
  int64_t count;     // int32
  int64_t row;       // int32 [max_selected]
  int64_t score;     // float [max_selected]
  int64_t log_gate;  // float [max_selected]
  int64_t position;  // int64 [max_selected]
};

struct SelectEntriesArgs {
  StreamBatch batch;
  StreamShape shape;
  const float* score;  // [num_segments, stride], from retrieval_scores.h
  const float* key;
  int64_t stride;
  const int64_t* row_position;  // entry rows: see replace_entries.h
  const float* row_log_gate;
  const int32_t* slot;       // [num_staged]
  const ReadPolicy* policy;  // [num_chunks]
  const float* factor;       // [num_segments] of those that begin; null: 1
  int32_t* budget;           // [num_segments]: k of those that begin; null: not told
  SelectionOffsets state;  // segments that do not begin take theirs from here; the last segment of
                           // each chunk leaves its own here, staged rows by the slot they got
  SelectedEntries selected;
};

absl::Status ValidateSelectEntries(const SelectEntriesArgs& args);
absl::Status SelectEntriesCpu(const SelectEntriesArgs& args, ThreadPool& pool);
absl::Status SelectEntriesCuda(const SelectEntriesArgs& args, Stream stream);

}  // namespace rasq
