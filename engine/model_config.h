// What a checkpoint says of itself: config.json (the decoder, Hugging Face names) and
// rasq_config.json (the memory that Rasq adds to it).
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/entry_rows.h"

namespace rasq {

// A decoder of the Llama family: RMSNorm, rotary positions, grouped queries, SwiGLU. The members of
// the family (Llama, Mistral, Qwen2, Qwen3) differ by the two flags of ModelConfig below.
struct ModelConfig {
  std::string architecture;  // as in config.json's `architectures`, e.g. "Qwen3ForCausalLM"
  bool qkv_bias = false;     // q, k and v projections carry a bias (Qwen2)
  bool qk_norm = false;      // per-head RMS norm of queries and keys (Qwen3)
  int32_t vocab = 0;
  int32_t hidden = 0;
  int32_t intermediate = 0;  // width of the feed-forward
  int32_t num_layers = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  float rms_norm_epsilon = 0;
  std::vector<double> inv_freq;  // [head_dim / 2], radians a position; after rope_scaling
  int32_t max_positions = 0;     // max_position_embeddings: what the decoder was trained for
  bool tie_embeddings = false;
  int32_t bos_token_id = -1;           // -1: none
  std::vector<int32_t> eos_token_ids;  // config.json's and generation_config.json's
};

// Errors name the field and its value. `generation_config` may be empty.
absl::StatusOr<ModelConfig> ParseModelConfig(absl::string_view config_json,
                                             absl::string_view generation_config_json);

// Tokens, but for the two widths. The defaults are those for a checkpoint without an adapter.
struct MemoryConfig {
  int32_t segment = 64;                   // s: tokens that share one retrieval
  int32_t window = 448;                   // W: tokens before a segment that are read exactly
  int32_t sinks = 4;                      // first tokens, read for ever
  int32_t capacity = 0;                   // L: entries of the rotating buffer; 0: no memory
  int32_t budget = 0;                     // b0: entries read by a segment
  int32_t max_budget = 0;                 // k_max: the most that may be
  std::vector<int32_t> retrieval_layers;  // R, ascending; memory is read from R[0] up
  int32_t index_dim = 0;                  // d_r, floats
  int32_t compressed_dim = 0;             // d_c, floats
  // Segments that read more than cluster_min_entries entries read those of read_clusters of
  // num_clusters clusters, and the others by their means. 0 clusters: all are read.
  int32_t num_clusters = 0;
  int32_t read_clusters = 8;
  int32_t cluster_min_entries = 128;
  // Slots a layer and kv head that sum up what falls out of the buffer, each a mean that forgets by
  // summary_decay with every segment that loses entries. 0: none. Not together with clusters.
  int32_t num_summaries = 0;
  float summary_decay = 0.99f;
  // The budget head chooses by which of these a segment's budget is multiplied; empty: no head.
  std::vector<float> budget_factors;
  float score_floor = -INFINITY;  // entries whose score and log gate add up to less are not read
  // Not of the checkpoint: how an engine stores the entries.
  EntryType entry_type = EntryType::kElement;
  // The same: entries are un-rotated keys and values themselves, of the element type, in place of
  // compressed ones; and have no clusters.
  bool exact_entries = false;

  bool has_memory() const { return capacity > 0; }
  bool has_budget_head() const { return !budget_factors.empty(); }
  // The retrieval layer whose selection `layer` reads, as an index into retrieval_layers; -1: none.
  int32_t RetrievalIndex(int32_t layer) const;
};

absl::StatusOr<MemoryConfig> ParseMemoryConfig(absl::string_view json, const ModelConfig& model);

}  // namespace rasq
