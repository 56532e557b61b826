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

// Slots have a gate, which is their mass, and neither score nor age.
Tensor SummaryDims(const Summaries& summaries, torch::ScalarType type) {
  const auto [gate, gate_rest] = Split(summaries.log_count, type);
  std::vector<Tensor> columns(kBiasDims, torch::zeros_like(gate));
  columns[kGate] = gate;
  columns[kGateRest] = gate_rest;
  columns[kIsDead] = summaries.is_empty.to(type) * kDead;
  return torch::stack(columns, -1).unsqueeze(2).expand({-1, -1, summaries.key.size(2), -1});
}

// Sinks have no biases but whether they are there.
Tensor SinkDims(const SegmentPlan& plan, int64_t streams, torch::ScalarType type) {
  const Tensor dead = plan.sink_dead.to(type) * kDead;
  std::vector<Tensor> columns(kBiasDims, torch::zeros_like(dead));
  columns[kIsDead] = dead;
  return torch::stack(columns, -1).unsqueeze(0).expand({streams, -1, -1, -1});
}

// What AttendInParts does, with all of a segment's keys side by side. entries: null without
// clusters.
Tensor AttendJoined(const SegmentKeys& keys, const Windows& windows,
                    const ClusteredEntries* entries) {
  const int64_t streams = keys.key.size(0), tokens = keys.key.size(1);
  const int64_t segments = tokens / windows.segment, head_dim = keys.key.size(3);
  const auto options = windows.ends.options().dtype(torch::kInt64);
  const Tensor position =
      (torch::arange(segments, options) * windows.segment - windows.window).unsqueeze(1) +
      torch::arange(windows.window + windows.segment, options);  // [segments, window + segment]
  const auto near = [&](const Tensor& x) {
    return x.index_select(1, position.clamp_min(0).flatten())
        .view({streams, segments, position.size(1), x.size(2), head_dim});
  };
  const Tensor near_key = near(keys.key);
  std::vector<int64_t> sizes = near_key.sizes().vec();
  sizes.back() = kBiasDims;
  Tensor bias = torch::zeros(sizes, near_key.options());
  bias.select(-1, kIsDead).masked_fill_((position < 0).unsqueeze(-1), kDead);
  const Tensor key = torch::cat({keys.memory_key, torch::cat({near_key, bias}, -1)}, 2);
  const Tensor value = torch::cat({keys.memory_value, near(keys.value)}, 2);
  const Tensor query = keys.query.reshape(
      {streams * segments, windows.segment, keys.query.size(2), keys.query.size(3)});
  const double scale = 1 / std::sqrt(static_cast<double>(head_dim));
  const Tensor out =
      entries != nullptr
          ? ClusteredAttention(query, key.flatten(0, 1), value.flatten(0, 1), *entries, scale)
          : CausalAttention(query, key.flatten(0, 1), value.flatten(0, 1), scale);
  return out.reshape({streams, tokens, keys.query.size(2), head_dim});
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

SegmentPlan::SegmentPlan(int64_t streams, int64_t tokens, const RetrievalShape& given,
                         const Tensor& inv_freq)
    : shape(given),
      segments(tokens / given.segment),
      windows(MakeWindows(streams, segments, given.segment, given.window, inv_freq.device())) {
  const auto options = inv_freq.options().dtype(torch::kInt64);
  const Tensor start = torch::arange(segments, options) * shape.segment;
  const Tensor memory_position = start - shape.window - 1;
  const Tensor sinks = torch::arange(shape.sinks, options);
  token = AnglesAt(torch::arange(tokens, options), inv_freq);
  sink = AnglesAt((start - shape.window - shape.span - shape.sinks).unsqueeze(1) + sinks, inv_freq);
  memory = AnglesAt(memory_position.unsqueeze(1), inv_freq);
  sink_dead = sinks.unsqueeze(0) > memory_position.unsqueeze(1);
}

Tensor SegmentAttention(const Heads& heads, const MemoryKeys& memory, const SegmentPlan& plan) {
  const RetrievalShape& shape = plan.shape;
  const int64_t streams = heads.key.size(0), kv_heads = heads.key.size(2);
  const int64_t head_dim = heads.key.size(3);
  const auto sinks = [&](const Tensor& x) {
    return x.narrow(1, 0, shape.sinks)
        .unsqueeze(1)
        .expand({streams, plan.segments, shape.sinks, kv_heads, head_dim});
  };
  std::vector<Tensor> keys = {Rotate(sinks(heads.plain_key), plan.sink)};
  std::vector<Tensor> values = {sinks(heads.value)};
  std::vector<Tensor> biases = {SinkDims(plan, streams, heads.key.scalar_type())};
  if (memory.retrieval != nullptr) {
    const Retrieval& retrieval = *memory.retrieval;
    keys.push_back(Rotate(Entries(memory.key, retrieval.position), plan.memory));
    values.push_back(Entries(memory.value, retrieval.position));
    biases.push_back(EntryDims(retrieval, heads.key.scalar_type()));
  }
  if (memory.summaries.key.defined()) {
    keys.push_back(Rotate(memory.summaries.key, plan.memory));
    values.push_back(memory.summaries.value);
    biases.push_back(SummaryDims(memory.summaries, heads.key.scalar_type()));
  }
  const Tensor bias = torch::cat(biases, 2).unsqueeze(3).expand({-1, -1, -1, kv_heads, -1});
  const SegmentKeys all{.query = heads.query,
                        .key = heads.key,
                        .value = heads.value,
                        .memory_key = torch::cat({torch::cat(keys, 2), bias}, -1),
                        .memory_value = torch::cat(values, 2)};
  // No segment can have clusters if none may read more entries than that.
  if (memory.clusters.clusters > 0 && shape.budget > memory.clusters.min_entries) {
    const Tensor key = Entries(memory.compressed_key, memory.retrieval->position);
    const ClusteredEntries entries{
        .first = shape.sinks,
        .cluster = AssignClusters(key.flatten(0, 1), memory.retrieval->valid.flatten(0, 1),
                                  memory.clusters),
        .shape = memory.clusters};
    return AttendJoined(all, plan.windows, &entries);
  }
  return CanAttendInParts(heads.query) ? AttendInParts(all, plan.windows)
                                       : AttendJoined(all, plan.windows, /*entries=*/nullptr);
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
