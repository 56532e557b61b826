// A checkpoint's weights on the device, as the operations want them.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/checkpoint.h"
#include "kernels/ops.h"

namespace rasq {

// A vector or small table of float32 on the device; null if the model has none.
using FloatBuffer = std::unique_ptr<Buffer>;

struct LayerWeights {
  FloatBuffer attention_norm;       // [hidden]
  std::unique_ptr<Matrix> qkv;      // [(num_heads + 2 * num_kv_heads) * head_dim, hidden]
  FloatBuffer qkv_bias;             // the same rows; null: none
  FloatBuffer q_norm;               // [head_dim]; null: none
  FloatBuffer k_norm;               // [head_dim]; null: none
  std::unique_ptr<Matrix> output;   // [hidden, num_heads * head_dim]
  FloatBuffer mlp_norm;             // [hidden]
  std::unique_ptr<Matrix> gate_up;  // [2 * intermediate, hidden]
  std::unique_ptr<Matrix> down;     // [hidden, intermediate]

  // Layers that read memory; null in the others.
  std::unique_ptr<Buffer> key_down;    // P_k [num_kv_heads, compressed_dim, head_dim], elements
  std::unique_ptr<Buffer> value_down;  // P_v
  std::unique_ptr<Buffer> key_up;      // P_k^+ [num_kv_heads, head_dim, compressed_dim]
  std::unique_ptr<Buffer> value_up;    // P_v^+
  FloatBuffer score_weight;            // a [num_heads]
  FloatBuffer age_slope;               // [num_heads]
  FloatBuffer summary_query;           // u [num_kv_heads, num_summaries, compressed_dim]; null
                                       // without summaries

  // Retrieval layers; null in the others.
  std::unique_ptr<Matrix> index;  // W_q, W_c, and in the first retrieval layer w_g:
                                  // [2 * index_dim (+ 1), up to a multiple of 8; hidden]
  FloatBuffer budget_weight;      // W_b [num_factors, index_dim]; null without a budget head
  FloatBuffer budget_bias;        // b_b [num_factors]
  float temperature = 0;          // tau
  float gate_bias = 0;            // b_g, in the first retrieval layer
};

struct Weights {
  std::unique_ptr<Buffer> embedding;  // [vocab, hidden], of the element type
  std::vector<LayerWeights> layers;
  std::unique_ptr<Buffer> identity;  // in place of P_k and P_v where nothing is compressed:
                                     // [num_kv_heads, head_dim, head_dim], elements
  FloatBuffer budget_factors;        // [num_factors]; null without a budget head
  FloatBuffer final_norm;            // [hidden]
  std::unique_ptr<Matrix> head;      // [vocab, hidden]
};

// Errors name the tensor.
absl::StatusOr<Weights> LoadWeights(const Checkpoint& checkpoint, Ops& ops);

// P^+ = P^T (P P^T)^-1 of each [rows, columns] matrix of `matrices`: [columns, rows] each. Computed
// in double. kInvalidArgument if the rows of one are not independent.
absl::StatusOr<std::vector<float>> PseudoInverses(const std::vector<float>& matrices,
                                                  int64_t num_matrices, int64_t rows,
                                                  int64_t columns);

}  // namespace rasq
