// Summary slots: what is left of the entries that a memory has lost. Each layer and kv head has
// `num_summaries` slots, each with a query u of its own; all share one mass n. When a segment
// begins, let X be what it loses: the entries that fall out of the buffer then, and the candidates
// that leave the window for it and find no place. With i in X
//   w_i = softmax_i(<u, K_c,i> / sqrt(d_c) + log g_i)
//   C_k <- beta C_k + (1 - beta) sum_i w_i K_c,i, C_v likewise; the sums themselves while n = 0
//   n   <- beta n + sum_i g_i
// and nothing changes if sum_i g_i is 0, as without X. From then on the segment reads each slot as
// one more entry of key C_k, value C_v, score 0 and log gate log n. Source: algorithm.md 6.
//
// What a segment loses follows from replace_entries.h's rows, once for all layers (LoseEntries);
// the slots follow layer by layer (SummarizeEntries), and for the layers of one selection it is
// listed once what attention reads (ListSummaries). Lost entries are summed in order of position,
// as they are stored, so that a stream's slots do not depend on how it is cut into batches.
//
// Slots keep their place in float32 in the state. To attention they are rows like entries: in the
// state behind the `capacity` slots of the buffer, and for chunks in which a segment begins among
// the staged rows, behind the batch's `num_staged`, since each segment there has its own version:
// slot t of segment s is staged row num_staged + s * num_summaries + t. The buffer's table knows
// nothing of them: nothing has to be kept from replacing, scoring or selecting them, and what was
// selected is told without them.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/base/dtype.h"
#include "kernels/base/stream.h"
#include "kernels/base/thread_pool.h"
#include "kernels/entry_rows.h"
#include "kernels/select_entries.h"
#include "kernels/stream_batch.h"

namespace rasq {

// What segments lose; of chunks in which a segment begins.
struct LostEntries {
  int32_t* row;  // [num_staged]: a chunk's from its first_staged on, by segment, then by position;
                 // < capacity: a slot; else capacity + the chunk's staged row
  int32_t* end;  // [num_segments]: of the segment's rows, counted from its chunk's first
  float* keep;   // [num_segments]: the slots' share of what they held: beta, 0 or, unchanged, 1
  float* mass;   // [num_segments]: n as the segment reads it
};

struct LoseEntriesArgs {
  StreamBatch batch;
  StreamShape shape;
  float decay;          // beta, 0 <= beta < 1
  int64_t mass_offset;  // in the state: float n; read, then brought to the end of the batch
  const int32_t* died;  // entry rows: see replace_entries.h
  const int64_t* row_position;
  const float* row_log_gate;
  int32_t* found;  // [num_staged]: room to work in
  LostEntries lost;
};
absl::Status ValidateLoseEntries(const LoseEntriesArgs& args);
absl::Status LoseEntriesCpu(const LoseEntriesArgs& args, ThreadPool& pool);
absl::Status LoseEntriesCuda(const LoseEntriesArgs& args, Stream stream);

// After compress_entries.h and before the staged rows take their slots: a lost entry's row of the
// state must still be there. Brings the state's slots to the end of the batch.
struct SummarizeEntriesArgs {
  StreamBatch batch;
  StreamShape shape;
  DType element;
  EntryType entry_type;
  int32_t num_kv_heads;
  int32_t compressed_dim;
  int32_t num_summaries;      // r >= 1
  const float* query;         // u [num_kv_heads, num_summaries, compressed_dim]
  const float* row_log_gate;  // entry rows
  LostEntries lost;           //
  int64_t summary_k_offset;   // in the state: float [num_kv_heads, num_summaries, compressed_dim]
  int64_t summary_v_offset;   // the same
  int64_t entry_k_offset;     // in the state: [capacity + num_summaries] rows of entry_rows.h,
  int64_t entry_v_offset;     // [num_kv_heads, compressed_dim] each
  void* staged_k;             // [num_staged + num_segments * num_summaries] such rows
  void* staged_v;
};
absl::Status ValidateSummarizeEntries(const SummarizeEntriesArgs& args);
// The CUDA version serves widths to 256.
absl::Status SummarizeEntriesCpu(const SummarizeEntriesArgs& args, ThreadPool& pool);
absl::Status SummarizeEntriesCuda(const SummarizeEntriesArgs& args, Stream stream);

// What segments read: the selected entries, and behind them the slots. Rows are of an attention
// whose shape has num_summaries more of capacity and max_selected than this one. While n = 0 the
// slots' log gate is -infinity: they weigh nothing.
struct ListSummariesArgs {
  StreamBatch batch;
  StreamShape shape;
  int32_t num_summaries;     // >= 1
  int64_t mass_offset;       // as above; read where no segment begins
  const float* mass;         // LostEntries::mass; null if no segment of the batch begins
  SelectedEntries selected;  // arrays [num_segments, max_selected]
  SelectedEntries read;      // arrays [num_segments, max_selected + num_summaries], no `position`
};
absl::Status ValidateListSummaries(const ListSummariesArgs& args);
absl::Status ListSummariesCpu(const ListSummariesArgs& args, ThreadPool& pool);
absl::Status ListSummariesCuda(const ListSummariesArgs& args, Stream stream);

}  // namespace rasq
