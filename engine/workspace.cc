#include "engine/workspace.h"

#include <functional>
#include <utility>

#include "engine/state_layout.h"
#include "engine/step_batch.h"

namespace rasq {
namespace {

// Rows of scored text that go through the head at a time: so many that its weights are read once
// for enough work, and so few that logits take less than the rest even with a large vocabulary.
constexpr int64_t kScoredRows = 64;

}  // namespace

absl::StatusOr<Upload> Upload::Create(Ops& ops, int64_t bytes) {
  Upload upload;
  RASQ_ASSIGN_OR_RETURN(upload.host_, ops.AllocateHost(bytes));
  RASQ_ASSIGN_OR_RETURN(upload.device_, ops.Allocate(bytes));
  return upload;
}

absl::StatusOr<Workspace> Workspace::Create(Ops& ops, const ModelConfig& model,
                                            const MemoryConfig& memory, const StepLimits& limits) {
  Workspace w;
  const int64_t element = SizeOf(ops.element());
  const int64_t rows = limits.max_rows, streams = limits.max_streams, samples = limits.max_samples;
  const int64_t segments = limits.MaxSegments(memory.segment);
  // A stream's own rows leave the window at most once, and before them the segment that was open.
  const int64_t staged = rows + streams * memory.segment;
  const int64_t entries = memory.has_memory() ? streams * memory.capacity + staged : 0;
  const int64_t q = int64_t{model.num_heads} * model.head_dim;
  const int64_t kv = int64_t{model.num_kv_heads} * model.head_dim;
  const int64_t entry_row = std::max(
      EntryRowBytes(memory.entry_type, ops.element(), model.num_kv_heads, memory.compressed_dim),
      EntryRowBytes(EntryType::kElement, ops.element(), model.num_kv_heads, model.head_dim));
  const int64_t index_row =
      EntryRowBytes(memory.entry_type, ops.element(), /*heads=*/1, memory.index_dim);
  const int64_t budget = std::min(memory.max_budget, memory.capacity);
  // Of one layer at a time: the next one makes its own.
  const int64_t clusters =
      model.num_kv_heads *
      ClusterLayoutOf(memory, static_cast<int32_t>(budget), ops.element()).head_bytes;
  w.logit_rows = std::max(samples, std::min(rows, kScoredRows));
  w.staged_stride = entry_row;
  w.score_stride = memory.has_memory() ? memory.capacity + rows + memory.segment : 0;
  w.selected.resize(memory.has_memory() ? memory.retrieval_layers.size() : 0);

  // Sizes first, then addresses: both from this one list.
  int64_t total = 0;
  std::vector<std::pair<int64_t, std::function<void(std::byte*)>>> parts;
  const auto take = [&](auto*& pointer, int64_t elements, int64_t element_bytes) {
    using Pointer = std::remove_reference_t<decltype(pointer)>;
    parts.emplace_back(total,
                       [&pointer](std::byte* at) { pointer = reinterpret_cast<Pointer>(at); });
    total += (elements * element_bytes + 255) / 256 * 256;
  };
  take(w.x, rows * model.hidden, sizeof(float));
  take(w.normed, rows * model.hidden, element);
  take(w.qkv, rows * (q + 2 * kv), sizeof(float));
  take(w.q, rows * q, element);
  take(w.k, rows * kv, element);
  take(w.v, rows * kv, element);
  take(w.attended, rows * q, element);
  take(w.lse, rows * model.num_heads, sizeof(float));
  take(w.gate_up, rows * 2 * model.intermediate, sizeof(float));
  take(w.activated, rows * model.intermediate, element);
  take(w.logits, w.logit_rows * model.vocab, sizeof(float));
  take(w.target_logprob, rows, sizeof(float));
  take(w.row_rotation, rows * model.head_dim, sizeof(float));
  take(w.memory_rotation, segments * model.head_dim, sizeof(float));
  take(w.sink_rotation, segments * memory.sinks * model.head_dim, sizeof(float));
  take(w.staged_rotation, staged * model.head_dim, sizeof(float));
  take(w.projected, rows * (2 * memory.index_dim + 8), sizeof(float));
  take(w.index_query, rows * memory.index_dim, element);
  take(w.index_key, rows, index_row);
  take(w.log_gate, rows, sizeof(float));
  take(w.priority, rows, sizeof(double));
  take(w.staged_index, staged, index_row);
  take(w.staged_log_gate, staged, sizeof(float));
  take(w.staged_priority, staged, sizeof(double));
  take(w.staged_token, staged, sizeof(int32_t));
  take(w.slot, staged, sizeof(int32_t));
  take(w.staged_k, staged + segments * memory.num_summaries, entry_row);
  take(w.staged_v, staged + segments * memory.num_summaries, entry_row);
  take(w.born, entries, sizeof(int32_t));
  take(w.died, entries, sizeof(int32_t));
  take(w.row_position, entries, sizeof(int64_t));
  take(w.row_log_gate, entries, sizeof(float));
  take(w.row_token, entries, sizeof(int32_t));
  take(w.score, segments * w.score_stride, sizeof(float));
  take(w.key, segments * w.score_stride, sizeof(float));
  take(w.clusters, segments * clusters, 1);
  take(w.budget_factor, memory.has_budget_head() ? segments : 0, sizeof(float));
  for (SelectedEntries& selected : w.selected) {
    take(selected.row, segments * budget, sizeof(int32_t));
    take(selected.score, segments * budget, sizeof(float));
    take(selected.log_gate, segments * budget, sizeof(float));
    take(selected.position, segments * budget, sizeof(int64_t));
  }
  const bool summaries = memory.num_summaries > 0;
  const int64_t read = summaries ? segments * (budget + memory.num_summaries) : 0;
  take(w.lost.row, summaries ? staged : 0, sizeof(int32_t));
  take(w.lost.end, summaries ? segments : 0, sizeof(int32_t));
  take(w.lost.keep, summaries ? segments : 0, sizeof(float));
  take(w.lost.mass, summaries ? segments : 0, sizeof(float));
  take(w.lost_found, summaries ? staged : 0, sizeof(int32_t));
  take(w.read.count, summaries ? segments : 0, sizeof(int32_t));
  take(w.read.row, read, sizeof(int32_t));
  take(w.read.score, read, sizeof(float));
  take(w.read.log_gate, read, sizeof(float));
  const int64_t results = total;
  take(w.sampled, samples, sizeof(int32_t));
  take(w.logprob, samples, sizeof(float));
  take(w.alternative, samples * limits.max_alternatives, sizeof(int32_t));
  take(w.alternative_logprob, samples * limits.max_alternatives, sizeof(float));
  take(w.num_replaced, streams, sizeof(int32_t));
  w.selected_count.resize(w.selected.size());
  w.selected_budget.resize(w.selected.size());
  for (int32_t*& count : w.selected_count) take(count, segments, sizeof(int32_t));
  for (int32_t*& most : w.selected_budget) take(most, segments, sizeof(int32_t));
  w.listed_count.resize(limits.max_store_streams > 0 ? model.num_layers : 0);
  for (int32_t*& count : w.listed_count) {
    take(count, int64_t{limits.max_store_streams} * model.num_kv_heads, sizeof(int32_t));
  }

  RASQ_ASSIGN_OR_RETURN(w.memory_, ops.Allocate(total));
  for (const auto& [offset, set] : parts) set(w.memory_->data() + offset);
  for (size_t r = 0; r < w.selected.size(); ++r) w.selected[r].count = w.selected_count[r];
  w.results_ = w.memory_->data() + results;
  RASQ_ASSIGN_OR_RETURN(w.host_results_, ops.AllocateHost(total - results));

  const int64_t upload =
      rows * (4 * sizeof(int32_t) + sizeof(uint8_t)) +
      streams * (sizeof(StreamChunk) + sizeof(WritePolicy) + sizeof(ReadPolicy)) +
      segments * sizeof(StreamSegment) +
      int64_t{limits.max_store_streams} * model.num_layers * sizeof(int32_t) +
      samples * (sizeof(SamplePolicy) + 4 * limits.max_seen * sizeof(int32_t)) +
      (64 + streams) * 64;
  RASQ_ASSIGN_OR_RETURN(w.upload, Upload::Create(ops, upload));
  w.bytes = total + upload;
  return w;
}

absl::Status Workspace::FetchResults(Ops& ops) {
  return ops.CopyToHost(host_results_->data(), results_, host_results_->bytes());
}

}  // namespace rasq
