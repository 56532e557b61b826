// Which rows of a batch belong to which stream and segment: the descriptor that every operation
// over streams shares.
//
// A batch is a set of tokens, one row each, of one or more streams. The rows of one stream are
// consecutive positions, and form a chunk. A chunk is cut into segments (design: a segment is at
// most `segment_rows` tokens; all its tokens read the same memory, chosen when it begins). The
// first segment of a chunk may have begun in an earlier batch, the last may go on in a later one.
//
// Between batches a stream lives in its state, one slab of bytes whose parts are found by offsets
// that are the same for every stream of the batch. It holds, among others, rings: row
// `position % ring_rows` belongs to the token at `position`. So a token at `position` before the
// chunk is found in a ring of the state, and one inside the chunk in the batch's own arrays, at row
// `first_row + position - first_position`. The rings take a chunk's rows when its layer is done
// (copy_rows.h).
//
// On a GPU a batch may be padded, so that recorded work of one size serves batches up to it: chunks
// without a state at the end, each with a row and a segment of its own, and `num_staged` as an
// upper bound. Nothing is read or written for padding but its rows of token arrays.
//
// Tokens leave the window when a segment begins that starts far enough behind them. Those that
// leave during this batch get rows of the staging arrays, in order of position, and become
// candidate entries: see replace_entries.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rasq {

struct StreamChunk {
  std::byte* state;        // the stream's slab; null: padding
  int64_t first_position;  // of its first row; >= 0
  int32_t first_row;       // in the batch's token arrays
  int32_t num_rows;        // >= 1
  int32_t first_segment;   // in StreamBatch::segments
  int32_t num_segments;    // >= 1
  int64_t leave_begin;     // positions [leave_begin, leave_end) leave the window in this batch
  int64_t leave_end;       // >= leave_begin
  int32_t first_staged;    // staging row of leave_begin
  int32_t first_entry;     // first row of this chunk's entry arrays (replace_entries.h)
};

struct StreamSegment {
  int32_t chunk;      // in StreamBatch::chunks
  int32_t first_row;  // of the segment's part in this batch
  int32_t num_rows;   // 1..segment_rows
  int32_t begins;     // 1 if its first token is in this batch: then its memory is chosen anew
  int64_t start;      // position of its first token, in this batch or an earlier one
};

// Borrowed arrays (device memory for CUDA).
struct StreamBatch {
  const StreamChunk* chunks;
  const StreamSegment* segments;
  int32_t num_chunks;
  int32_t num_segments;
  int32_t num_rows;    // tokens of the batch's arrays; chunks cover some or all of them
  int32_t num_staged;  // staging rows of all chunks, or more
};

// The shape of streams' memory, in tokens; equal for all streams of a batch.
struct StreamShape {
  int32_t window_rows;   // W: a segment that starts at p reads [p - W, p) exactly
  int32_t segment_rows;  // s
  int32_t sink_rows;     // first tokens of the stream, read for ever
  int32_t capacity;      // L: entries of the compressed memory; 0: no memory
  int32_t max_selected;  // most entries that one segment may read
  int32_t memory_span;   // positions that selected memory is taken to fill: sinks stand before it
  int32_t ring_rows;     // window_rows + segment_rows
};

}  // namespace rasq
