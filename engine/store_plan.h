// How much the published methods keep behind the window: strategies razor, pyramid and gca hold
// exact keys and values of some of the tokens that have left it (kernels/head_lists.h). As
// published, each grows with the stream, here up to the engine's full_context_tokens. With a bound
// of BaselineOptions::state_bytes each has a state of constant size instead, which no publication
// has; the largest that fits:
//   razor    as the method would be at N tokens: retrieval heads keep the newest N, first in, first
//            out, the others N / C and at least the window; S0 is not heeded, since alone it would
//            often be more than fits. N is the most that fits.
//   pyramid  layer budgets by the paper's formula from a mean of B tokens, chosen anew from what is
//            kept and what leaves the window whenever a segment begins. B is the most that fits.
//   gca      M chunks, of which that one falls out that was read least. M is the most that fits.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model_config.h"
#include "engine/types.h"
#include "kernels/ops.h"

namespace rasq {

// Of strategy pyramid: pyramid_entries.h.
struct PyramidPlan {
  int32_t mean_tokens = 0;  // B
  int32_t beta = 0;
  int32_t num_queries = 0;
  int32_t pool_rows = 0;
  std::vector<int32_t> rows;  // [layers]: of a kv head
  // Chosen anew whenever tokens leave the window; else once, when a generation's prompt is read.
  bool streams = false;
};

// Of strategy gca: chunk_entries.h.
struct ChunkPlan {
  int32_t kept = 0;  // of a kv head: M
  int32_t read = 0;  // of them, by a segment
};

struct StorePlan {
  int32_t max_listed = 0;     // entries of a kv head that a segment may read; 0: there is no store
  int32_t max_context = 0;    // tokens at which the stream refuses more; 0: never
  std::vector<int32_t> rows;  // [layers]: of the store, each of one kv head
  std::vector<RazorPolicy> razor;  // [layers], of strategy razor
  ChunkPlan chunks;                // of strategy gca
  PyramidPlan pyramid;             // of strategy pyramid
};

// What plans follow from, beside the model.
struct StoreOptions {
  int32_t full_context_tokens = 0;
  BaselineOptions baselines = {};
  // [layers]: kv heads that retrieve, as bits; needed for strategy razor.
  std::vector<uint64_t> retrieval_heads = {};
};

constexpr bool KeepsStore(Strategy strategy) {
  return strategy == Strategy::kRazor || strategy == Strategy::kPyramid ||
         strategy == Strategy::kGca;
}

// Of a strategy that keeps a store. `size` is N, B or M of the bounded form; 0: as published.
StorePlan MakeStorePlan(Strategy strategy, const ModelConfig& model, const MemoryConfig& memory,
                        const StoreOptions& options, int32_t size);

// What the meaning of a state depends on beside its size, by name; empty without a store.
std::map<std::string, std::string> DescribePlan(const StorePlan& plan);

// Ranges of the options: kInvalidArgument names one that is not in its own.
absl::Status ValidateBaselines(const BaselineOptions& options);

}  // namespace rasq
