#include "kernels/base/cuda_status.h"
#include "kernels/base/status.h"
#include "kernels/copy_rows.h"
#include "kernels/row_loops_cuda.h"
#include "kernels/stream_batch_cuda.h"

namespace rasq {
namespace {

constexpr int kThreads = 256;

// A row to copy; `to` is null where there is none.
struct RowCopy {
  const std::byte* from;
  std::byte* to;
};

__device__ RowCopy CopyOf(const StageRowsArgs& a, int64_t staged) {
  const StreamChunk& c = a.batch.chunks[ChunkOfStaged(a.batch, staged)];
  const int64_t i = staged - c.first_staged;
  if (IsPadding(c) || i < 0 || i >= NumLeaving(c)) return {nullptr, nullptr};
  return {TokenRow(c, a.ring_offset, a.shape.ring_rows, a.chunk, c.leave_begin + i, a.row_bytes),
          static_cast<std::byte*>(a.staged) + staged * a.row_bytes};
}

// The last ring_rows rows alone: so no two rows go to one place.
__device__ RowCopy CopyOf(const WriteRingArgs& a, int64_t row) {
  const StreamChunk& c = a.batch.chunks[ChunkOfRow(a.batch, row)];
  const int64_t i = row - c.first_row;
  if (IsPadding(c) || i < 0 || i >= c.num_rows || i < int64_t{c.num_rows} - a.ring_rows) {
    return {nullptr, nullptr};
  }
  return {static_cast<const std::byte*>(a.chunk) + row * a.row_bytes,
          c.state + a.ring_offset + (c.first_position + i) % a.ring_rows * a.row_bytes};
}

__device__ RowCopy CopyOf(const CommitRowsArgs& a, int64_t staged) {
  const StreamChunk& c = a.batch.chunks[ChunkOfStaged(a.batch, staged)];
  const int64_t i = staged - c.first_staged;
  if (IsPadding(c) || i < 0 || i >= NumLeaving(c)) return {nullptr, nullptr};
  const int64_t slot = a.slot[staged];
  if (slot < 0) return {nullptr, nullptr};
  return {static_cast<const std::byte*>(a.staged) + staged * a.row_bytes,
          c.state + a.entries_offset + slot * a.row_bytes};
}

template <typename Vector>
__device__ void CopyVectors(const RowCopy& copy, int64_t row_bytes, int lane, int lanes) {
  const auto* __restrict__ from = reinterpret_cast<const Vector*>(copy.from);
  auto* __restrict__ to = reinterpret_cast<Vector*>(copy.to);
  const int64_t n = row_bytes / static_cast<int64_t>(sizeof(Vector));
#pragma unroll 4
  for (int64_t i = lane; i < n; i += lanes) to[i] = from[i];
}

// A group of `lanes` a row. Grid: rows * lanes / kThreads. Block: kThreads. Traffic: each copied
// row read once and written once, in the widest vectors that it and its places allow.
template <typename Args>
__global__ void __launch_bounds__(kThreads) CopyRowsKernel(Args a, int64_t num_rows, int lanes) {
  const int rows_per_block = kThreads / lanes;
  const int lane = threadIdx.x % lanes;
  for (int64_t row = int64_t{blockIdx.x} * rows_per_block + threadIdx.x / lanes; row < num_rows;
       row += int64_t{gridDim.x} * rows_per_block) {
    const RowCopy copy = CopyOf(a, row);
    if (copy.to == nullptr) continue;
    const uintptr_t bits = reinterpret_cast<uintptr_t>(copy.from) |
                           reinterpret_cast<uintptr_t>(copy.to) |
                           static_cast<uintptr_t>(a.row_bytes);
    if (bits % 16 == 0) {
      CopyVectors<uint4>(copy, a.row_bytes, lane, lanes);
    } else if (bits % 8 == 0) {
      CopyVectors<uint2>(copy, a.row_bytes, lane, lanes);
    } else if (bits % 4 == 0) {
      CopyVectors<uint32_t>(copy, a.row_bytes, lane, lanes);
    } else {
      CopyVectors<uint8_t>(copy, a.row_bytes, lane, lanes);
    }
  }
}

template <typename Args>
void Launch(const Args& a, int64_t num_rows, Stream stream) {
  int lanes = 1;
  while (lanes < 32 && lanes * 16 < a.row_bytes) lanes *= 2;
  const int64_t rows_per_block = kThreads / lanes;
  const unsigned grid = GridX((num_rows - 1) / rows_per_block + 1);
  CopyRowsKernel<<<grid, kThreads, 0, stream>>>(a, num_rows, lanes);
}

}  // namespace

absl::Status StageRowsCuda(const StageRowsArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateStageRows(a));
  if (a.batch.num_chunks == 0 || a.batch.num_staged == 0) return absl::OkStatus();
  Launch(a, a.batch.num_staged, stream);
  return LaunchStatus("StageRows");
}

absl::Status WriteRingCuda(const WriteRingArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateWriteRing(a));
  if (a.batch.num_chunks == 0) return absl::OkStatus();
  Launch(a, a.batch.num_rows, stream);
  return LaunchStatus("WriteRing");
}

absl::Status CommitRowsCuda(const CommitRowsArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateCommitRows(a));
  if (a.batch.num_chunks == 0 || a.batch.num_staged == 0) return absl::OkStatus();
  Launch(a, a.batch.num_staged, stream);
  return LaunchStatus("CommitRows");
}

}  // namespace rasq
