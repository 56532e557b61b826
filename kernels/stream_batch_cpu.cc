#include "kernels/stream_batch_cpu.h"

#include "absl/strings/str_cat.h"
#include "kernels/base/check_args.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

absl::Status Bad(absl::string_view op, absl::string_view what, int64_t index,
                 absl::string_view field, int64_t value) {
  return absl::InvalidArgumentError(
      absl::StrCat(op, ": ", what, " ", index, ": ", field, "=", value));
}

absl::Status CheckChunk(absl::string_view op, const StreamBatch& batch, int32_t index) {
  const StreamChunk& c = batch.chunks[index];
  const auto bad = [&](absl::string_view field, int64_t value) {
    return Bad(op, "chunk", index, field, value);
  };
  if (c.state == nullptr) return bad("state", 0);
  if (c.first_position < 0) return bad("first_position", c.first_position);
  if (c.first_row < 0 || c.first_row > batch.num_rows) return bad("first_row", c.first_row);
  if (c.num_rows < 1 || c.num_rows > batch.num_rows - c.first_row) {
    return bad("num_rows", c.num_rows);
  }
  if (c.first_segment < 0 || c.first_segment > batch.num_segments) {
    return bad("first_segment", c.first_segment);
  }
  if (c.num_segments < 1 || c.num_segments > batch.num_segments - c.first_segment) {
    return bad("num_segments", c.num_segments);
  }
  if (NumLeaving(c) < 0) return bad("leave_end", c.leave_end);
  if (NumLeaving(c) > 0) {
    if (c.leave_begin < 0) return bad("leave_begin", c.leave_begin);
    if (c.leave_end > c.first_position + c.num_rows) return bad("leave_end", c.leave_end);
  }
  if (c.first_staged < 0 || NumLeaving(c) > batch.num_staged - c.first_staged) {
    return bad("first_staged", c.first_staged);
  }
  if (c.first_entry < 0) return bad("first_entry", c.first_entry);
  return absl::OkStatus();
}

// Segments of one chunk: they cut its rows, and all but the first begin where they stand.
absl::Status CheckSegments(absl::string_view op, const StreamBatch& batch, int32_t chunk_index) {
  const StreamChunk& c = batch.chunks[chunk_index];
  int64_t row = c.first_row;
  for (int32_t i = c.first_segment; i < c.first_segment + c.num_segments; ++i) {
    const StreamSegment& s = batch.segments[i];
    const auto bad = [&](absl::string_view field, int64_t value) {
      return Bad(op, "segment", i, field, value);
    };
    if (s.chunk != chunk_index) return bad("chunk", s.chunk);
    if (s.first_row != row) return bad("first_row", s.first_row);
    if (s.num_rows < 1 || s.num_rows > c.first_row + c.num_rows - row) {
      return bad("num_rows", s.num_rows);
    }
    const int64_t position = FirstPosition(c, s);
    if (i > c.first_segment && s.begins == 0) return bad("begins", s.begins);
    if (s.begins != 0 ? s.start != position : s.start < 0 || s.start >= position) {
      return bad("start", s.start);
    }
    row += s.num_rows;
  }
  if (row != c.first_row + c.num_rows) return Bad(op, "chunk", chunk_index, "num_rows", c.num_rows);
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateBatch(absl::string_view op, const StreamBatch& batch) {
  RASQ_RETURN_IF_ERROR(CheckRange(op, "num_chunks", batch.num_chunks, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(op, "num_segments", batch.num_segments, batch.num_chunks));
  RASQ_RETURN_IF_ERROR(CheckRange(op, "num_rows", batch.num_rows, batch.num_chunks));
  RASQ_RETURN_IF_ERROR(CheckRange(op, "num_staged", batch.num_staged, 0));
  if (batch.num_chunks == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull(op, "chunks", batch.chunks));
  return CheckNotNull(op, "segments", batch.segments);
}

absl::Status ValidateShape(absl::string_view op, const StreamShape& shape) {
  constexpr int64_t kMost = 1 << 30;
  RASQ_RETURN_IF_ERROR(CheckRange(op, "window_rows", shape.window_rows, 0, kMost));
  RASQ_RETURN_IF_ERROR(CheckRange(op, "segment_rows", shape.segment_rows, 1, kMost));
  RASQ_RETURN_IF_ERROR(CheckRange(op, "sink_rows", shape.sink_rows, 0, kMost));
  RASQ_RETURN_IF_ERROR(CheckRange(op, "capacity", shape.capacity, 0, kMost));
  RASQ_RETURN_IF_ERROR(
      CheckRange(op, "max_selected", shape.max_selected, shape.capacity > 0 ? 1 : 0, kMost));
  RASQ_RETURN_IF_ERROR(CheckRange(op, "memory_span", shape.memory_span, 0, kMost));
  const int64_t ring_rows = int64_t{shape.window_rows} + shape.segment_rows;
  return CheckRange(op, "ring_rows", shape.ring_rows, ring_rows, ring_rows);
}

absl::Status CheckBatchContents(absl::string_view op, const StreamBatch& batch) {
  for (int32_t i = 0; i < batch.num_chunks; ++i) {
    RASQ_RETURN_IF_ERROR(CheckChunk(op, batch, i));
    RASQ_RETURN_IF_ERROR(CheckSegments(op, batch, i));
  }
  return absl::OkStatus();
}

absl::Status CheckBatchContents(absl::string_view op, const StreamBatch& batch,
                                const StreamShape& shape) {
  RASQ_RETURN_IF_ERROR(CheckBatchContents(op, batch));
  for (int32_t i = 0; i < batch.num_segments; ++i) {
    const StreamSegment& s = batch.segments[i];
    if (s.chunk < 0 || s.chunk >= batch.num_chunks) return Bad(op, "segment", i, "chunk", s.chunk);
    const StreamChunk& c = batch.chunks[s.chunk];
    if (i < c.first_segment || i >= c.first_segment + c.num_segments) {
      return Bad(op, "segment", i, "chunk", s.chunk);
    }
    if (FirstPosition(c, s) + s.num_rows - s.start > shape.segment_rows) {
      return Bad(op, "segment", i, "num_rows", s.num_rows);
    }
  }
  for (int32_t i = 0; i < batch.num_chunks; ++i) {
    const StreamChunk& c = batch.chunks[i];
    // What left the rings before the batch cannot be staged.
    if (NumLeaving(c) > 0 && c.leave_begin < c.first_position - shape.ring_rows) {
      return Bad(op, "chunk", i, "leave_begin", c.leave_begin);
    }
  }
  return absl::OkStatus();
}

}  // namespace rasq
