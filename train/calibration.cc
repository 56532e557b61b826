#include "train/calibration.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "train/adapter_fit.h"
#include "train/segment_attention.h"

namespace rasq::train {
namespace {

// Rotations by what is left of `rotation` when its positions are averaged: of the fast pairs, which
// tell neighbours apart, nothing, and all of the slow ones.
Angles Mean(const Angles& rotation) { return {rotation.cos.mean(0), rotation.sin.mean(0)}; }
Angles Inverse(const Angles& rotation) { return {rotation.cos, -rotation.sin}; }

Tensor Unit(const Tensor& x) { return x / x.norm(2, -1, true).clamp_min(1e-12); }

// Fits one layer after another, while the decoder runs.
class Calibrator {
 public:
  Calibrator(const ModelConfig& model, const MemoryConfig& memory, const Tensor& tokens)
      : model_(model),
        memory_(memory),
        streams_(tokens.size(0)),
        tokens_(tokens.size(1)),
        options_(tokens.options()) {
    const Tensor inv_freq = torch::tensor(model.inv_freq, torch::kFloat64).to(tokens.device());
    back_ = Inverse(AnglesAt(torch::arange(tokens_, options_), inv_freq));
    // Distances from a segment's queries to where its memory stands.
    read_ = Mean(AnglesAt(
        torch::arange(memory.window + 1, memory.window + 1 + memory.segment, options_), inv_freq));
  }

  void Observe(int64_t layer, const Tensor& h, const Heads& keys) {
    const int64_t retrieval = memory_.RetrievalIndex(static_cast<int32_t>(layer));
    if (retrieval < 0) return;
    LayerFit fit{.layer = layer};
    fit.keys = FitDirections(absl::StrCat(Name(layer), "memory.key_down.weight"), keys.plain_key);
    fit.values = FitDirections(absl::StrCat(Name(layer), "memory.value_down.weight"), keys.value);
    for (const char* unused : {"memory.score_weight", "memory.age_slope"}) {
      result_.tensors[Name(layer) + unused] = torch::zeros({model_.num_heads});
    }
    if (memory_.retrieval_layers[retrieval] == layer) FitRetriever(h, keys, fit);
    if (layer == memory_.retrieval_layers.front()) first_hidden_ = h;
    const Tensor received = Received(keys);
    received_ = received_.defined() ? received_ + received : received;
    result_.layers.push_back(fit);
  }

  // Of tokens that were seen for as long as they stayed in the window.
  Calibration Finish() {
    const int64_t whole = tokens_ - memory_.window - memory_.sinks;
    const Tensor received = received_.narrow(1, memory_.sinks, whole).flatten();
    const Tensor hidden = first_hidden_.narrow(1, memory_.sinks, whole).flatten(0, 1);
    const GateFit gate = FitGate(hidden, received / received.mean().clamp_min(1e-30));
    const std::string first = Name(memory_.retrieval_layers.front());
    Set(first + "write_gate.weight", gate.weight);
    Set(first + "write_gate.bias", gate.bias);
    return std::move(result_);
  }

 private:
  static std::string Name(int64_t layer) { return absl::StrCat("layers.", layer, "."); }
  void Set(const std::string& name, const Tensor& value) {
    result_.tensors[name] = value.to(torch::kCPU, torch::kFloat32).contiguous();
  }

  // Returns what is kept, over all kv heads.
  double FitDirections(const std::string& name, const Tensor& x) {
    const Tensor rows = x.flatten(0, 1).transpose(0, 1).to(torch::kFloat64);  // [kv heads, n, dim]
    const Tensor moment = torch::matmul(rows.transpose(1, 2), rows);
    const Directions found = LongestDirections(moment, memory_.compressed_dim);
    Set(name, found.down);
    const Tensor size = moment.diagonal(0, 1, 2).sum(-1);
    return ((found.kept * size).sum() / size.sum().clamp_min(1e-300)).item<double>();
  }

  void FitRetriever(const Tensor& h, const Heads& keys, LayerFit& fit) {
    const int64_t kv_heads = model_.num_kv_heads, group = model_.num_heads / kv_heads;
    // The heads of a group share a key, so the sum of their logits is that of their queries' sum.
    const Tensor query = Rotate(Rotate(keys.query, back_), read_)
                             .view({streams_, tokens_, kv_heads, group, model_.head_dim})
                             .sum(3)
                             .flatten(2);
    const Tensor key = keys.plain_key.flatten(2);
    const IndexFit index =
        FitIndex(h.flatten(0, 1), query.flatten(0, 1), key.flatten(0, 1), memory_.index_dim);
    fit.logits = index.kept;
    fit.temperature =
        FitTemperature(Unit(torch::matmul(h.to(torch::kFloat64), index.query_proj.t())),
                       Unit(torch::matmul(h.to(torch::kFloat64), index.key_proj.t())), query, key);
    Set(Name(fit.layer) + "retriever.query_proj.weight", index.query_proj);
    Set(Name(fit.layer) + "retriever.key_proj.weight", index.key_proj);
    Set(Name(fit.layer) + "retriever.log_temperature", torch::full({1}, std::log(fit.temperature)));
  }

