// A decoder as its paper has it, in double and token after token: what a model should say and
// attend to with full attention, from a checkpoint's own weights.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/checkpoint.h"
#include "kernels/base/status.h"

namespace rasq::testing {

// Of Qwen3 models: norms of heads, no biases, one table for tokens in and out.
class PlainDecoder {
 public:
  explicit PlainDecoder(const std::string& directory) {
    auto checkpoint = Checkpoint::Open(directory);
    RASQ_CHECK(checkpoint.ok());
    const Checkpoint& from = **checkpoint;
    config_ = from.model();
    const int64_t hidden = config_.hidden, dim = config_.head_dim, wide = config_.intermediate;
    const int64_t q = config_.num_heads * dim, kv = config_.num_kv_heads * dim;
    const auto load = [&](const std::string& name, std::vector<int64_t> shape) {
      const auto values = from.Floats(name, shape);
      RASQ_CHECK(values.ok());
      return std::vector<double>(values->begin(), values->end());
    };
    embedding_ = load("model.embed_tokens.weight", {config_.vocab, hidden});
    norm_ = load("model.norm.weight", {hidden});
    for (int32_t l = 0; l < config_.num_layers; ++l) {
      const std::string base = "model.layers." + std::to_string(l) + ".";
      layers_.push_back({.norm = load(base + "input_layernorm.weight", {hidden}),
                         .q = load(base + "self_attn.q_proj.weight", {q, hidden}),
                         .k = load(base + "self_attn.k_proj.weight", {kv, hidden}),
                         .v = load(base + "self_attn.v_proj.weight", {kv, hidden}),
                         .q_norm = load(base + "self_attn.q_norm.weight", {dim}),
                         .k_norm = load(base + "self_attn.k_norm.weight", {dim}),
                         .out = load(base + "self_attn.o_proj.weight", {hidden, q}),
                         .mlp_norm = load(base + "post_attention_layernorm.weight", {hidden}),
                         .gate = load(base + "mlp.gate_proj.weight", {wide, hidden}),
                         .up = load(base + "mlp.up_proj.weight", {wide, hidden}),
                         .down = load(base + "mlp.down_proj.weight", {hidden, wide}),
                         .keys = {},
                         .values = {}});
    }
  }

  // Begins a text anew.
  void Reset() {
    position_ = 0;
    for (Layer& layer : layers_) layer.keys.clear(), layer.values.clear();
  }

  // Reads a token, the next of its text.
  void Read(int32_t token) {
    const int64_t hidden = config_.hidden, dim = config_.head_dim;
    x_.assign(embedding_.begin() + token * hidden, embedding_.begin() + (token + 1) * hidden);
    weights_.assign(position_ + 1, 0);
    for (Layer& layer : layers_) {
      const Vector normed = Normed(x_, 0, hidden, layer.norm);
      Vector q = Product(layer.q, normed), k = Product(layer.k, normed);
      const Vector v = Product(layer.v, normed);
      Turn(q, layer.q_norm);
      Turn(k, layer.k_norm);
      layer.keys.push_back(k);
      layer.values.push_back(v);
      Vector attended(q.size());
      for (int64_t head = 0; head < config_.num_heads; ++head) {
        Attend(layer, q, head, attended.data() + head * dim);
      }
      AddTo(x_, Product(layer.out, attended));
      const Vector again = Normed(x_, 0, hidden, layer.mlp_norm);
      Vector gate = Product(layer.gate, again);
      const Vector up = Product(layer.up, again);
      for (size_t i = 0; i < gate.size(); ++i) gate[i] *= up[i] / (1 + std::exp(-gate[i]));
      AddTo(x_, Product(layer.down, gate));
    }
    ++position_;
  }

  // After a token: logits of the next one.
  std::vector<double> Logits() const {
    return Product(embedding_, Normed(x_, 0, config_.hidden, norm_));
  }
  // What the last token gave to each up to itself: the mean over heads, summed over layers.
  const std::vector<double>& weights() const { return weights_; }
  int32_t num_layers() const { return config_.num_layers; }

 private:
  using Vector = std::vector<double>;
  struct Layer {
    Vector norm, q, k, v, q_norm, k_norm, out, mlp_norm, gate, up, down;
    std::vector<Vector> keys, values;  // of each token
  };

  Vector Normed(const Vector& x, int64_t begin, int64_t size, const Vector& weight) const {
    double squares = 0;
    for (int64_t i = 0; i < size; ++i) squares += x[begin + i] * x[begin + i];
    const double scale = 1 / std::sqrt(squares / static_cast<double>(size) +
                                       static_cast<double>(config_.rms_norm_epsilon));
    Vector y(size);
    for (int64_t i = 0; i < size; ++i) y[i] = x[begin + i] * scale * weight[i];
    return y;
  }

  // `matrix` has a row for each element of the result.
  static Vector Product(const Vector& matrix, const Vector& x) {
    Vector y(matrix.size() / x.size());
    for (size_t row = 0; row < y.size(); ++row) {
      const double* weights = matrix.data() + row * x.size();
      for (size_t i = 0; i < x.size(); ++i) y[row] += weights[i] * x[i];
    }
    return y;
  }

  static void AddTo(Vector& x, const Vector& y) {
    for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  }

  // Norm and rotation of each head.
  void Turn(Vector& heads, const Vector& weight) const {
    const int64_t dim = config_.head_dim, half = dim / 2;
    for (int64_t begin = 0; begin < static_cast<int64_t>(heads.size()); begin += dim) {
      const Vector y = Normed(heads, begin, dim, weight);
      for (int64_t i = 0; i < half; ++i) {
        const double angle = static_cast<double>(position_) * config_.inv_freq[i];
        heads[begin + i] = y[i] * std::cos(angle) - y[i + half] * std::sin(angle);
        heads[begin + i + half] = y[i + half] * std::cos(angle) + y[i] * std::sin(angle);
      }
    }
  }

  void Attend(const Layer& layer, const Vector& q, int64_t head, double* out) {
    const int64_t dim = config_.head_dim;
    const int64_t of = head / (config_.num_heads / config_.num_kv_heads) * dim;
    Vector weight(layer.keys.size());
    double total = 0;
    for (size_t t = 0; t < weight.size(); ++t) {
      double dot = 0;
      for (int64_t i = 0; i < dim; ++i) dot += q[head * dim + i] * layer.keys[t][of + i];
      weight[t] = std::exp(dot / std::sqrt(static_cast<double>(dim)));
      total += weight[t];
    }
    for (size_t t = 0; t < weight.size(); ++t) {
      const double share = weight[t] / total;
      weights_[t] += share / config_.num_heads;
      for (int64_t i = 0; i < dim; ++i) out[i] += share * layer.values[t][of + i];
    }
  }

  ModelConfig config_;
  Vector embedding_, norm_;
  std::vector<Layer> layers_;
  Vector x_, weights_;
  int64_t position_ = 0;
};

}  // namespace rasq::testing
