#include "engine/model.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"

namespace rasq {

namespace {

// Of k-means, before the last assignment (algorithm.md 5: 2 or 3).
constexpr int32_t kClusterRounds = 2;

// `pointer` moved on by rows of an array.
void* Rows(void* pointer, int64_t rows, int64_t row_bytes) {
  return static_cast<std::byte*>(pointer) + rows * row_bytes;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> Model::Create(const Checkpoint& checkpoint,
                                                     const MemoryConfig& memory,
                                                     const StepLimits& limits, Ops& ops) {
  RASQ_ASSIGN_OR_RETURN(Weights weights, LoadWeights(checkpoint, ops));
  RASQ_ASSIGN_OR_RETURN(Workspace workspace,
                        Workspace::Create(ops, checkpoint.model(), memory, limits));
  std::unique_ptr<Model> model(
      new Model(checkpoint, memory, limits, ops, std::move(weights), std::move(workspace)));
  const std::vector<double>& inv_freq = model->config_.inv_freq;
  const int64_t bytes = static_cast<int64_t>(inv_freq.size() * sizeof(double));
  RASQ_ASSIGN_OR_RETURN(model->inv_freq_, ops.Allocate(bytes));
  RASQ_RETURN_IF_ERROR(ops.CopyToDevice(model->inv_freq_->data(), inv_freq.data(), bytes));
  return model;
}

Model::Model(const Checkpoint& checkpoint, const MemoryConfig& memory, const StepLimits& limits,
             Ops& ops, Weights weights, Workspace workspace)
    : config_(checkpoint.model()),
      memory_(memory),
      limits_(limits),
      ops_(ops),
      weights_(std::move(weights)),
      workspace_(std::move(workspace)) {}

absl::Status Model::RunLayer(int32_t layer, const StepBatch& batch) {
  const LayerWeights& weights = weights_.layers[layer];
  Workspace& w = workspace_;
  const int64_t rows = batch.num_rows(), hidden = config_.hidden;

  const auto norm = [&](const FloatBuffer& weight) {
    return ops_.RmsNorm({.x = w.x,
                         .row = nullptr,
                         .weight = reinterpret_cast<const float*>(weight->data()),
                         .y = w.normed,
                         .element = ops_.element(),
                         .rows = rows,
                         .hidden = hidden,
                         .x_stride = hidden,
                         .epsilon = config_.rms_norm_epsilon});
  };
  const auto gemm = [&](const void* x, const Matrix& matrix, float* y, bool accumulate) {
    return ops_.Gemm({.x = x,
                      .w = &matrix,
                      .y = y,
                      .rows = rows,
                      .x_stride = matrix.in(),
                      .y_stride = matrix.out(),
                      .accumulate = accumulate});
  };
  const auto floats = [](const FloatBuffer& buffer) {
    return buffer ? reinterpret_cast<const float*>(buffer->data()) : nullptr;
  };

  RASQ_RETURN_IF_ERROR(norm(weights.attention_norm));
  RASQ_RETURN_IF_ERROR(gemm(w.normed, *weights.qkv, w.qkv, /*accumulate=*/false));
  RASQ_RETURN_IF_ERROR(ops_.Rotary({.qkv = w.qkv,
                                    .bias = floats(weights.qkv_bias),
                                    .q_norm = floats(weights.q_norm),
                                    .k_norm = floats(weights.k_norm),
                                    .rotation = w.row_rotation,
                                    .q = w.q,
                                    .k = w.k,
                                    .v = w.v,
                                    .element = ops_.element(),
                                    .rows = rows,
                                    .num_heads = config_.num_heads,
                                    .num_kv_heads = config_.num_kv_heads,
                                    .head_dim = config_.head_dim,
                                    .epsilon = config_.rms_norm_epsilon}));
  const bool any_memory = std::any_of(groups_.begin(), groups_.end(), [](const DeviceGroup& group) {
    return group.layout->has_memory();
  });
  if (weights.index != nullptr && any_memory) {
    RASQ_RETURN_IF_ERROR(gemm(w.normed, *weights.index, w.projected, /*accumulate=*/false));
  }
  for (const DeviceGroup& group : groups_) RASQ_RETURN_IF_ERROR(Attend(layer, group));

  RASQ_RETURN_IF_ERROR(gemm(w.attended, *weights.output, w.x, /*accumulate=*/true));
  RASQ_RETURN_IF_ERROR(norm(weights.mlp_norm));
  RASQ_RETURN_IF_ERROR(gemm(w.normed, *weights.gate_up, w.gate_up, /*accumulate=*/false));
  RASQ_RETURN_IF_ERROR(ops_.Swiglu({.gate_up = w.gate_up,
                                    .y = w.activated,
                                    .element = ops_.element(),
                                    .rows = rows,
                                    .width = config_.intermediate}));
  return gemm(w.activated, *weights.down, w.x, /*accumulate=*/true);
}

absl::Status Model::Attend(int32_t layer, const DeviceGroup& group) {
  const LayerWeights& weights = weights_.layers[layer];
  const LayerState& state = group.layout->layers[layer];
  const StreamShape& shape = group.layout->shape;
  Workspace& w = workspace_;
  const DType element = ops_.element();
  const int64_t exact_row = int64_t{config_.num_kv_heads} * config_.head_dim;
  const EntryType entry_type = group.layout->entry_type;
  const int32_t entry_dim = group.layout->entry_dim;
  const bool exact = group.layout->exact_entries;
  const int64_t entry_bytes = EntryRowBytes(entry_type, element, config_.num_kv_heads, entry_dim);
  const int32_t retrieval = memory_.RetrievalIndex(layer);
  const bool reads_memory = group.layout->has_memory() && retrieval >= 0;
  const float* staged_rotation = w.staged_rotation + int64_t{group.first_staged} * config_.head_dim;
  void* staged_k = Rows(w.staged_k, group.first_staged, w.staged_stride);
  void* staged_v = Rows(w.staged_v, group.first_staged, w.staged_stride);

  if (group.keeps_sinks) {
    RASQ_RETURN_IF_ERROR(ops_.KeepSinks({.batch = group.batch,
                                         .shape = shape,
                                         .element = element,
                                         .num_kv_heads = config_.num_kv_heads,
                                         .head_dim = config_.head_dim,
                                         .rotation = staged_rotation,
                                         .ring_k_offset = state.ring_k,
                                         .ring_v_offset = state.ring_v,
                                         .k = w.k,
                                         .v = w.v,
                                         .sink_k_offset = state.sink_k,
                                         .sink_v_offset = state.sink_v}));
  }
  StreamAttentionArgs attention{
      .batch = group.batch,
      .shape = shape,
      .element = element,
      .num_heads = config_.num_heads,
      .num_kv_heads = config_.num_kv_heads,
      .head_dim = config_.head_dim,
      .q = w.q,
      .k = w.k,
      .v = w.v,
      .ring_k_offset = state.ring_k,
      .ring_v_offset = state.ring_v,
      .sink_k_offset = state.sink_k,
      .sink_v_offset = state.sink_v,
      .sink_rotation =
          w.sink_rotation + int64_t{group.first_segment} * memory_.sinks * config_.head_dim,
      .reads_memory = reads_memory,
      .entry_type = entry_type,
      .compressed_dim = entry_dim,
      .memory_rotation = nullptr,
      .selected = {},
      .entry_k_offset = state.entry_k,
      .entry_v_offset = state.entry_v,
      .staged_k = nullptr,
      .staged_v = nullptr,
      .key_up = nullptr,
      .value_up = nullptr,
      .score_weight = nullptr,
      .age_slope = nullptr,
      .clusters = {},
      .out = w.attended};
  if (reads_memory) {
    if (weights.index != nullptr) {
      RASQ_RETURN_IF_ERROR(Index(layer, group));
      RASQ_RETURN_IF_ERROR(Retrieve(layer, group));
    }
    if (group.batch.num_staged > 0) {
      // Exact entries are what compression by the identity gives: keys without their rotation.
      const Buffer& key_down = exact ? *weights_.identity : *weights.key_down;
      const Buffer& value_down = exact ? *weights_.identity : *weights.value_down;
      RASQ_RETURN_IF_ERROR(ops_.CompressEntries({.batch = group.batch,
                                                 .shape = shape,
                                                 .element = element,
                                                 .entry_type = entry_type,
                                                 .num_kv_heads = config_.num_kv_heads,
                                                 .head_dim = config_.head_dim,
                                                 .compressed_dim = entry_dim,
                                                 .rotation = staged_rotation,
                                                 .ring_k_offset = state.ring_k,
                                                 .ring_v_offset = state.ring_v,
                                                 .k = w.k,
                                                 .v = w.v,
                                                 .key_down = key_down.data(),
                                                 .value_down = value_down.data(),
                                                 .staged_k = staged_k,
                                                 .staged_v = staged_v}));
    }
    attention.memory_rotation = w.memory_rotation + int64_t{group.first_segment} * config_.head_dim;
    attention.selected = SelectedOf(retrieval, group);
    attention.staged_k = staged_k;
    attention.staged_v = staged_v;
    if (!exact) {
      attention.key_up = weights.key_up->data();
      attention.value_up = weights.value_up->data();
    }
    attention.score_weight = reinterpret_cast<const float*>(weights.score_weight->data());
    attention.age_slope = reinterpret_cast<const float*>(weights.age_slope->data());
    if (group.layout->has_summaries()) RASQ_RETURN_IF_ERROR(Summarize(layer, group, attention));
  }
  if (group.layout->has_store()) RASQ_RETURN_IF_ERROR(KeepInStore(layer, group, attention));
  const bool has_clusters = reads_memory && group.layout->has_clusters();
  if (has_clusters) attention.clusters = ClustersOf(layer, group);
  if (has_clusters && group.retrieves) {
    RASQ_RETURN_IF_ERROR(ops_.ClusterEntries({.batch = group.batch,
                                              .shape = shape,
                                              .element = element,
                                              .entry_type = entry_type,
                                              .num_kv_heads = config_.num_kv_heads,
                                              .compressed_dim = entry_dim,
                                              .rounds = kClusterRounds,
                                              .selected = attention.selected,
                                              .entry_k_offset = state.entry_k,
                                              .entry_v_offset = state.entry_v,
                                              .staged_k = staged_k,
                                              .staged_v = staged_v,
                                              .clusters = attention.clusters}));
  }
  if (watch_ != nullptr || group.key_weights != nullptr ||
      group.layout->strategy == Strategy::kPyramid) {
    attention.lse = w.lse;
  }
  RASQ_RETURN_IF_ERROR(ops_.StreamAttention(attention));
  if (watch_ != nullptr) RASQ_RETURN_IF_ERROR(Watch(layer, attention));
  if (group.key_weights != nullptr) RASQ_RETURN_IF_ERROR(WeighKeys(layer, group, attention));

  // Only now: the rows and slots that this overwrites were still to be read.
  if (has_clusters && group.retrieves) {
    RASQ_RETURN_IF_ERROR(ops_.KeepClusters({.batch = group.batch,
                                            .num_kv_heads = config_.num_kv_heads,
                                            .clusters = attention.clusters}));
  }
  if (reads_memory && group.retrieves) {
    RASQ_RETURN_IF_ERROR(Commit(group, state.entry_k, staged_k, entry_bytes));
    RASQ_RETURN_IF_ERROR(Commit(group, state.entry_v, staged_v, entry_bytes));
  }
  const int64_t bytes = exact_row * SizeOf(element);
  RASQ_RETURN_IF_ERROR(WriteRing(group, state.ring_k, shape.ring_rows, w.k, bytes));
  RASQ_RETURN_IF_ERROR(KeepQueries(layer, group));
  return WriteRing(group, state.ring_v, shape.ring_rows, w.v, bytes);
}

absl::Status Model::Index(int32_t layer, const DeviceGroup& group) {
  const LayerWeights& weights = weights_.layers[layer];
  Workspace& w = workspace_;
  return ops_.IndexTokens({.batch = group.batch,
                           .projected = w.projected,
                           .projected_stride = weights.index->out(),
                           .index_dim = memory_.index_dim,
                           .has_gate = layer == memory_.retrieval_layers.front(),
                           .gate_bias = weights.gate_bias,
                           .query = w.index_query,
                           .key = w.index_key,
                           .element = ops_.element(),
                           .entry_type = memory_.entry_type,
                           .pinned = pinned_,
                           .policy = group.write,
                           .log_gate = w.log_gate,
                           .priority = w.priority});
}

absl::Status Model::Retrieve(int32_t layer, const DeviceGroup& group) {
  const StateLayout& layout = *group.layout;
  const StreamShape& shape = layout.shape;
  const int32_t retrieval = memory_.RetrievalIndex(layer);
  const RetrievalState& state = layout.retrievals[retrieval];
  Workspace& w = workspace_;
  const DType element = ops_.element();
  const int64_t query_bytes = memory_.index_dim * SizeOf(element);
  const int64_t index_bytes =
      EntryRowBytes(memory_.entry_type, element, /*heads=*/1, memory_.index_dim);
  void* staged_index = Rows(w.staged_index, group.first_staged, index_bytes);
  double* staged_priority = w.staged_priority + group.first_staged;
  float* staged_log_gate = w.staged_log_gate + group.first_staged;
  int32_t* staged_token = w.staged_token + group.first_staged;
  int32_t* slot = w.slot + group.first_staged;
  int32_t* born = w.born + group.first_entry;
  int32_t* died = w.died + group.first_entry;
  int64_t* row_position = w.row_position + group.first_entry;
  float* row_log_gate = w.row_log_gate + group.first_entry;
  float* score = w.score + group.first_segment * w.score_stride;
  float* key = w.key + group.first_segment * w.score_stride;

  if (group.retrieves) {
    RASQ_RETURN_IF_ERROR(Stage(group, state.ring_index, w.index_key, staged_index, index_bytes));
    if (retrieval == 0) {  // who survives is decided once, for all layers
      RASQ_RETURN_IF_ERROR(
          Stage(group, layout.ring_priority, w.priority, staged_priority, sizeof(double)));
      RASQ_RETURN_IF_ERROR(
          Stage(group, layout.ring_log_gate, w.log_gate, staged_log_gate, sizeof(float)));
      RASQ_RETURN_IF_ERROR(Stage(group, layout.ring_token, token_, staged_token, sizeof(int32_t)));
      RASQ_RETURN_IF_ERROR(
          ops_.ReplaceEntries({.batch = group.batch,
                               .shape = shape,
                               .position_offset = layout.entry_position,
                               .priority_offset = layout.entry_priority,
                               .log_gate_offset = layout.entry_log_gate,
                               .token_offset = layout.entry_token,
                               .staged_priority = staged_priority,
                               .staged_log_gate = staged_log_gate,
                               .staged_token = staged_token,
                               .born = born,
                               .died = died,
                               .row_position = row_position,
                               .row_log_gate = row_log_gate,
                               .row_token = w.row_token + group.first_entry,
                               .slot = slot,
                               .num_replaced = w.num_replaced + group.first_chunk}));
      if (layout.has_summaries()) RASQ_RETURN_IF_ERROR(LoseEntries(group));
    }
    RASQ_RETURN_IF_ERROR(ops_.RetrievalScores({.batch = group.batch,
                                               .shape = shape,
                                               .index_dim = memory_.index_dim,
                                               .element = element,
                                               .entry_type = memory_.entry_type,
                                               .temperature = weights_.layers[layer].temperature,
                                               .query_ring_offset = state.ring_query,
                                               .query = w.index_query,
                                               .entry_index_offset = state.entry_index,
                                               .staged_index = staged_index,
                                               .born = born,
                                               .died = died,
                                               .row_log_gate = row_log_gate,
                                               .score = score,
                                               .key = key,
                                               .stride = w.score_stride}));
    RASQ_RETURN_IF_ERROR(ChooseBudgets(layer, group));
  }
  RASQ_RETURN_IF_ERROR(
      ops_.SelectEntries({.batch = group.batch,
                          .shape = shape,
                          .score = score,
                          .key = key,
                          .stride = w.score_stride,
                          .row_position = row_position,
                          .row_log_gate = row_log_gate,
                          .slot = slot,
                          .policy = group.read,
                          .factor = BudgetFactors(group),
                          .budget = w.selected_budget[retrieval] + group.first_segment,
                          .state = state.selection,
                          .selected = SelectedOf(retrieval, group)}));
  if (layout.has_summaries()) RASQ_RETURN_IF_ERROR(ListSummaries(retrieval, group));
  if (group.retrieves) {
    RASQ_RETURN_IF_ERROR(Commit(group, state.entry_index, staged_index, index_bytes));
  }
  RASQ_RETURN_IF_ERROR(
      WriteRing(group, state.ring_index, shape.ring_rows, w.index_key, index_bytes));
  RASQ_RETURN_IF_ERROR(
      WriteRing(group, state.ring_query, shape.segment_rows, w.index_query, query_bytes));
  if (retrieval != 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(
      WriteRing(group, layout.ring_priority, shape.ring_rows, w.priority, sizeof(double)));
  RASQ_RETURN_IF_ERROR(
      WriteRing(group, layout.ring_log_gate, shape.ring_rows, w.log_gate, sizeof(float)));
  return WriteRing(group, layout.ring_token, shape.ring_rows, token_, sizeof(int32_t));
}

const float* Model::BudgetFactors(const DeviceGroup& group) const {
  if (!memory_.has_budget_head()) return nullptr;
  return workspace_.budget_factor + group.first_segment;
}

absl::Status Model::ChooseBudgets(int32_t layer, const DeviceGroup& group) {
  if (!memory_.has_budget_head()) return absl::OkStatus();
  const LayerWeights& weights = weights_.layers[layer];
  const RetrievalState& state = group.layout->retrievals[memory_.RetrievalIndex(layer)];
  const auto floats = [](const FloatBuffer& buffer) {
    return reinterpret_cast<const float*>(buffer->data());
  };
  return ops_.BudgetHead({.batch = group.batch,
                          .shape = group.layout->shape,
                          .index_dim = memory_.index_dim,
                          .num_factors = static_cast<int32_t>(memory_.budget_factors.size()),
                          .element = ops_.element(),
                          .query_ring_offset = state.ring_query,
                          .query = workspace_.index_query,
                          .weight = floats(weights.budget_weight),
                          .bias = floats(weights.budget_bias),
                          .factors = floats(weights_.budget_factors),
                          .factor = workspace_.budget_factor + group.first_segment});
}

absl::Status Model::Stage(const DeviceGroup& group, int64_t ring_offset, const void* chunk,
                          void* staged, int64_t row_bytes) {
  return ops_.StageRows({.batch = group.batch,
                         .shape = group.layout->shape,
                         .ring_offset = ring_offset,
                         .chunk = chunk,
                         .staged = staged,
                         .row_bytes = row_bytes});
}

absl::Status Model::Commit(const DeviceGroup& group, int64_t entries_offset, const void* staged,
                           int64_t row_bytes) {
  return ops_.CommitRows({.batch = group.batch,
                          .entries_offset = entries_offset,
                          .staged = staged,
                          .slot = workspace_.slot + group.first_staged,
                          .row_bytes = row_bytes});
}

absl::Status Model::WriteRing(const DeviceGroup& group, int64_t ring_offset, int32_t ring_rows,
                              const void* chunk, int64_t row_bytes) {
  return ops_.WriteRing({.batch = group.batch,
                         .ring_offset = ring_offset,
                         .ring_rows = ring_rows,
                         .chunk = chunk,
                         .row_bytes = row_bytes});
}

EntryClusters Model::ClustersOf(int32_t layer, const DeviceGroup& group) const {
  const ClusterLayout& at = group.layout->cluster_layout;
  return {.segments = workspace_.clusters +
                      int64_t{group.first_segment} * config_.num_kv_heads * at.head_bytes,
          .state_offset = group.layout->layers[layer].clusters,
          .num_clusters = memory_.num_clusters,
          .read_clusters = memory_.read_clusters,
          .min_entries = memory_.cluster_min_entries,
          .layout = at};
}

SelectedEntries Model::SelectedOf(int32_t retrieval, const DeviceGroup& group) const {
  const SelectedEntries& all = workspace_.selected[retrieval];
  const int64_t first = int64_t{group.first_segment} * group.layout->shape.max_selected;
  return {.count = all.count + group.first_segment,
          .row = all.row + first,
          .score = all.score + first,
          .log_gate = all.log_gate + first,
          .position = all.position + first};
}

}  // namespace rasq
