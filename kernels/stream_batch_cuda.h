// Where a token's row is found, on the device: the CUDA twin of stream_batch_cpu.h.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/stream_batch.h"
#include "kernels/stream_batch_parts.h"

namespace rasq {

// The last of the chunks whose `first` is not behind `row`; chunks are in that order.
__device__ inline int32_t LastChunk(const StreamBatch& batch, int32_t StreamChunk::*first,
                                    int64_t row) {
  int32_t low = 0, high = batch.num_chunks - 1;
  while (low < high) {
    const int32_t middle = (low + high + 1) / 2;
    if (batch.chunks[middle].*first <= row) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

// The chunk of a row of the batch, if it has one.
__device__ inline int32_t ChunkOfRow(const StreamBatch& batch, int64_t row) {
  return LastChunk(batch, &StreamChunk::first_row, row);
}

// The chunk of a staging row; chunks without leaving tokens share their first_staged with the next.
__device__ inline int32_t ChunkOfStaged(const StreamBatch& batch, int64_t staged) {
  return LastChunk(batch, &StreamChunk::first_staged, staged);
}

// Padding stands at the end of a batch whose size was rounded up; it has no stream.
__device__ inline bool IsPadding(const StreamChunk& chunk) { return chunk.state == nullptr; }

// The row of the token at `position` of the chunk's stream: from its ring in the state, or from the
// batch's own array. Rows are `row_bytes` long.
__device__ inline const std::byte* TokenRow(const StreamChunk& chunk, int64_t ring_offset,
                                            int32_t ring_rows, const void* own, int64_t position,
                                            int64_t row_bytes) {
  if (position < chunk.first_position) {
    return chunk.state + ring_offset + (position % ring_rows) * row_bytes;
  }
  return static_cast<const std::byte*>(own) +
         (chunk.first_row + position - chunk.first_position) * row_bytes;
}

}  // namespace rasq
