// The arrays of a step on the device: allocated once, for the largest step there can be.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/model_config.h"
#include "kernels/base/status.h"
#include "kernels/ops.h"

namespace rasq {

// The largest step that a model can be asked for.
struct StepLimits {
  int32_t max_streams = 1;        // in one step
  int32_t max_store_streams = 0;  // of them: those whose layouts have a store
  int32_t max_rows = 512;         // tokens of all streams
  int32_t max_samples = 1;        // streams that draw a token
  int32_t max_alternatives = 20;  // log-probabilities reported beside a drawn token
  int32_t max_seen = 8192;        // distinct tokens that penalties of one stream look at

  // Segments in one step: a stream's first and last may be partial.
  int32_t MaxSegments(int32_t segment_rows) const {
    return max_rows / segment_rows + 3 * max_streams;
  }
};

// Gathers a step's descriptors on the host and moves them to the device in one copy.
class Upload {
 public:
  static absl::StatusOr<Upload> Create(Ops& ops, int64_t bytes);

  // Room for `count` values, to be filled before Flush; `device` is the address that they will
  // have.
  template <typename T>
  absl::Span<T> Reserve(int64_t count, T*& device) {
    const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
    const int64_t offset = (used_ + 15) / 16 * 16;
    RASQ_CHECK(offset + bytes <= host_->bytes());
    used_ = offset + bytes;
    device = reinterpret_cast<T*>(device_->data() + offset);
    return {reinterpret_cast<T*>(host_->data() + offset), static_cast<size_t>(count)};
  }
  // The device address that `values` will have; they are copied now, and there after Flush.
  template <typename T>
  T* Put(absl::Span<const T> values) {
    T* device = nullptr;
    const absl::Span<T> host = Reserve(static_cast<int64_t>(values.size()), device);
    if (!values.empty()) std::memcpy(host.data(), values.data(), values.size() * sizeof(T));
    return device;
  }
  absl::Status Flush(Ops& ops) {
    const int64_t bytes = used_;
    used_ = 0;
    return ops.CopyToDevice(device_->data(), host_->data(), bytes);
  }

 private:
  std::unique_ptr<Buffer> host_;
  std::unique_ptr<Buffer> device_;
  int64_t used_ = 0;
};

// Device pointers, each to its own part of one allocation. E: the element type; rows: max_rows;
// segments, staged and entry rows: see StepBatch.
struct Workspace {
  static absl::StatusOr<Workspace> Create(Ops& ops, const ModelConfig& model,
                                          const MemoryConfig& memory, const StepLimits& limits);

  float* x;         // [rows, hidden]: the residual stream
  void* normed;     // E [rows, hidden]
  float* qkv;       // [rows, (num_heads + 2 * num_kv_heads) * head_dim]
  void* q;          // E [rows, num_heads, head_dim]
  void* k;          // E [rows, num_kv_heads, head_dim]
  void* v;          // E [rows, num_kv_heads, head_dim]
  void* attended;   // E [rows, num_heads, head_dim]
  float* lse;       // [rows, num_heads]: see StreamAttentionArgs
  float* gate_up;   // [rows, 2 * intermediate]
  void* activated;  // E [rows, intermediate]
  float* logits;    // [logit_rows, vocab]

  int64_t logit_rows;     // as many rows have logits at a time: at least all that draw a token
  float* target_logprob;  // [rows]: see StreamStep::targets

  float* row_rotation;     // [rows, head_dim]
  float* memory_rotation;  // [segments, head_dim]
  float* sink_rotation;    // [segments, sinks, head_dim]
  float* staged_rotation;  // [staged, head_dim]

  float* projected;         // [rows, 2 * index_dim + 8]: see LayerWeights::index
  void* index_query;        // E [rows, index_dim]
  void* index_key;          // [rows] rows of entry_rows.h, [1, index_dim] each
  float* log_gate;          // [rows]
  double* priority;         // [rows]
  void* staged_index;       // [staged] rows as index_key's
  float* staged_log_gate;   // [staged]
  double* staged_priority;  // [staged]
  int32_t* staged_token;    // [staged]
  int32_t* slot;            // [staged]
  void* staged_k;           // [staged] rows of entry_rows.h, [num_kv_heads, entry_dim] each; then
                            // [segments, num_summaries]
  void* staged_v;           // the same
  int64_t staged_stride;    // bytes of room for one of these: for the widest that there are
  int32_t* born;            // [entry rows]
  int32_t* died;            // [entry rows]
  int64_t* row_position;    // [entry rows]
  float* row_log_gate;      // [entry rows]
  int32_t* row_token;       // [entry rows]
  float* score;             // [segments, score_stride]
  float* key;               // [segments, score_stride]
  int64_t score_stride;     // elements
  std::byte* clusters;      // [segments, num_kv_heads, cluster_layout.head_bytes] of StateLayout
  float* budget_factor;     // [segments], if the model has a budget head
  std::vector<SelectedEntries>
      selected;  // [retrieval layers]: [segments, budget]; the counts below
  // If the model has summaries (summarize_entries.h):
  LostEntries lost;      // [staged], [segments]
  int32_t* lost_found;   // [staged]
  SelectedEntries read;  // [segments, budget + num_summaries], of one retrieval layer at a time

  // Results, which stand side by side: one copy brings them all to the host.
  int32_t* sampled;                       // [samples]
  float* logprob;                         // [samples]
  int32_t* alternative;                   // [samples, max_alternatives]
  float* alternative_logprob;             // [samples, max_alternatives]
  int32_t* num_replaced;                  // [streams]
  std::vector<int32_t*> selected_count;   // [retrieval layers]: [segments]
  std::vector<int32_t*> selected_budget;  // the same: how many might have been
  std::vector<int32_t*> listed_count;     // [layers]: [store streams, num_kv_heads]

  // Copies the results to the host and waits for the step.
  absl::Status FetchResults(Ops& ops);
  // Where one of the arrays above stands on the host after FetchResults.
  template <typename T>
  const T* OnHost(const T* result) const {
    return reinterpret_cast<const T*>(host_results_->data() +
                                      (reinterpret_cast<const std::byte*>(result) - results_));
  }

  Upload upload;
  int64_t bytes = 0;

 private:
  std::unique_ptr<Buffer> memory_;
  std::unique_ptr<Buffer> host_results_;
  std::byte* results_ = nullptr;
};

}  // namespace rasq
