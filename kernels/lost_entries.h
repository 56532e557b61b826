// What follows from a chunk's entry rows about who is lost, for the processor and the GPU alike.
// Private to kernels/.
#pragma once

#include <climits>
#include <cstdint>

#include "kernels/base/host_device.h"
#include "kernels/stream_batch.h"
#include "kernels/summarize_entries.h"

namespace rasq {

// Which of the chunk's segments loses its entry row of that number; -1: none, since it lives, or
// there never was an entry or candidate in it.
RASQ_HOST_DEVICE inline int32_t LosingSegment(const LoseEntriesArgs& a, const StreamChunk& c,
                                              int64_t row) {
  const int64_t position = a.row_position[c.first_entry + row];
  const int32_t died = a.died[c.first_entry + row];
  if (died == INT32_MAX || position < 0) return -1;
  if (row < a.shape.capacity) return died;
  if (position < a.shape.sink_rows) return -1;
  // The first segment behind whose window the token is. There it was refused, or it entered and
  // fell out in that segment or a later one.
  const StreamSegment* segments = a.batch.segments + c.first_segment;
  int32_t low = 0, high = c.num_segments - 1;
  while (low < high) {
    const int32_t middle = (low + high) / 2;
    if (position < segments[middle].start - a.shape.window_rows) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low > died ? low : died;
}

// The place in the sequence of staged rows of slot 0 of a segment.
RASQ_HOST_DEVICE inline int64_t FirstSummaryRow(const StreamBatch& batch, int32_t num_summaries,
                                                int64_t segment) {
  return batch.num_staged + segment * num_summaries;
}

}  // namespace rasq
