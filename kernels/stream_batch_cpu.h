// What the CPU operations over streams share: checks of a batch, and where a token's row is found.
// Private to kernels/.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "kernels/stream_batch.h"
#include "kernels/stream_batch_parts.h"

namespace rasq {

// The scalars of a batch and a shape, and that its arrays are there; reads none of them, so that it
// serves every backend.
absl::Status ValidateBatch(absl::string_view op, const StreamBatch& batch);
absl::Status ValidateShape(absl::string_view op, const StreamShape& shape);

// The arrays: chunks and segments lie inside the batch and fit each other; with a shape, segments
// also fit it. kInvalidArgument names the chunk or segment.
absl::Status CheckBatchContents(absl::string_view op, const StreamBatch& batch);
absl::Status CheckBatchContents(absl::string_view op, const StreamBatch& batch,
                                const StreamShape& shape);

// A run of tokens that lie behind each other, in a ring or in the batch's arrays.
struct TokenSpan {
  bool in_ring;
  int64_t row;     // of the first, in the ring or in the batch's arrays
  int64_t offset;  // of the first, from the first token asked for
  int64_t num_rows;
};

// Calls body(span) for the runs that make up positions [begin, end) of the chunk's stream.
template <typename Body>
void ForTokenSpans(const StreamChunk& chunk, int64_t begin, int64_t end, int64_t ring_rows,
                   const Body& body) {
  int64_t position = begin;
  while (position < end) {
    TokenSpan span{.in_ring = position < chunk.first_position,
                   .row = position - chunk.first_position + chunk.first_row,
                   .offset = position - begin,
                   .num_rows = end - position};
    if (span.in_ring) {
      span.row = position % ring_rows;
      span.num_rows =
          std::min({span.num_rows, chunk.first_position - position, ring_rows - span.row});
    }
    body(span);
    position += span.num_rows;
  }
}

}  // namespace rasq
