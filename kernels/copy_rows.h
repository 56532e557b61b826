// Rows between a stream's state and a batch: who leaves the window is staged, what the chunk
// brought goes into the rings, and what survived goes from staging into its slot.
// Row widths are in bytes, so one operation serves keys, values, gates and positions alike.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/base/stream.h"
#include "kernels/base/thread_pool.h"
#include "kernels/stream_batch.h"

namespace rasq {

// staged[first_staged + i] = the row of the token at leave_begin + i, from the ring or the chunk.
struct StageRowsArgs {
  StreamBatch batch;
  StreamShape shape;
  int64_t ring_offset;  // bytes into the state: [ring_rows, row_bytes]
  const void* chunk;    // [num_rows, row_bytes]
  void* staged;         // [num_staged, row_bytes]
  int64_t row_bytes;    // > 0
};
absl::Status ValidateStageRows(const StageRowsArgs& args);
absl::Status StageRowsCpu(const StageRowsArgs& args, ThreadPool& pool);
absl::Status StageRowsCuda(const StageRowsArgs& args, Stream stream);

// ring[position % ring_rows] = the chunk's row, for the last `ring_rows` rows of each chunk.
struct WriteRingArgs {
  StreamBatch batch;
  int64_t ring_offset;  // bytes into the state
  int32_t ring_rows;    // of this ring, > 0; need not be the shape's
  const void* chunk;    // [num_rows, row_bytes]
  int64_t row_bytes;    // > 0
};
absl::Status ValidateWriteRing(const WriteRingArgs& args);
absl::Status WriteRingCpu(const WriteRingArgs& args, ThreadPool& pool);
absl::Status WriteRingCuda(const WriteRingArgs& args, Stream stream);

// entries[slot[i]] = staged[i] for every staged row whose slot is not -1.
struct CommitRowsArgs {
  StreamBatch batch;
  int64_t entries_offset;  // bytes into the state: [capacity, row_bytes]
  const void* staged;      // [num_staged, row_bytes]
  const int32_t* slot;     // [num_staged], from replace_entries.h
  int64_t row_bytes;       // > 0
};
absl::Status ValidateCommitRows(const CommitRowsArgs& args);
absl::Status CommitRowsCpu(const CommitRowsArgs& args, ThreadPool& pool);
absl::Status CommitRowsCuda(const CommitRowsArgs& args, Stream stream);

}  // namespace rasq
