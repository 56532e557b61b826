#include "engine/weights.h"

#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/dummy_weights.h"
#include "kernels/base/dtype.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

absl::StatusOr<FloatBuffer> ToDevice(const std::vector<float>& values, Ops& ops) {
  const int64_t bytes = static_cast<int64_t>(values.size() * sizeof(float));
  RASQ_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer, ops.Allocate(bytes));
  RASQ_RETURN_IF_ERROR(ops.CopyToDevice(buffer->data(), values.data(), bytes));
  return buffer;
}

absl::StatusOr<std::unique_ptr<Buffer>> TableToDevice(const std::vector<float>& values, Ops& ops) {
  if (ops.element() == DType::kFloat32) return ToDevice(values, ops);
  std::vector<bfloat16> narrow(values.size());
  for (size_t i = 0; i < values.size(); ++i) narrow[i] = ToBfloat16(values[i]);
  const int64_t bytes = static_cast<int64_t>(narrow.size() * sizeof(bfloat16));
  RASQ_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer, ops.Allocate(bytes));
  RASQ_RETURN_IF_ERROR(ops.CopyToDevice(buffer->data(), narrow.data(), bytes));
  return buffer;
}

// A product's weight [out, in] of a dummy: made on the device, since all of them together would be
// slow to make on the host and to move. `name` is the (first) tensor's.
absl::StatusOr<std::unique_ptr<Matrix>> RandomMatrix(absl::string_view name, int64_t out,
                                                     int64_t in, Ops& ops) {
  return ops.RandomMatrix(out, in, DummyScale(in), DummySeed(name));
}

absl::StatusOr<std::unique_ptr<Buffer>> RandomTable(absl::string_view name, int64_t rows,
                                                    int64_t columns, Ops& ops) {
  const int64_t count = rows * columns;
  RASQ_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> table, ops.Allocate(count * SizeOf(ops.element())));
  RASQ_RETURN_IF_ERROR(ops.FillRandom(table->data(), count, DummyScale(columns), DummySeed(name)));
  return table;
}

// Reads one layer's tensors by their names in the checkpoint.
class LayerLoader {
 public:
  LayerLoader(const Checkpoint& checkpoint, Ops& ops, int32_t layer)
      : checkpoint_(checkpoint),
        model_(checkpoint.model()),
        memory_(checkpoint.memory()),
        ops_(ops),
        layer_(layer) {}

  absl::StatusOr<LayerWeights> Load() {
    LayerWeights w;
    RASQ_RETURN_IF_ERROR(LoadDecoder(w));
    const int32_t retrieval = memory_.RetrievalIndex(layer_);
    if (retrieval >= 0) RASQ_RETURN_IF_ERROR(LoadMemory(w));
    if (retrieval >= 0 && memory_.retrieval_layers[retrieval] == layer_) {
      RASQ_RETURN_IF_ERROR(LoadRetriever(w, /*has_gate=*/retrieval == 0));
    }
    return w;
  }

 private:
  absl::Status LoadDecoder(LayerWeights& w) {
    const std::string base = absl::StrCat("model.layers.", layer_, ".");
    const int64_t hidden = model_.hidden, wide = model_.intermediate;
    const int64_t q = int64_t{model_.num_heads} * model_.head_dim;
    const int64_t kv = int64_t{model_.num_kv_heads} * model_.head_dim;
    RASQ_ASSIGN_OR_RETURN(w.attention_norm, Floats(base + "input_layernorm.weight", {hidden}));
    RASQ_ASSIGN_OR_RETURN(w.qkv, Stack({{base + "self_attn.q_proj.weight", q},
                                        {base + "self_attn.k_proj.weight", kv},
                                        {base + "self_attn.v_proj.weight", kv}},
                                       hidden));
    if (model_.qkv_bias) {
      std::vector<float> bias;
      for (const auto& [name, rows] : {std::pair("q", q), std::pair("k", kv), std::pair("v", kv)}) {
        const std::string tensor = absl::StrCat(base, "self_attn.", name, "_proj.bias");
        RASQ_ASSIGN_OR_RETURN(std::vector<float> part, checkpoint_.Floats(tensor, {rows}));
        bias.insert(bias.end(), part.begin(), part.end());
      }
      RASQ_ASSIGN_OR_RETURN(w.qkv_bias, ToDevice(bias, ops_));
    }
    if (model_.qk_norm) {
      RASQ_ASSIGN_OR_RETURN(w.q_norm, Floats(base + "self_attn.q_norm.weight", {model_.head_dim}));
      RASQ_ASSIGN_OR_RETURN(w.k_norm, Floats(base + "self_attn.k_norm.weight", {model_.head_dim}));
    }
    RASQ_ASSIGN_OR_RETURN(w.output, Stack({{base + "self_attn.o_proj.weight", hidden}}, q));
    RASQ_ASSIGN_OR_RETURN(w.mlp_norm, Floats(base + "post_attention_layernorm.weight", {hidden}));
    RASQ_ASSIGN_OR_RETURN(w.gate_up, Stack({{base + "mlp.gate_proj.weight", wide},
                                            {base + "mlp.up_proj.weight", wide}},
                                           hidden));
    RASQ_ASSIGN_OR_RETURN(w.down, Stack({{base + "mlp.down_proj.weight", hidden}}, wide));
    return absl::OkStatus();
  }

