#include "train/segment_attention.h"

#include <cmath>
#include <vector>

namespace rasq::train {
namespace {

// Columns of the dimensions that carry the biases. Scores and gates come as two numbers of the
// compute type, of which the second is what the first has lost.
enum BiasDim { kScore, kScoreRest, kGate, kGateRest, kAge, kIsDead };

std::pair<Tensor, Tensor> Split(const Tensor& x, torch::ScalarType type) {
  const Tensor first = x.to(type);
  return {first, (x - first.to(torch::kFloat32)).to(type)};
}

// [1, 1, heads, kBiasDims]; divided by the scale that logits are multiplied with.
Tensor QueryBiasDims(const MemoryKeys& memory, int64_t heads, double scale,
                     const torch::TensorOptions& options) {
  const Tensor one = torch::ones({heads}, options.dtype(torch::kFloat32));
  const Tensor zero = torch::zeros_like(one);
  std::vector<Tensor> columns(kBiasDims, zero);
  columns[kIsDead] = one;
  if (memory.retrieval != nullptr) {
    columns[kScore] = columns[kScoreRest] = memory.score_weight;
    columns[kGate] = columns[kGateRest] = one;
    columns[kAge] = -memory.age_slope;
  }
  return (torch::stack(columns, -1) / scale).to(options.dtype()).view({1, 1, heads, kBiasDims});
}

// Of keys without a bias, of which the dead are out of reach: [..., kBiasDims].
Tensor DeadDims(const Tensor& dead, torch::ScalarType type) {
  std::vector<int64_t> sizes = dead.sizes().vec();
  sizes.push_back(kBiasDims);
  Tensor dims = torch::zeros(sizes, dead.options().dtype(type));
  dims.select(-1, kIsDead).masked_fill_(dead, kDead);
  return dims;
}

Tensor EntryDims(const Retrieval& retrieval, torch::ScalarType type) {
  const auto [score, score_rest] = Split(retrieval.score, type);
  const auto [gate, gate_rest] = Split(retrieval.log_gate, type);
  std::vector<Tensor> columns(kBiasDims, torch::zeros_like(score));
  columns[kScore] = score;
  columns[kScoreRest] = score_rest;
  columns[kGate] = gate;
  columns[kGateRest] = gate_rest;
  columns[kAge] = retrieval.age.to(type);
  columns[kIsDead] = retrieval.valid.logical_not().to(type) * kDead;
  return torch::stack(columns, -1);
}

// [streams, segments, keys, kv heads, head_dim] and [(streams,) segments, keys, kBiasDims].
Tensor Widen(const Tensor& keys, const Tensor& dims) {
  std::vector<int64_t> sizes = keys.sizes().vec();
  sizes.back() = kBiasDims;
  return torch::cat({keys, dims.unsqueeze(-2).expand(sizes)}, -1);
}

// What window and segment hold: [streams, segments, window + segment, kv_heads, head_dim].
Tensor Windows(const Tensor& x, const RetrievalShape& shape) {
  const int64_t streams = x.size(0), segments = x.size(1) / shape.segment;
  const int64_t before = (shape.window + shape.segment - 1) / shape.segment;
  const Tensor padded =
      torch::constant_pad_nd(x, {0, 0, 0, 0, before * shape.segment, 0})
          .view({streams, segments + before, shape.segment, x.size(2), x.size(3)});
  std::vector<Tensor> parts;
  for (int64_t i = 0; i <= before; ++i) parts.push_back(padded.narrow(1, i, segments));
  const Tensor all = torch::cat(parts, 2);
  return all.narrow(2, before * shape.segment - shape.window, shape.window + shape.segment);
}

// The entries' vectors: [streams, segments, budget, kv_heads, head_dim].
Tensor Entries(const Tensor& x, const Tensor& position) {
  const int64_t streams = x.size(0), tokens = x.size(1);
  const Tensor base = torch::arange(streams, position.options()) * tokens;
  const Tensor flat = (position.view({streams, -1}) + base.unsqueeze(1)).flatten();
  // In float32, so that the gradients of an entry that many segments read add up.
  return x.to(torch::kFloat32)
      .view({streams * tokens, -1})
      .index_select(0, flat)
      .to(x.scalar_type())
      .view({streams, position.size(1), position.size(2), x.size(2), x.size(3)});
}

Tensor Swap(const Tensor& x) {
  const int64_t half = x.size(-1) / 2;
  return torch::cat({x.narrow(-1, half, half), x.narrow(-1, 0, half)}, -1);
}

}  // namespace

Rotation RotationAt(const Tensor& position, const Tensor& inv_freq, torch::ScalarType type) {
  const Tensor angle = position.to(torch::kFloat64).unsqueeze(-1) * inv_freq;
  const Tensor cos = angle.cos(), sin = angle.sin();
  return {torch::cat({cos, cos}, -1).unsqueeze(-2).to(type),
          torch::cat({-sin, sin}, -1).unsqueeze(-2).to(type)};
}

Tensor Rotate(const Tensor& x, const Rotation& rotation) {
  return torch::addcmul(x * rotation.cos, Swap(x), rotation.sin);
}

SegmentPlan::SegmentPlan(int64_t tokens, const RetrievalShape& given, const Tensor& inv_freq,
                         torch::ScalarType type)
    : shape(given), segments(tokens / given.segment) {
  const auto options = inv_freq.options().dtype(torch::kInt64);
  const Tensor start = torch::arange(segments, options) * shape.segment;
  const Tensor memory_position = start - shape.window - 1;
  const Tensor sinks = torch::arange(shape.sinks, options);
  token = RotationAt(torch::arange(tokens, options), inv_freq, type);
  sink = RotationAt((start - shape.window - shape.budget - shape.sinks).unsqueeze(1) + sinks,
                    inv_freq, type);
  memory = RotationAt(memory_position.unsqueeze(1), inv_freq, type);
  sink_dead = sinks.unsqueeze(0) > memory_position.unsqueeze(1);
  window_dead =
      (start - shape.window).unsqueeze(1) + torch::arange(shape.window + shape.segment, options) <
      0;
}

Tensor SegmentAttention(const SegmentKeys& keys, const MemoryKeys& memory,
                        const SegmentPlan& plan) {
  const RetrievalShape& shape = plan.shape;
  const torch::ScalarType type = keys.query.scalar_type();
  const int64_t streams = keys.query.size(0), tokens = keys.query.size(1);
  const int64_t heads = keys.query.size(2), head_dim = keys.query.size(3);
  const int64_t kv_heads = keys.key.size(2), segments = plan.segments;
  const double scale = 1 / std::sqrt(static_cast<double>(head_dim));

  std::vector<Tensor> all_keys, all_values;
  const auto add = [&](const Tensor& key, const Tensor& value, const Tensor& dims) {
    all_keys.push_back(Widen(key, dims));
    all_values.push_back(value);
  };
  if (shape.sinks > 0) {
    const std::vector<int64_t> sizes = {streams, segments, shape.sinks, kv_heads, head_dim};
    const auto first = [&](const Tensor& x) {
      return x.narrow(1, 0, shape.sinks).unsqueeze(1).expand(sizes);
    };
    add(Rotate(first(keys.plain_key), plan.sink), first(keys.value),
        DeadDims(plan.sink_dead, type));
  }
  if (memory.retrieval != nullptr) {
    const Retrieval& retrieval = *memory.retrieval;
    add(Rotate(Entries(memory.key, retrieval.position), plan.memory),
        Entries(memory.value, retrieval.position), EntryDims(retrieval, type));
  }
  add(Windows(keys.key, shape), Windows(keys.value, shape), DeadDims(plan.window_dead, type));

  const auto batch = [&](const std::vector<Tensor>& parts) {
    return torch::cat(parts, 2).flatten(0, 1);
  };
  const Tensor dims = QueryBiasDims(memory, heads, scale, keys.query.options());
  const Tensor query =
      torch::cat({keys.query, dims.expand({streams, tokens, heads, kBiasDims})}, -1)
          .view({streams * segments, shape.segment, heads, head_dim + kBiasDims});
  const Tensor value = torch::constant_pad_nd(batch(all_values), {0, kBiasDims});
  return CausalAttention(query, batch(all_keys), value, scale)
      .narrow(-1, 0, head_dim)
      .reshape({streams, tokens, heads, head_dim});
}

Tensor CausalAttention(const Tensor& query, const Tensor& key, const Tensor& value, double scale) {
  const int64_t rows = query.size(1), keys = key.size(1);
#if RASQ_TORCH_AT_LEAST(2, 4)
  if (query.is_cuda() && query.scalar_type() != torch::kFloat32) {
    return std::get<0>(at::_flash_attention_forward(query, key, value, {}, {}, rows, keys,
                                                    /*dropout_p=*/0, /*is_causal=*/true,
                                                    /*return_debug_mask=*/false, scale));
  }
#endif
  const int64_t group = query.size(2) / key.size(2);
  const auto heads_first = [](const Tensor& x, int64_t times) {
    return x.to(torch::kFloat32).repeat_interleave(times, 2).transpose(1, 2);
  };
  const Tensor logit =
      torch::matmul(heads_first(query, 1), heads_first(key, group).transpose(2, 3)) * scale;
  const auto options = query.options().dtype(torch::kInt64);
  const Tensor ahead = torch::arange(keys, options).unsqueeze(0) >
                       torch::arange(rows, options).unsqueeze(1) + (keys - rows);
  const Tensor weight = logit.masked_fill(ahead, kDead).softmax(-1);
  return torch::matmul(weight, heads_first(value, group)).transpose(1, 2).to(query.scalar_type());
}

}  // namespace rasq::train
