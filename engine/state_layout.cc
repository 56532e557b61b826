#include "engine/state_layout.h"

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

constexpr int64_t kAlignment = 256;

// Hands out consecutive aligned ranges.
class Ranges {
 public:
  int64_t Take(int64_t bytes) {
    const int64_t offset = end_;
    end_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return offset;
  }
  int64_t end() const { return end_; }

 private:
  int64_t end_ = 0;
};

StreamShape ShapeOf(Strategy strategy, const MemoryConfig& memory, int32_t full_context_tokens) {
  StreamShape shape{.window_rows = memory.window,
                    .segment_rows = memory.segment,
                    .sink_rows = memory.sinks,
                    .capacity = 0,
                    .max_selected = 0,
                    .memory_span = memory.max_budget,
                    .ring_rows = 0};
  if (strategy == Strategy::kFull) {  // nothing leaves the window: no sinks apart from it
    shape.window_rows = full_context_tokens;
    shape.sink_rows = 0;
  }
  if (strategy == Strategy::kRasq) {
    shape.capacity = memory.capacity;
    shape.max_selected = std::min(memory.max_budget, memory.capacity);
  }
  if (KeepsStore(strategy))
    shape.sink_rows = 0;  // the store holds the first tokens where they stood
  shape.ring_rows = shape.window_rows + shape.segment_rows;
  return shape;
}

// What a layer's store needs, and its strategy beside it.
void TakeStore(int32_t layer, const ModelConfig& model, DType element, Ranges& ranges,
               StateLayout& layout) {
  LayerState& state = layout.layers[layer];
  const int64_t store = int64_t{layout.store.rows[layer]} * model.head_dim * SizeOf(element);
  state.store_k = ranges.Take(store);
  state.store_v = ranges.Take(store);
  if (layout.strategy == Strategy::kRazor) {
    const int64_t means = int64_t{model.num_kv_heads} * model.head_dim * int64_t{sizeof(double)};
    state.mean_k = ranges.Take(means);
    state.mean_v = ranges.Take(means);
  }
  if (layout.strategy == Strategy::kPyramid) {
    const int64_t queries = int64_t{layout.store.pyramid.num_queries} * model.num_heads;
    const int64_t rows = layout.store.rows[layer];
    state.recent_query = ranges.Take(queries * model.head_dim * SizeOf(element));
    state.recent_lse = ranges.Take(queries * int64_t{sizeof(float)});
    state.order = ranges.Take(rows * int64_t{sizeof(int32_t)});
    state.order_count = ranges.Take(model.num_kv_heads * int64_t{sizeof(int32_t)});
  }
  if (layout.strategy == Strategy::kGca) {
    constexpr int64_t kWord = 4;  // int32 and float
    const int64_t heads = model.num_kv_heads, kept = heads * layout.store.chunks.kept,
                  read = heads * layout.store.chunks.read;
    state.chunks = {.number = ranges.Take(kept * kWord),
                    .key_sum = ranges.Take(kept * model.head_dim * kWord),
                    .used = ranges.Take(kept * kWord),
                    .read_count = ranges.Take(heads * kWord),
                    .read_chunk = ranges.Take(read * kWord),
                    .read_weight = ranges.Take(read * kWord),
                    .query_sum = ranges.Take(heads * model.head_dim * kWord),
                    .query_count = ranges.Take(heads * kWord)};
  }
}