  // The slope of the mean head's largest logit with a segment's queries over the index's, both less
  // their means over the tokens that have left the window.
  double FitTemperature(const Tensor& index_query, const Tensor& index_key, const Tensor& query,
                        const Tensor& key) const {
    const double scale = 1 / (model_.num_heads * std::sqrt(static_cast<double>(model_.head_dim)));
    double product = 0, square = 0;
    for (int64_t stream = 0; stream < streams_; ++stream) {
      const Tensor centred =
          key[stream].to(torch::kFloat64) - key[stream].to(torch::kFloat64).mean(0, true);
      for (int64_t start = memory_.segment; start < tokens_; start += memory_.segment) {
        const int64_t past = start - memory_.window - memory_.sinks;
        if (past < 2) continue;
        const auto best = [&](const Tensor& queries, const Tensor& keys) {
          const Tensor of_segment =
              queries[stream].narrow(0, start - memory_.segment, memory_.segment);
          const Tensor largest = std::get<0>(
              torch::matmul(of_segment.to(torch::kFloat64), keys.narrow(0, memory_.sinks, past).t())
                  .max(0));
          return largest - largest.mean();
        };
        const Tensor ours = best(index_query, index_key[stream]);
        product += (ours * best(query, centred)).sum().item<double>() * scale;
        square += ours.square().sum().item<double>();
      }
    }
    return std::clamp(product / std::max(square, 1e-300), kLeastTemperature, kMostTemperature);
  }

  // The attention that each token received from each of the window's queries behind it, as a
  // multiple of an even share, summed over heads: float64 [streams, tokens].
  Tensor Received(const Heads& keys) const {
    const Tensor position = torch::arange(tokens_, options_);
    const Tensor behind = position.unsqueeze(1) - position.unsqueeze(0);  // [queries, keys]
    const Tensor in_window = (behind > 0)
                                 .logical_and(behind <= memory_.window)
                                 .logical_and(position >= memory_.sinks)
                                 .to(torch::kFloat32);
    const Tensor factor = in_window * in_window.sum(1, true) / in_window.sum(0).clamp_min(1);
    const int64_t group = model_.num_heads / model_.num_kv_heads;
    const double scale = 1 / std::sqrt(static_cast<double>(model_.head_dim));
    std::vector<Tensor> streams;
    for (int64_t stream = 0; stream < streams_; ++stream) {  // a stream's weights at a time
      const Tensor query = keys.query[stream].transpose(0, 1);
      const Tensor key = keys.key[stream].repeat_interleave(group, 1).permute({1, 2, 0});
      const Tensor weight =
          (torch::matmul(query, key) * scale).masked_fill(behind < 0, kDead).softmax(-1).sum(0);
      streams.push_back((weight * factor).sum(0, /*keepdim=*/false, torch::kFloat64));
    }
    return torch::stack(streams);
  }

  // Where an index says nothing of the logits, or has almost no spread of its own.
  static constexpr double kLeastTemperature = 0.01, kMostTemperature = 1000;

  const ModelConfig& model_;
  const MemoryConfig& memory_;
  const int64_t streams_, tokens_;
  const torch::TensorOptions options_;
  Angles back_, read_;
  Tensor first_hidden_, received_;
  Calibration result_;
};

}  // namespace

int64_t CalibrationStreamTokens(const MemoryConfig& memory) {
  const int64_t tokens = 2 * (memory.window + memory.segment);
  return (tokens + memory.segment - 1) / memory.segment * memory.segment;
}

Calibration Calibrate(const Decoder& decoder, const MemoryConfig& memory, const Tensor& tokens) {
  const torch::NoGradGuard no_grad;
  Calibrator calibrator(decoder.model(), memory, tokens);
  decoder.ForwardFull(tokens, torch::kFloat32,
                      [&](int64_t layer, const Tensor& h, const Heads& keys) {
                        calibrator.Observe(layer, h, keys);
                      });
  return calibrator.Finish();
}

}  // namespace rasq::train