  absl::Status LoadMemory(LayerWeights& w) {
    const std::string base = absl::StrCat("layers.", layer_, ".memory.");
    RASQ_RETURN_IF_ERROR(LoadProjection(base + "key_down.weight", w.key_down, w.key_up));
    RASQ_RETURN_IF_ERROR(LoadProjection(base + "value_down.weight", w.value_down, w.value_up));
    RASQ_ASSIGN_OR_RETURN(w.score_weight, Floats(base + "score_weight", {model_.num_heads}));
    RASQ_ASSIGN_OR_RETURN(w.age_slope, Floats(base + "age_slope", {model_.num_heads}));
    if (memory_.num_summaries == 0) return absl::OkStatus();
    RASQ_ASSIGN_OR_RETURN(
        w.summary_query, Floats(base + "summary_query", {model_.num_kv_heads, memory_.num_summaries,
                                                         memory_.compressed_dim}));
    return absl::OkStatus();
  }

  absl::Status LoadProjection(const std::string& name, std::unique_ptr<Buffer>& down,
                              std::unique_ptr<Buffer>& up) {
    const int64_t heads = model_.num_kv_heads, rank = memory_.compressed_dim;
    RASQ_ASSIGN_OR_RETURN(std::vector<float> values,
                          checkpoint_.Floats(name, {heads, rank, model_.head_dim}));
    absl::StatusOr<std::vector<float>> inverse =
        PseudoInverses(values, heads, rank, model_.head_dim);
    if (!inverse.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": ", inverse.status().message()));
    }
    RASQ_ASSIGN_OR_RETURN(down, TableToDevice(values, ops_));
    RASQ_ASSIGN_OR_RETURN(up, TableToDevice(*inverse, ops_));
    return absl::OkStatus();
  }

  absl::Status LoadRetriever(LayerWeights& w, bool has_gate) {
    const std::string base = absl::StrCat("layers.", layer_, ".");
    std::vector<std::pair<std::string, int64_t>> parts = {
        {base + "retriever.query_proj.weight", memory_.index_dim},
        {base + "retriever.key_proj.weight", memory_.index_dim}};
    if (has_gate) {
      parts.emplace_back(base + "write_gate.weight", 1);
      RASQ_ASSIGN_OR_RETURN(const std::vector<float> bias,
                            checkpoint_.Floats(base + "write_gate.bias", {1}));
      w.gate_bias = bias[0];
    }
    // The fast products of GPUs want rows of results that begin at multiples of 16 bytes. What the
    // rows of padding give is not looked at.
    constexpr int64_t kRowMultiple = 8;
    RASQ_ASSIGN_OR_RETURN(w.index, Stack(parts, model_.hidden, kRowMultiple));
    RASQ_ASSIGN_OR_RETURN(const std::vector<float> log_temperature,
                          checkpoint_.Floats(base + "retriever.log_temperature", {1}));
    w.temperature = std::exp(log_temperature[0]);
    if (!memory_.has_budget_head()) return absl::OkStatus();
    const auto factors = static_cast<int64_t>(memory_.budget_factors.size());
    RASQ_ASSIGN_OR_RETURN(w.budget_weight,
                          Floats(base + "retriever.budget.weight", {factors, memory_.index_dim}));
    RASQ_ASSIGN_OR_RETURN(w.budget_bias, Floats(base + "retriever.budget.bias", {factors}));
    return absl::OkStatus();
  }

  absl::StatusOr<FloatBuffer> Floats(const std::string& name, absl::Span<const int64_t> shape) {
    RASQ_ASSIGN_OR_RETURN(const std::vector<float> values, checkpoint_.Floats(name, shape));
    return ToDevice(values, ops_);
  }

  // One matrix of several tensors' rows, each {name, rows}, and of rows of zeros up to a multiple
  // of `row_multiple`.
  absl::StatusOr<std::unique_ptr<Matrix>> Stack(
      const std::vector<std::pair<std::string, int64_t>>& parts, int64_t in,
      int64_t row_multiple = 1) {
    int64_t num_rows = 0;
    for (const auto& [name, out] : parts) num_rows += out;
    num_rows = (num_rows + row_multiple - 1) / row_multiple * row_multiple;
    if (checkpoint_.is_dummy()) return RandomMatrix(parts.front().first, num_rows, in, ops_);
    std::vector<float> rows;
    for (const auto& [name, out] : parts) {
      RASQ_ASSIGN_OR_RETURN(const std::vector<float> values, checkpoint_.Floats(name, {out, in}));
      rows.insert(rows.end(), values.begin(), values.end());
    }
    rows.resize(num_rows * in);
    return ops_.PackMatrix(rows.data(), num_rows, in);
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& model_;
  const MemoryConfig& memory_;
  Ops& ops_;
  const int32_t layer_;
};

