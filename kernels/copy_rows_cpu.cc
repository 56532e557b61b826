#include <cstring>

#include "absl/strings/str_cat.h"
#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/copy_rows.h"
#include "kernels/row_tasks_cpu.h"
#include "kernels/stream_batch_cpu.h"

namespace rasq {
namespace {

// Calls body(chunk) for every chunk, in parallel if there is enough to copy: `rows` in all.
template <typename Body>
void ForChunks(const StreamBatch& batch, int64_t rows, int64_t row_bytes, ThreadPool& pool,
               const Body& body) {
  const int64_t chunk_bytes = rows * row_bytes / std::max(1, batch.num_chunks);
  ForRowRanges(pool, batch.num_chunks, chunk_bytes, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(batch.chunks[i]);
  });
}

absl::Status CheckOffset(absl::string_view op, absl::string_view field, int64_t offset) {
  return CheckRange(op, field, offset, 0);
}

}  // namespace

absl::Status ValidateStageRows(const StageRowsArgs& a) {
  RASQ_RETURN_IF_ERROR(ValidateBatch("StageRows", a.batch));
  RASQ_RETURN_IF_ERROR(ValidateShape("StageRows", a.shape));
  RASQ_RETURN_IF_ERROR(CheckOffset("StageRows", "ring_offset", a.ring_offset));
  RASQ_RETURN_IF_ERROR(CheckRange("StageRows", "row_bytes", a.row_bytes, 1));
  if (a.batch.num_staged == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull("StageRows", "chunk", a.chunk));
  return CheckNotNull("StageRows", "staged", a.staged);
}

absl::Status StageRowsCpu(const StageRowsArgs& a, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidateStageRows(a));
  if (a.batch.num_staged == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckBatchContents("StageRows", a.batch, a.shape));
  const auto* rows = static_cast<const std::byte*>(a.chunk);
  auto* staged = static_cast<std::byte*>(a.staged);
  ForChunks(a.batch, a.batch.num_staged, a.row_bytes, pool, [&](const StreamChunk& c) {
    const std::byte* ring = c.state + a.ring_offset;
    std::byte* to = staged + c.first_staged * a.row_bytes;
    ForTokenSpans(c, c.leave_begin, c.leave_end, a.shape.ring_rows, [&](const TokenSpan& span) {
      const std::byte* from = span.in_ring ? ring : rows;
      std::memcpy(to + span.offset * a.row_bytes, from + span.row * a.row_bytes,
                  span.num_rows * a.row_bytes);
    });
  });
  return absl::OkStatus();
}

absl::Status ValidateWriteRing(const WriteRingArgs& a) {
  RASQ_RETURN_IF_ERROR(ValidateBatch("WriteRing", a.batch));
  RASQ_RETURN_IF_ERROR(CheckOffset("WriteRing", "ring_offset", a.ring_offset));
  RASQ_RETURN_IF_ERROR(CheckRange("WriteRing", "ring_rows", a.ring_rows, 1));
  RASQ_RETURN_IF_ERROR(CheckRange("WriteRing", "row_bytes", a.row_bytes, 1));
  if (a.batch.num_chunks == 0) return absl::OkStatus();
  return CheckNotNull("WriteRing", "chunk", a.chunk);
}

absl::Status WriteRingCpu(const WriteRingArgs& a, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidateWriteRing(a));
  RASQ_RETURN_IF_ERROR(CheckBatchContents("WriteRing", a.batch));
  const auto* rows = static_cast<const std::byte*>(a.chunk);
  ForChunks(a.batch, a.batch.num_rows, a.row_bytes, pool, [&](const StreamChunk& c) {
    std::byte* ring = c.state + a.ring_offset;
    int64_t i = std::max(0, c.num_rows - a.ring_rows);
    while (i < c.num_rows) {
      const int64_t ring_row = (c.first_position + i) % a.ring_rows;
      const int64_t num_rows = std::min(c.num_rows - i, a.ring_rows - ring_row);
      std::memcpy(ring + ring_row * a.row_bytes, rows + (c.first_row + i) * a.row_bytes,
                  num_rows * a.row_bytes);
      i += num_rows;
    }
  });
  return absl::OkStatus();
}

absl::Status ValidateCommitRows(const CommitRowsArgs& a) {
  RASQ_RETURN_IF_ERROR(ValidateBatch("CommitRows", a.batch));
  RASQ_RETURN_IF_ERROR(CheckOffset("CommitRows", "entries_offset", a.entries_offset));
  RASQ_RETURN_IF_ERROR(CheckRange("CommitRows", "row_bytes", a.row_bytes, 1));
  if (a.batch.num_staged == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull("CommitRows", "staged", a.staged));
  return CheckNotNull("CommitRows", "slot", a.slot);
}

absl::Status CommitRowsCpu(const CommitRowsArgs& a, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidateCommitRows(a));
  if (a.batch.num_staged == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckBatchContents("CommitRows", a.batch));
  const auto* staged = static_cast<const std::byte*>(a.staged);
  ForChunks(a.batch, a.batch.num_staged, a.row_bytes, pool, [&](const StreamChunk& c) {
    std::byte* entries = c.state + a.entries_offset;
    for (int64_t i = c.first_staged; i < c.first_staged + NumLeaving(c); ++i) {
      if (a.slot[i] < 0) continue;
      std::memcpy(entries + a.slot[i] * a.row_bytes, staged + i * a.row_bytes, a.row_bytes);
    }
  });
  return absl::OkStatus();
}

}  // namespace rasq
