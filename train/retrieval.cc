#include "train/retrieval.h"

#include <algorithm>
#include <vector>

namespace rasq::train {
namespace {

// Elements of a block of scores [streams, segments, segment, tokens] that are held at once.
constexpr int64_t kMaxScores = int64_t{1} << 27;

struct Scores {
  Tensor best;   // float [streams, segments, tokens]: the largest product with a query
  Tensor query;  // int64, the same shape: which query's, in its segment
};

// Queries of the segment before, so those of the last `segment` tokens; the first has none.
Tensor QueriesBefore(const Tensor& query, int64_t segment) {
  const int64_t streams = query.size(0), segments = query.size(1) / segment;
  const Tensor rows = query.view({streams, segments, segment, query.size(2)});
  return torch::cat({torch::zeros_like(rows.narrow(1, 0, 1)), rows.narrow(1, 0, segments - 1)}, 1);
}

// In blocks of segments: an entry has left the window of a segment only if it is before it, so a
// block needs no keys behind its last segment.
Scores BestScores(const Tensor& queries, const Tensor& key, const RetrievalShape& shape) {
  const torch::NoGradGuard no_grad;
  const int64_t streams = key.size(0), tokens = key.size(1), segments = queries.size(1);
  const auto floats = key.options().dtype(torch::kFloat32);
  Scores scores{torch::zeros({streams, segments, tokens}, floats),
                torch::zeros({streams, segments, tokens}, floats.dtype(torch::kInt64))};
  const int64_t first = shape.window / shape.segment;  // nothing has left the window before it
  const int64_t block =
      std::max<int64_t>(1, kMaxScores / std::max<int64_t>(1, streams * shape.segment * tokens));
  const Tensor keys = key.transpose(1, 2);
  for (int64_t begin = first + 1; begin < segments; begin += block) {
    const int64_t count = std::min(block, segments - begin);
    const int64_t candidates = std::min(tokens, (begin + count - 1) * shape.segment - shape.window);
    if (candidates <= 0) continue;
    const Tensor product =
        torch::bmm(queries.narrow(1, begin, count).reshape({streams, -1, key.size(2)}),
                   keys.narrow(2, 0, candidates))
            .view({streams, count, shape.segment, candidates});
    const auto [best, which] = product.max(2);
    scores.best.narrow(1, begin, count).narrow(2, 0, candidates).copy_(best);
    scores.query.narrow(1, begin, count).narrow(2, 0, candidates).copy_(which);
  }
  return scores;
}

// rows [streams * tokens, width] at [streams, ...] positions of their streams.
Tensor GatherRows(const Tensor& rows, const Tensor& position) {
  const int64_t streams = rows.size(0), tokens = rows.size(1);
  const Tensor base = torch::arange(streams, position.options()) * tokens;
  const Tensor flat = (position.view({streams, -1}) + base.unsqueeze(1)).flatten();
  std::vector<int64_t> sizes = position.sizes().vec();
  sizes.push_back(rows.size(2));
  return rows.reshape({streams * tokens, -1}).index_select(0, flat).view(sizes);
}

// s of every token for the probe's rows [rows, tokens], with gradient.
Tensor ScoreProbe(const Tensor& queries, const RetrieverInput& input, const Scores& scores,
                  const RetrievalProbe& probe) {
  const Tensor own = queries.index({probe.stream, probe.segment});  // [rows, segment, dim]
  const Tensor keys = input.key.index_select(0, probe.stream).transpose(1, 2);
  const Tensor which = scores.query.index({probe.stream, probe.segment}).unsqueeze(1);
  const Tensor products = torch::bmm(own, keys).gather(1, which).squeeze(1);
  return products.to(torch::kFloat32) * input.temperature;
}

// The budgets that the head chooses, and for the probe's rows how likely it was to.
void ChooseBudgets(const Tensor& queries, const RetrieverInput& input, const RetrievalShape& shape,
                   const RetrievalProbe& probe, Retrieval& result) {
  const BudgetHead& head = input.budget_head;
  const int64_t streams = queries.size(0), segments = queries.size(1);
  if (!head.weight.defined()) {
    result.budget =
        torch::full({streams, segments}, shape.budget, queries.options().dtype(torch::kInt64));
    return;
  }
  // Pooled queries teach the head; the head does not teach the queries.
  const Tensor pooled = queries.detach().to(torch::kFloat32).mean(2);
  const Tensor logits = torch::linear(pooled, head.weight, head.bias);
  Tensor choice = logits.detach().argmax(-1);
  if (!probe.empty() && probe.explores()) {
    const Tensor rows = logits.index({probe.stream, probe.segment});
    result.budget_choice =
        probe.budget_choice.defined()
            ? probe.budget_choice.select(0, input.layer)
            : (rows.detach() + probe.budget_noise.select(0, input.layer)).argmax(-1);
    choice.index_put_({probe.stream, probe.segment}, result.budget_choice);
    result.log_probability =
        rows.log_softmax(-1).gather(1, result.budget_choice.unsqueeze(1)).squeeze(1);
  }
  result.budget = head.tokens.index_select(0, choice.flatten()).view({streams, segments});
}

// Of the largest keys [..., tokens] the first `count` [...] of `most`; -1 for what is not alive or
// beyond the count. In descending order.
Tensor Best(const Tensor& key, const Tensor& count, int64_t most) {
  const auto [value, position] = key.topk(most, -1);
  const Tensor rank = torch::arange(most, position.options());
  const Tensor none = (value <= kDead / 2).logical_or(rank >= count.unsqueeze(-1));
  return position.masked_fill(none, -1);
}

// The probe's rows of a retrieval: what a loss needs of them, and what they read.
void ServeProbe(const Tensor& queries, const RetrieverInput& input, const Scores& scores,
                const RetrievalShape& shape, const RetrievalProbe& probe, Tensor& selected,
                Retrieval& result) {
  result.alive = input.alive.index({probe.stream, probe.segment});
  const Tensor position = torch::arange(input.key.size(1), probe.segment.options());
  const Tensor leaves = probe.segment.unsqueeze(1) * shape.segment - shape.window;
  result.past = (position < leaves).logical_and(position >= shape.sinks);
  result.z =
      (ScoreProbe(queries, input, scores, probe) + input.log_gate.index_select(0, probe.stream))
          .masked_fill(result.past.logical_not(), kDead);
  if (!probe.explores()) return;
  if (probe.drawn.defined()) {
    result.drawn = probe.drawn.select(0, input.layer);
  } else {
    const Tensor noisy =
        result.z.detach() / probe.temperature + probe.entry_noise.select(0, input.layer);
    result.drawn = Best(noisy.masked_fill(result.alive.logical_not(), kDead),
                        result.budget.index({probe.stream, probe.segment}), shape.budget);
  }
  selected.index_put_({probe.stream, probe.segment}, result.drawn);
  const Tensor of_entries = PlackettLuceLogProbability(
      result.z.masked_fill(result.alive.logical_not(), kDead), result.drawn, probe.temperature);
  result.log_probability =
      result.log_probability.defined() ? result.log_probability + of_entries : of_entries;
}

}  // namespace

Tensor Candidates(int64_t tokens, const RetrievalShape& shape, const torch::Device& device) {
  const auto options = torch::TensorOptions(device).dtype(torch::kInt64);
  const Tensor position = torch::arange(tokens, options);
  const Tensor leaves =
      torch::arange(tokens / shape.segment, options) * shape.segment - shape.window;
  return (position.unsqueeze(0) < leaves.unsqueeze(1))
      .logical_and(position.unsqueeze(0) >= shape.sinks);
}

Tensor AliveEntries(const Tensor& log_gate, int64_t capacity, const RetrievalShape& shape) {
  const torch::NoGradGuard no_grad;
  const int64_t streams = log_gate.size(0), tokens = log_gate.size(1);
  const Tensor candidate = Candidates(tokens, shape, log_gate.device()).unsqueeze(0);
  if (capacity <= 0 || capacity >= tokens) return candidate.expand({streams, -1, -1});
  // Gates are fixed when a token comes, so survivors are those above the capacity-th best so far.
  const Tensor gates = log_gate.detach().unsqueeze(1).masked_fill(candidate.logical_not(), -1e9);
  const Tensor least =
      std::get<0>(gates.topk(capacity, -1, /*largest=*/true, /*sorted=*/false)).amin(-1, true);
  return candidate.logical_and(gates >= least);
}

Retrieval Retrieve(const RetrieverInput& input, const RetrievalShape& shape,
                   const RetrievalProbe& probe) {
  const int64_t streams = input.key.size(0), tokens = input.key.size(1);
  const Tensor queries = QueriesBefore(input.query, shape.segment);
  const int64_t segments = queries.size(1);
  const Scores scores = BestScores(queries, input.key, shape);
  Retrieval result;
  ChooseBudgets(queries, input, shape, probe, result);
  Tensor selected;  // [streams, segments, budget], -1 where there is none
  {
    const torch::NoGradGuard no_grad;
    const Tensor z =
        (scores.best * input.temperature.detach() + input.log_gate.detach().unsqueeze(1))
            .masked_fill(input.alive.logical_not(), kDead);
    selected = Best(z, result.budget, shape.budget);
  }
  if (!probe.empty()) ServeProbe(queries, input, scores, shape, probe, selected, result);
  const Tensor ordered = std::get<0>(selected.masked_fill(selected < 0, tokens).sort(-1));
  result.valid = ordered < tokens;
  result.position = ordered.clamp_max(tokens - 1);

  const Tensor which = scores.query.gather(2, result.position);
  const Tensor segment = torch::arange(segments, which.options()).view({1, -1, 1});
  // In float32, so that the gradients of a row that many segments read add up.
  const Tensor own =
      GatherRows(queries.flatten(1, 2).to(torch::kFloat32), which + segment * shape.segment);
  const Tensor entry = GatherRows(input.key.to(torch::kFloat32), result.position);
  result.score = (own * entry).sum(-1) * input.temperature;
  result.log_gate =
      input.log_gate.unsqueeze(1).expand({streams, segments, tokens}).gather(2, result.position);
  const Tensor count = result.valid.to(torch::kFloat32);
  result.age = count.sum(-1, true) - count.cumsum(-1);
  return result;
}

Tensor PlackettLuceLogProbability(const Tensor& z, const Tensor& drawn, double temperature) {
  const Tensor logit = z / temperature;
  const Tensor taken = drawn >= 0;
  const Tensor position = drawn.clamp_min(0);
  const Tensor chosen = logit.gather(1, position).masked_fill(taken.logical_not(), kDead);
  // What is left when the i-th is drawn: those never drawn, and those drawn from i on.
  Tensor mark = torch::zeros(z.sizes(), z.options().dtype(torch::kInt32));
  mark.scatter_add_(1, position, taken.to(torch::kInt32));
  const Tensor never = logit.masked_fill(mark > 0, kDead).logsumexp(1, true);
  const Tensor from_here = chosen.flip({1}).logcumsumexp(1).flip({1});
  const Tensor left = torch::logaddexp(never, from_here);
  return (chosen - left).masked_fill(taken.logical_not(), 0).sum(1);
}

}  // namespace rasq::train