absl::Status LoadVocabulary(const Checkpoint& checkpoint, Ops& ops, Weights& weights) {
  const ModelConfig& model = checkpoint.model();
  const int64_t vocab = model.vocab, hidden = model.hidden;
  const std::string input = "model.embed_tokens.weight";
  const std::string output = model.tie_embeddings ? input : "lm_head.weight";
  if (checkpoint.is_dummy()) {
    RASQ_ASSIGN_OR_RETURN(weights.embedding, RandomTable(input, vocab, hidden, ops));
    RASQ_ASSIGN_OR_RETURN(weights.head, RandomMatrix(output, vocab, hidden, ops));
    return absl::OkStatus();
  }
  RASQ_ASSIGN_OR_RETURN(std::vector<float> values, checkpoint.Floats(input, {vocab, hidden}));
  RASQ_ASSIGN_OR_RETURN(weights.embedding, TableToDevice(values, ops));
  if (!model.tie_embeddings) {
    RASQ_ASSIGN_OR_RETURN(values, checkpoint.Floats(output, {vocab, hidden}));
  }
  RASQ_ASSIGN_OR_RETURN(weights.head, ops.PackMatrix(values.data(), vocab, hidden));
  return absl::OkStatus();
}

// Solves a * x = b in place for x [n, m] by elimination with partial pivots; false if a is singular
// to rounding.
bool Solve(std::vector<double>& a, std::vector<double>& b, int64_t n, int64_t m) {
  double largest = 0;
  for (double x : a) largest = std::max(largest, std::abs(x));
  for (int64_t column = 0; column < n; ++column) {
    int64_t pivot = column;
    for (int64_t i = column + 1; i < n; ++i) {
      if (std::abs(a[i * n + column]) > std::abs(a[pivot * n + column])) pivot = i;
    }
    if (!(std::abs(a[pivot * n + column]) > largest * 1e-12)) return false;
    for (int64_t j = 0; j < n; ++j) std::swap(a[pivot * n + j], a[column * n + j]);
    for (int64_t j = 0; j < m; ++j) std::swap(b[pivot * m + j], b[column * m + j]);
    for (int64_t i = 0; i < n; ++i) {
      if (i == column) continue;
      const double factor = a[i * n + column] / a[column * n + column];
      for (int64_t j = column; j < n; ++j) a[i * n + j] -= factor * a[column * n + j];
      for (int64_t j = 0; j < m; ++j) b[i * m + j] -= factor * b[column * m + j];
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < m; ++j) b[i * m + j] /= a[i * n + i];
  }
  return true;
}

}  // namespace

absl::StatusOr<std::vector<float>> PseudoInverses(const std::vector<float>& matrices,
                                                  int64_t num_matrices, int64_t rows,
                                                  int64_t columns) {
  std::vector<float> inverses(matrices.size());
  for (int64_t k = 0; k < num_matrices; ++k) {
    const float* p = matrices.data() + k * rows * columns;
    std::vector<double> gram(rows * rows);  // P P^T
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < rows; ++j) {
        for (int64_t c = 0; c < columns; ++c) {
          gram[i * rows + j] += double{p[i * columns + c]} * p[j * columns + c];
        }
      }
    }
    std::vector<double> solution(p, p + rows * columns);  // becomes (P P^T)^-1 P
    if (!Solve(gram, solution, rows, columns)) {
      return absl::InvalidArgumentError(
          absl::StrCat("matrix ", k, ": its rows are not independent"));
    }
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t c = 0; c < columns; ++c) {
        inverses[(k * columns + c) * rows + i] = static_cast<float>(solution[i * columns + c]);
      }
    }
  }
  return inverses;
}

absl::StatusOr<Weights> LoadWeights(const Checkpoint& checkpoint, Ops& ops) {
  const ModelConfig& model = checkpoint.model();
  Weights weights;
  RASQ_RETURN_IF_ERROR(LoadVocabulary(checkpoint, ops, weights));
  if (checkpoint.memory().has_memory()) {
    const int64_t heads = checkpoint.model().num_kv_heads, dim = checkpoint.model().head_dim;
    std::vector<float> identity(heads * dim * dim);
    for (int64_t i = 0; i < heads * dim; ++i) identity[i * dim + i % dim] = 1;
    RASQ_ASSIGN_OR_RETURN(weights.identity, TableToDevice(identity, ops));
  }
  RASQ_ASSIGN_OR_RETURN(const std::vector<float> norm,
                        checkpoint.Floats("model.norm.weight", {model.hidden}));
  RASQ_ASSIGN_OR_RETURN(weights.final_norm, ToDevice(norm, ops));
  if (checkpoint.memory().has_budget_head()) {
    RASQ_ASSIGN_OR_RETURN(weights.budget_factors,
                          ToDevice(checkpoint.memory().budget_factors, ops));
  }
  for (int32_t l = 0; l < model.num_layers; ++l) {
    RASQ_ASSIGN_OR_RETURN(LayerWeights layer, LayerLoader(checkpoint, ops, l).Load());
    weights.layers.push_back(std::move(layer));
  }
  return weights;
}

}  // namespace rasq
