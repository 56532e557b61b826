// Turns the streams of a step into the descriptors that the operations share: rows, chunks,
// segments, who leaves the window. Pure arithmetic on the host.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "engine/step.h"
#include "kernels/stream_batch.h"

namespace rasq {

// The streams of one layout, with or without StreamStep::key_weights: operations over streams run
// once a group. Indices in `chunks` and
// `segments` count within the group, but for rows; `first_*` say where the group's share of the
// step's arrays begins.
struct StepGroup {
  const StateLayout* layout = nullptr;
  bool weighs_keys = false;
  std::vector<StreamChunk> chunks;
  std::vector<StreamSegment> segments;
  std::vector<WritePolicy> write;  // [chunks]
  std::vector<ReadPolicy> read;    // [chunks]
  std::vector<int32_t> stream;     // [chunks]: which StreamStep
  int32_t num_staged = 0;
  int32_t num_entry_rows = 0;
  int32_t first_segment = 0;
  int32_t first_chunk = 0;
  int32_t first_staged = 0;
  int32_t first_entry = 0;
  int32_t first_store = 0;  // of segments whose layouts have a store
};

struct StepBatch {
  std::vector<StepGroup> groups;
  std::vector<int32_t> token;     // [rows]
  std::vector<uint8_t> pinned;    // [rows]
  std::vector<int32_t> last_row;  // [streams]: of each stream's last token
  int32_t num_segments = 0;
  int32_t num_chunks = 0;
  int32_t num_staged = 0;
  int32_t num_entry_rows = 0;
  int32_t num_store_segments = 0;
  int32_t max_chunk_staged = 0;

  int32_t num_rows() const { return static_cast<int32_t>(token.size()); }
};

StepBatch MakeStepBatch(absl::Span<const StreamStep> streams);

}  // namespace rasq
