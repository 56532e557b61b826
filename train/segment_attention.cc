#include "train/segment_attention.h"

#include <cmath>
#include <vector>

#include "train/join_keys.h"

namespace rasq::train {
namespace {

// Columns of the dimensions that carry the biases. Scores and gates come as two numbers of the
// compute type, of which the second is what the first has lost.
enum BiasDim { kScore, kScoreRest, kGate, kGateRest, kAge, kIsDead };

std::pair<Tensor, Tensor> Split(const Tensor& x, torch::ScalarType type) {
  const Tensor first = x.to(type);
  return {first, (x - first.to(torch::kFloat32)).to(type)};
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

}  // namespace

Tensor QueryBias(const MemoryKeys& memory, int64_t heads, int64_t head_dim,
                 const torch::TensorOptions& options) {
  const Tensor one = torch::ones({heads}, options.dtype(torch::kFloat32));
  std::vector<Tensor> columns(kBiasDims, torch::zeros_like(one));
  columns[kIsDead] = one;
  if (memory.retrieval != nullptr) {
    columns[kScore] = columns[kScoreRest] = memory.score_weight;
    columns[kGate] = columns[kGateRest] = one;
    columns[kAge] = -memory.age_slope;
  }
  return torch::stack(columns, -1) * std::sqrt(static_cast<double>(head_dim));
}

SegmentPlan::SegmentPlan(int64_t tokens, const RetrievalShape& given, const Tensor& inv_freq)
    : shape(given), segments(tokens / given.segment) {
  const auto options = inv_freq.options().dtype(torch::kInt64);
  const Tensor start = torch::arange(segments, options) * shape.segment;
  const Tensor memory_position = start - shape.window - 1;
  const Tensor sinks = torch::arange(shape.sinks, options);
  token = AnglesAt(torch::arange(tokens, options), inv_freq);
  sink = AnglesAt((start - shape.window - shape.span - shape.sinks).unsqueeze(1) + sinks, inv_freq);
  memory = AnglesAt(memory_position.unsqueeze(1), inv_freq);
  sink_dead = sinks.unsqueeze(0) > memory_position.unsqueeze(1);
  window_dead =
      (start - shape.window).unsqueeze(1) + torch::arange(shape.window + shape.segment, options) <
      0;
}

Tensor SegmentAttention(const Heads& heads, const MemoryKeys& memory, const SegmentPlan& plan) {
  const RetrievalShape& shape = plan.shape;
  const int64_t streams = heads.key.size(0), tokens = heads.key.size(1);
  const int64_t kv_heads = heads.key.size(2), head_dim = heads.key.size(3);
  const std::vector<int64_t> sink_sizes = {streams, plan.segments, shape.sinks, kv_heads, head_dim};
  const auto sinks = [&](const Tensor& x) {
    return x.narrow(1, 0, shape.sinks).unsqueeze(1).expand(sink_sizes);
  };
  const Tensor none =
      torch::empty({streams, plan.segments, 0, kv_heads, head_dim}, heads.key.options());
  JoinedParts keys{.token = heads.key,
                   .sink = Rotate(sinks(heads.plain_key), plan.sink),
                   .entry = none,
                   .dead_sink = plan.sink_dead,
                   .dead_window = plan.window_dead};
  JoinedParts values{.token = heads.value, .sink = sinks(heads.value), .entry = none};
  if (memory.retrieval != nullptr) {
    const Retrieval& retrieval = *memory.retrieval;
    keys.entry = Rotate(Entries(memory.key, retrieval.position), plan.memory);
    keys.entry_bias = EntryDims(retrieval, heads.key.scalar_type());
    values.entry = Entries(memory.value, retrieval.position);
  }
  const auto join = [&](const JoinedParts& parts) {
    return JoinKeys(parts, shape, kBiasDims, kIsDead).flatten(0, 1);
  };
  const Tensor query = heads.query.view(
      {streams * plan.segments, shape.segment, heads.query.size(2), head_dim + kBiasDims});
  return CausalAttention(query, join(keys), join(values),
                         1 / std::sqrt(static_cast<double>(head_dim)))
      .narrow(-1, 0, head_dim)
      .reshape({streams, tokens, heads.query.size(2), head_dim});
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