StateLayout LayOut(Strategy strategy, const ModelConfig& model, const MemoryConfig& memory,
                   DType element, int32_t full_context_tokens, StorePlan store) {
  StateLayout layout;
  layout.strategy = strategy;
  layout.shape = ShapeOf(strategy, memory, full_context_tokens);
  layout.store = std::move(store);
  const StreamShape& shape = layout.shape;
  const int64_t element_bytes = SizeOf(element);
  const int64_t exact_row = int64_t{model.num_kv_heads} * model.head_dim * element_bytes;
  const int64_t query_row = memory.index_dim * element_bytes;
  if (layout.has_memory()) {
    layout.exact_entries = memory.exact_entries;
    layout.entry_type = memory.exact_entries ? EntryType::kElement : memory.entry_type;
    layout.entry_dim = memory.exact_entries ? model.head_dim : memory.compressed_dim;
    layout.num_summaries = memory.exact_entries ? 0 : memory.num_summaries;
  }
  const int64_t entry_row =
      EntryRowBytes(layout.entry_type, element, model.num_kv_heads, layout.entry_dim);
  const int64_t index_row =
      EntryRowBytes(memory.entry_type, element, /*heads=*/1, memory.index_dim);
  layout.cluster_layout = ClusterLayoutOf(memory, shape.max_selected, element);
  const int64_t clusters = model.num_kv_heads * layout.cluster_layout.head_bytes;
  const int64_t summaries = int64_t{model.num_kv_heads} * layout.num_summaries * layout.entry_dim *
                            int64_t{sizeof(float)};
  const int64_t ring = shape.ring_rows, capacity = shape.capacity, selected = shape.max_selected;

  Ranges ranges;
  for (int32_t l = 0; l < model.num_layers; ++l) {
    LayerState& layer = layout.layers.emplace_back();
    layer.ring_k = ranges.Take(ring * exact_row);
    layer.ring_v = ranges.Take(ring * exact_row);
    layer.sink_k = ranges.Take(shape.sink_rows * exact_row);
    layer.sink_v = ranges.Take(shape.sink_rows * exact_row);
    if (layout.has_memory() && memory.RetrievalIndex(l) >= 0) {
      layer.entry_k = ranges.Take((capacity + layout.num_summaries) * entry_row);
      layer.entry_v = ranges.Take((capacity + layout.num_summaries) * entry_row);
      if (layout.has_clusters()) layer.clusters = ranges.Take(clusters);
      if (layout.has_summaries()) {
        layer.summary_k = ranges.Take(summaries);
        layer.summary_v = ranges.Take(summaries);
      }
    }
    if (layout.has_store()) TakeStore(l, model, element, ranges, layout);
  }
  if (layout.has_memory()) {
    for (size_t r = 0; r < memory.retrieval_layers.size(); ++r) {
      RetrievalState& retrieval = layout.retrievals.emplace_back();
      retrieval.ring_index = ranges.Take(ring * index_row);
      retrieval.ring_query = ranges.Take(shape.segment_rows * query_row);
      retrieval.entry_index = ranges.Take(capacity * index_row);
      retrieval.selection = {.count = ranges.Take(sizeof(int32_t)),
                             .row = ranges.Take(selected * sizeof(int32_t)),
                             .score = ranges.Take(selected * sizeof(float)),
                             .log_gate = ranges.Take(selected * sizeof(float)),
                             .position = ranges.Take(selected * sizeof(int64_t))};
    }
    layout.ring_priority = ranges.Take(ring * sizeof(double));
    layout.ring_log_gate = ranges.Take(ring * sizeof(float));
    layout.ring_token = ranges.Take(ring * sizeof(int32_t));
    layout.entry_position = ranges.Take(capacity * sizeof(int64_t));
    layout.entry_priority = ranges.Take(capacity * sizeof(double));
    layout.entry_log_gate = ranges.Take(capacity * sizeof(float));
    layout.entry_token = ranges.Take(capacity * sizeof(int32_t));
    if (layout.has_summaries()) layout.summary_mass = ranges.Take(sizeof(float));
  }
  layout.bytes = ranges.end();
  return layout;
}

// The largest size whose states have at most so many bytes.
absl::StatusOr<int32_t> LargestSize(int64_t most_bytes, Strategy strategy,
                                    const std::function<int64_t(int32_t)>& bytes) {
  constexpr int32_t kMost = 1 << 24;
  int32_t fits = 0, exceeds = kMost + 1;
  while (exceeds - fits > 1) {
    const int32_t middle = fits + (exceeds - fits) / 2;
    (bytes(middle) <= most_bytes ? fits : exceeds) = middle;
  }
  if (fits > 0) return fits;
  return absl::InvalidArgumentError(absl::StrCat("baseline_state_bytes=", most_bytes, ": strategy ",
                                                 Name(strategy), " needs at least ", bytes(1)));
}

}  // namespace

ClusterLayout ClusterLayoutOf(const MemoryConfig& memory, int32_t max_selected, DType element) {
  if (memory.exact_entries) return {};
  if (memory.num_clusters == 0 || max_selected <= memory.cluster_min_entries) return {};
  return MakeClusterLayout(memory.num_clusters, memory.compressed_dim, max_selected, element);
}

absl::StatusOr<StateLayout> MakeStateLayout(Strategy strategy, const ModelConfig& model,
                                            const MemoryConfig& memory, DType element,
                                            const StoreOptions& options) {
  RASQ_CHECK(strategy != Strategy::kDefault);
  if (strategy == Strategy::kRasq && !memory.has_memory()) {
    return absl::FailedPreconditionError(
        "strategy=rasq: the model has no memory adapter (rasq_config.json)");
  }
  const auto lay_out = [&](StorePlan store) {
    return LayOut(strategy, model, memory, element, options.full_context_tokens, std::move(store));
  };
  if (!KeepsStore(strategy)) return lay_out({});
  const auto of_size = [&](int32_t size) {
    return lay_out(MakeStorePlan(strategy, model, memory, options, size));
  };
  if (options.baselines.state_bytes == 0) return of_size(0);
  RASQ_ASSIGN_OR_RETURN(const int32_t size,
                        LargestSize(options.baselines.state_bytes, strategy,
                                    [&](int32_t candidate) { return of_size(candidate).bytes; }));
  return of_size(size);
}

absl::Status ResetState(const StateLayout& layout, Ops& ops, std::byte* state) {
  RASQ_RETURN_IF_ERROR(ops.Zero(state, layout.bytes));
  if (!layout.has_memory()) return absl::OkStatus();
  const std::vector<int64_t> empty(layout.shape.capacity, -1);
  return ops.CopyToDevice(state + layout.entry_position, empty.data(),
                          layout.shape.capacity * sizeof(int64_t));
}

}  // namespace rasq
