// Layers of strategies that keep a store: what leaves the window is kept by the strategy's rule
// before the layer attends, and attention reads each kv head's list.
#include <algorithm>
#include <utility>
#include <vector>

#include "engine/model.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

// Words of 4 bytes that a strategy's operation works with for a list, beside it.
int64_t ScratchWords(const StateLayout& layout) {
  const StorePlan& plan = layout.store;
  switch (layout.strategy) {
    case Strategy::kPyramid:
      return 2 * (int64_t{plan.max_listed} + layout.shape.segment_rows);
    case Strategy::kGca:
      return int64_t{plan.chunks.kept} + plan.chunks.read;
    default:
      return 0;
  }
}

}  // namespace

// The lists' rows and biases, then the scratch.
absl::Status Model::Serve(const StateLayout& layout) {
  if (!layout.has_store()) return absl::OkStatus();
  max_listed_ = std::max<int64_t>(max_listed_, layout.store.max_listed);
  max_scratch_ = std::max(max_scratch_, ScratchWords(layout));
  const int64_t lists = int64_t{limits_.max_store_streams} * config_.num_kv_heads;
  lists_ = nullptr;
  RASQ_ASSIGN_OR_RETURN(
      lists_, ops_.Allocate(lists * (2 * max_listed_ + max_scratch_) * int64_t{sizeof(float)}));
  return absl::OkStatus();
}

HeadLists Model::ListsOf(int32_t layer, const DeviceGroup& group) const {
  const int64_t lists = int64_t{limits_.max_store_streams} * config_.num_kv_heads;
  auto* row = reinterpret_cast<int32_t*>(lists_->data());
  return {
      .count = workspace_.listed_count[layer] + int64_t{group.first_store} * config_.num_kv_heads,
      .row = row,
      .bias = reinterpret_cast<float*>(row + lists * max_listed_)};
}

// The scratch behind the first `words` of each list.
std::byte* Model::ScratchOf(int64_t words) const {
  const int64_t lists = int64_t{limits_.max_store_streams} * config_.num_kv_heads;
  return lists_->data() + lists * (2 * max_listed_ + words) * int64_t{sizeof(float)};
}

const int32_t* Model::UploadBudgets(absl::Span<const StreamStep> streams, const StepGroup& group) {
  const PyramidPlan& plan = group.layout->store.pyramid;
  if (plan.rows.empty()) return nullptr;
  constexpr int32_t kNoChoice = -1;
  std::vector<int32_t> budget;
  budget.reserve(config_.num_layers * group.chunks.size());
  for (int32_t l = 0; l < config_.num_layers; ++l) {
    for (size_t c = 0; c < group.chunks.size(); ++c) {
      const bool ends = c < group.stream.size() && streams[group.stream[c]].prompt_ends;
      if (plan.streams) {
        budget.push_back(plan.rows[l]);
      } else if (ends) {
        budget.push_back(static_cast<int32_t>(PyramidBudget(plan.mean_tokens, memory_.window,
                                                            plan.beta, l, config_.num_layers,
                                                            group.chunks[c].first_position)));
      } else {
        budget.push_back(kNoChoice);
      }
    }
  }
  return workspace_.upload.Put<int32_t>(budget);
}

absl::Status Model::KeepInStore(int32_t layer, const DeviceGroup& group,
                                StreamAttentionArgs& attention) {
  const LayerState& state = group.layout->layers[layer];
  attention.shape.capacity = group.layout->store.rows[layer];
  attention.shape.max_selected = group.layout->store.max_listed;
  RASQ_RETURN_IF_ERROR(KeepByStrategy(layer, group,
                                      {.batch = group.batch,
                                       .shape = attention.shape,
                                       .element = ops_.element(),
                                       .num_kv_heads = config_.num_kv_heads,
                                       .head_dim = config_.head_dim,
                                       .ring_k_offset = state.ring_k,
                                       .ring_v_offset = state.ring_v,
                                       .store_k_offset = state.store_k,
                                       .store_v_offset = state.store_v},
                                      attention));
  const HeadLists lists = ListsOf(layer, group);
  attention.reads_memory = true;
  attention.entry_type = EntryType::kElement;
  attention.compressed_dim = config_.head_dim;
  attention.selected = {.count = lists.count,
                        .row = lists.row,
                        .score = nullptr,
                        .log_gate = lists.bias,
                        .position = nullptr};
  attention.entry_k_offset = state.store_k;
  attention.entry_v_offset = state.store_v;
  attention.staged_k = workspace_.staged_k;  // of which no list names a row
  attention.staged_v = workspace_.staged_v;
  attention.entries_per_head = true;
  return absl::OkStatus();
}

absl::Status Model::KeepByStrategy(int32_t layer, const DeviceGroup& group, const HeadStore& store,
                                   StreamAttentionArgs& attention) {
  const LayerState& state = group.layout->layers[layer];
  const StorePlan& plan = group.layout->store;
  const HeadLists lists = ListsOf(layer, group);
  if (group.layout->strategy == Strategy::kRazor) {
    return ops_.RazorEntries({.store = store,
                              .policy = plan.razor[layer],
                              .mean_k_offset = state.mean_k,
                              .mean_v_offset = state.mean_v,
                              .lists = lists});
  }
  if (group.layout->strategy == Strategy::kGca) {
    auto* weight = reinterpret_cast<float*>(ScratchOf(plan.chunks.kept));
    attention.fused_weight = weight;
    return ops_.ChunkEntries({.store = store,
                              .chunks = plan.chunks.kept,
                              .read_chunks = plan.chunks.read,
                              .table = state.chunks,
                              .score = reinterpret_cast<float*>(ScratchOf(0)),
                              .lists = lists,
                              .fused_weight = weight});
  }
  const int64_t candidates = int64_t{plan.max_listed} + memory_.segment;
  return ops_.PyramidEntries({.store = store,
                              .num_heads = config_.num_heads,
                              .rows = plan.pyramid.rows[layer],
                              .num_queries = plan.pyramid.num_queries,
                              .pool_rows = plan.pyramid.pool_rows,
                              .query_offset = state.recent_query,
                              .lse_offset = state.recent_lse,
                              .order_offset = state.order,
                              .count_offset = state.order_count,
                              .budget = group.budget + int64_t{layer} * group.batch.num_chunks,
                              .weight = reinterpret_cast<float*>(ScratchOf(0)),
                              .scratch = reinterpret_cast<int32_t*>(ScratchOf(candidates)),
                              .lists = lists});
}

absl::Status Model::KeepQueries(int32_t layer, const DeviceGroup& group) {
  const LayerState& state = group.layout->layers[layer];
  if (group.layout->strategy == Strategy::kGca) {
    return ops_.ChunkQueries({.batch = group.batch,
                              .element = ops_.element(),
                              .num_heads = config_.num_heads,
                              .num_kv_heads = config_.num_kv_heads,
                              .head_dim = config_.head_dim,
                              .q = workspace_.q,
                              .table = state.chunks});
  }
  if (group.layout->strategy != Strategy::kPyramid) return absl::OkStatus();
  const int32_t rows = group.layout->store.pyramid.num_queries;
  const int64_t heads = config_.num_heads;
  RASQ_RETURN_IF_ERROR(WriteRing(group, state.recent_query, rows, workspace_.q,
                                 heads * config_.head_dim * SizeOf(ops_.element())));
  return WriteRing(group, state.recent_lse, rows, workspace_.lse, heads * int64_t{sizeof(float)});
}

}  // namespace rasq
