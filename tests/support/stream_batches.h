// Batches of streams for tests, from a short description of their chunks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "kernels/stream_batch.h"

namespace rasq {

struct ChunkSpec {
  int64_t first_position;
  std::vector<int32_t> segment_rows;  // of the parts that are in the batch
  int64_t first_start = -1;  // where the first segment began, if that was before this batch
  int64_t leave_begin = 0;   // of leave_begin..leave_end; the end follows from the last segment
};

// Owns the arrays of a StreamBatch. Rows, segments, staged rows and entry rows follow each other.
class BatchBuilder {
 public:
  explicit BatchBuilder(const StreamShape& shape) : shape_(shape) {}

  void Add(const ChunkSpec& spec, std::byte* state) {
    StreamChunk c{.state = state,
                  .first_position = spec.first_position,
                  .first_row = num_rows_,
                  .num_rows = 0,
                  .first_segment = static_cast<int32_t>(segments_.size()),
                  .num_segments = static_cast<int32_t>(spec.segment_rows.size()),
                  .leave_begin = spec.leave_begin,
                  .leave_end = spec.leave_begin,
                  .first_staged = num_staged_,
                  .first_entry = num_entries_};
    bool begins = spec.first_start < 0;
    int64_t start = begins ? spec.first_position : spec.first_start;
    for (const int32_t rows : spec.segment_rows) {
      segments_.push_back({.chunk = static_cast<int32_t>(chunks_.size()),
                           .first_row = num_rows_ + c.num_rows,
                           .num_rows = rows,
                           .begins = begins ? 1 : 0,
                           .start = start});
      if (begins) c.leave_end = std::max(c.leave_end, start - shape_.window_rows);
      c.num_rows += rows;
      begins = true;
      start = spec.first_position + c.num_rows;
    }
    num_rows_ += c.num_rows;
    num_staged_ += static_cast<int32_t>(c.leave_end - c.leave_begin);
    num_entries_ += shape_.capacity + static_cast<int32_t>(c.leave_end - c.leave_begin);
    chunks_.push_back(c);
  }

  // Borrows from this.
  StreamBatch Batch() const {
    return {.chunks = chunks_.data(),
            .segments = segments_.data(),
            .num_chunks = static_cast<int32_t>(chunks_.size()),
            .num_segments = static_cast<int32_t>(segments_.size()),
            .num_rows = num_rows_,
            .num_staged = num_staged_};
  }
  std::vector<StreamChunk>& chunks() { return chunks_; }
  std::vector<StreamSegment>& segments() { return segments_; }
  int32_t num_entries() const { return num_entries_; }

 private:
  const StreamShape shape_;
  std::vector<StreamChunk> chunks_;
  std::vector<StreamSegment> segments_;
  int32_t num_rows_ = 0;
  int32_t num_staged_ = 0;
  int32_t num_entries_ = 0;
};

}  // namespace rasq
