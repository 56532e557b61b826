#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/attend_few_cpu.h"
#include "kernels/attend_tile_cpu.h"
#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/elements_cpu.h"
#include "kernels/entry_clusters_cpu.h"
#include "kernels/entry_rows_cpu.h"
#include "kernels/stream_attention.h"
#include "kernels/stream_batch_cpu.h"

namespace rasq {
namespace {

// Lists per kv head, and their blocks' softmaxes, are of exact entries that are read one by one.
absl::Status ValidateLists(const StreamAttentionArgs& a) {
  const char* field = a.entries_per_head ? "entries_per_head" : "fused_weight";
  const auto bad = [field](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat("StreamAttention: ", field, " with ", what));
  };
  if (!HasExactEntries(a)) return bad("key_up");
  if (a.clusters.segments != nullptr) return bad("clusters");
  if (a.entries_per_head && a.entry_type != EntryType::kElement) {
    return bad(absl::StrCat("entry_type=", Name(a.entry_type, a.element)));
  }
  return absl::OkStatus();
}

absl::Status ValidateSummaries(const StreamAttentionArgs& a) {
  RASQ_RETURN_IF_ERROR(
      CheckRange("StreamAttention", "num_summaries", a.num_summaries, 0, a.shape.max_selected));
  const bool clustered = a.clusters.segments != nullptr;
  if (a.num_summaries == 0 || (!clustered && !HasExactEntries(a))) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("StreamAttention: num_summaries=", a.num_summaries,
                                                 " with ",
                                                 clustered ? "clusters" : "exact entries"));
}

absl::Status ValidateMemory(const StreamAttentionArgs& a) {
  constexpr char kOp[] = "StreamAttention";
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "capacity", a.shape.capacity, 1));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "compressed_dim", a.compressed_dim, 1, a.head_dim));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "entry_k_offset", a.entry_k_offset, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "entry_v_offset", a.entry_v_offset, 0));
  if (a.batch.num_chunks == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "selected.count", a.selected.count));
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "selected.row", a.selected.row));
  if (HasExactEntries(a)) {
    RASQ_RETURN_IF_ERROR(CheckRange(kOp, "compressed_dim", a.compressed_dim, a.head_dim));
  } else {
    RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "key_up", a.key_up));
    RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "value_up", a.value_up));
  }
  if (a.entries_per_head || a.fused_weight != nullptr) RASQ_RETURN_IF_ERROR(ValidateLists(a));
  if (a.clusters.segments != nullptr) RASQ_RETURN_IF_ERROR(ValidateClusters(kOp, a.clusters));
  RASQ_RETURN_IF_ERROR(ValidateSummaries(a));
  if (a.batch.num_staged == 0 && a.num_summaries == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "staged_k", a.staged_k));
  return CheckNotNull(kOp, "staged_v", a.staged_v);
}

// Clusters that entries are said to be in must be there.
absl::Status CheckClusters(const StreamAttentionArgs& a) {
  for (int64_t i = 0; i < a.batch.num_segments; ++i) {
    if (!IsClustered(a, i)) continue;
    for (int64_t kv_head = 0; kv_head < a.num_kv_heads; ++kv_head) {
      const ClusterView view = ClustersOf(a.clusters, a.batch, a.num_kv_heads, i, kv_head);
      for (int32_t j = 0; j < a.selected.count[i]; ++j) {
        if (view.cluster[j] < a.clusters.num_clusters) continue;
        return absl::InvalidArgumentError(
            absl::StrCat("StreamAttention: segment ", i, ": cluster[", j, "]=", view.cluster[j]));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateStreamAttention(const StreamAttentionArgs& a) {
  constexpr char kOp[] = "StreamAttention";
  RASQ_RETURN_IF_ERROR(ValidateBatch(kOp, a.batch));
  RASQ_RETURN_IF_ERROR(ValidateShape(kOp, a.shape));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "num_kv_heads", a.num_kv_heads, 1));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "num_heads", a.num_heads, 1));
  if (a.num_heads % a.num_kv_heads != 0) return BadArgument(kOp, "num_heads", a.num_heads);
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "head_dim", a.head_dim, 2));
  if (a.head_dim % 2 != 0) return BadArgument(kOp, "head_dim", a.head_dim);
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "ring_k_offset", a.ring_k_offset, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "ring_v_offset", a.ring_v_offset, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "sink_k_offset", a.sink_k_offset, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "sink_v_offset", a.sink_v_offset, 0));
  if (a.batch.num_chunks > 0) {
    RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "q", a.q));
    RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "k", a.k));
    RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "v", a.v));
    RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "out", a.out));
    if (a.shape.sink_rows > 0) {
      RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "sink_rotation", a.sink_rotation));
    }
  }
  return a.reads_memory ? ValidateMemory(a) : absl::OkStatus();
}

absl::Status StreamAttentionCpu(const StreamAttentionArgs& a, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidateStreamAttention(a));
  RASQ_RETURN_IF_ERROR(CheckBatchContents("StreamAttention", a.batch, a.shape));
  if (a.reads_memory) {
    RASQ_RETURN_IF_ERROR(CheckSelection("StreamAttention", a));
    RASQ_RETURN_IF_ERROR(CheckClusters(a));
  }
  thread_local ChunkKeys keys;
  keys.Gather(a, pool);
  const ChunkKeys& gathered = keys;  // of this thread, also inside the tasks
  const int64_t num_tasks = int64_t{a.batch.num_segments} * a.num_kv_heads;
  pool.ParallelFor(num_tasks, [&](int64_t task, int /*thread*/) {
    const int64_t segment = task / a.num_kv_heads;
    const int64_t kv_head = task % a.num_kv_heads;
    if (a.batch.segments[segment].num_rows <= kFewRows) {
      AttendFew(a, segment, kv_head);
    } else {
      AttendTile(a, segment, kv_head, gathered);
    }
  });
  return absl::OkStatus();
}

}  // namespace rasq
