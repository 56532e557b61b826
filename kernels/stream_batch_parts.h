// What follows from a batch's descriptors, for the processor and the GPU alike. Private to
// kernels/.
#pragma once

#include <cstdint>

#include "kernels/base/host_device.h"
#include "kernels/stream_batch.h"

namespace rasq {

// Position of a segment's first token of this batch.
RASQ_HOST_DEVICE inline int64_t FirstPosition(const StreamChunk& chunk,
                                              const StreamSegment& segment) {
  return chunk.first_position + (segment.first_row - chunk.first_row);
}

RASQ_HOST_DEVICE inline int64_t NumLeaving(const StreamChunk& chunk) {
  return chunk.leave_end - chunk.leave_begin;
}

// Whether one of the chunk's segments begins in this batch: only the first may not.
RASQ_HOST_DEVICE inline bool HasBeginning(const StreamBatch& batch, const StreamChunk& chunk) {
  return chunk.num_segments > 1 || batch.segments[chunk.first_segment].begins != 0;
}

}  // namespace rasq
