// Where everything that a stream owns lies in its state, one slab of bytes of constant size. One
// code path computes offsets and size, so sizing and layout cannot drift apart.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model_config.h"
#include "engine/store_plan.h"
#include "engine/types.h"
#include "kernels/cluster_entries.h"
#include "kernels/entry_rows.h"
#include "kernels/ops.h"
#include "kernels/select_entries.h"
#include "kernels/stream_batch.h"

namespace rasq {

// Offsets in bytes, each a multiple of 256.
struct LayerState {
  int64_t ring_k = 0;  // [ring_rows, num_kv_heads, head_dim], rotated
  int64_t ring_v = 0;  // [ring_rows, num_kv_heads, head_dim]
  int64_t sink_k = 0;  // [sink_rows, num_kv_heads, head_dim], un-rotated
  int64_t sink_v = 0;  // [sink_rows, num_kv_heads, head_dim]
  // [capacity + num_summaries] rows of entry_rows.h, [num_kv_heads, entry_dim] each
  int64_t entry_k = 0;
  int64_t entry_v = 0;    // the same
  int64_t clusters = 0;   // [num_kv_heads, cluster_layout.head_bytes], if the layout has clusters
  int64_t summary_k = 0;  // float [num_kv_heads, num_summaries, entry_dim]: summarize_entries.h
  int64_t summary_v = 0;  // the same
  // Of strategies that keep a store:
  int64_t store_k = 0;  // [store.rows[layer], head_dim], rotated
  int64_t store_v = 0;  // the same
  int64_t mean_k = 0;   // double [num_kv_heads, head_dim], of strategy razor: razor_entries.h
  int64_t mean_v = 0;   // the same
  // Of strategy pyramid: pyramid_entries.h.
  int64_t recent_query = 0;  // [num_queries, num_heads, head_dim]
  int64_t recent_lse = 0;    // float [num_queries, num_heads]
  int64_t order = 0;         // int32 [num_kv_heads, rows of a kv head]
  int64_t order_count = 0;   // int32 [num_kv_heads]
  ChunkTable chunks = {};    // of strategy gca: chunk_entries.h
};

struct RetrievalState {
  int64_t ring_index = 0;   // [ring_rows] rows of entry_rows.h, [1, index_dim]: index keys
  int64_t ring_query = 0;   // [segment_rows, index_dim]: the retriever's queries
  int64_t entry_index = 0;  // [capacity] rows as ring_index's
  SelectionOffsets selection = {};
};

struct StateLayout {
  Strategy strategy = Strategy::kWindow;
  StreamShape shape = {};
  EntryType entry_type = EntryType::kElement;  // of keys and values; kElement without a memory
  bool exact_entries = false;                  // see MemoryConfig
  int32_t entry_dim = 0;                       // compressed_dim, or head_dim of exact entries
  ClusterLayout cluster_layout = {};
  int32_t num_summaries = 0;               // slots behind the buffer's: see MemoryConfig
  std::vector<LayerState> layers;          // [num_layers]
  std::vector<RetrievalState> retrievals;  // [retrieval_layers]; empty without a memory
  // The table of entries, and of the window's tokens that will become entries.
  int64_t ring_priority = 0;   // double [ring_rows]
  int64_t ring_log_gate = 0;   // float [ring_rows]
  int64_t ring_token = 0;      // int32 [ring_rows]
  int64_t entry_position = 0;  // int64 [capacity], -1: empty
  int64_t entry_priority = 0;  // double [capacity]
  int64_t entry_log_gate = 0;  // float [capacity]
  int64_t entry_token = 0;     // int32 [capacity]
  int64_t summary_mass = 0;    // float, if the layout has summaries
  StorePlan store;
  int64_t bytes = 0;

  // Tokens at which the stream refuses more; 0: never.
  int32_t max_context() const {
    return strategy == Strategy::kFull ? shape.window_rows : store.max_context;
  }
  bool has_store() const { return store.max_listed > 0; }
  bool has_memory() const { return shape.capacity > 0; }
  bool has_clusters() const { return cluster_layout.head_bytes > 0; }
  bool has_summaries() const { return num_summaries > 0; }
  // As attention has it, for which summaries are entries.
  StreamShape read_shape() const {
    StreamShape read = shape;
    read.capacity += num_summaries;
    read.max_selected += num_summaries;
    return read;
  }
  // Nothing may leave the window: it holds all that is read.
  bool keeps_all() const { return strategy == Strategy::kFull || keeps_history(); }
  // A session of it has no such state, but its generations do: its text is kept on the host.
  bool keeps_history() const { return KeepsHistory(strategy); }
};

// Of the clusters of a segment that may read so many entries; all zero if it can have none.
ClusterLayout ClusterLayoutOf(const MemoryConfig& memory, int32_t max_selected, DType element);

// The layout of a strategy. kFull has a window of full_context_tokens. kFailedPrecondition if the
// model has no memory and the strategy needs one; kInvalidArgument if the strategy does not fit in
// the bytes that it may have.
absl::StatusOr<StateLayout> MakeStateLayout(Strategy strategy, const ModelConfig& model,
                                            const MemoryConfig& memory, DType element,
                                            const StoreOptions& options);

// Makes `state` that of a stream without tokens: zeroes, and every entry empty. Clears whatever
// stood there before.
absl::Status ResetState(const StateLayout& layout, Ops& ops, std::byte* state);

}  // namespace rasq
