#include "train/objective.h"

#include "train/cross_entropy.h"
#include "train/distillation.h"

namespace rasq::train {
namespace {

Tensor MeanWhere(const Tensor& values, const Tensor& where) {
  const Tensor weight = where.to(values.scalar_type());
  return (values * weight).sum() / weight.sum().clamp_min(1);
}

// - mean over evidence of log softmax(z) over all that has left the window, in the buffer or not:
// what was lost should have had a better gate.
Tensor RetrievalLoss(const Retrieval& retrieval, const Tensor& evidence) {
  const Tensor there = evidence.logical_and(retrieval.past);
  const Tensor count = there.sum(1);
  const Tensor log_share = retrieval.z.log_softmax(-1).masked_fill(there.logical_not(), 0);
  return MeanWhere(-log_share.sum(1) / count.clamp_min(1), count > 0);
}

// Share of the evidence in the buffer that was read, and of all evidence that is in the buffer.
void AddRecall(const Retrieval& retrieval, const Batch& batch, int64_t layers, Objective& result) {
  const torch::NoGradGuard no_grad;
  const Tensor there = batch.evidence.logical_and(retrieval.alive);
  const Tensor position = retrieval.position.index({batch.stream, batch.segment});
  const Tensor valid = retrieval.valid.index({batch.stream, batch.segment});
  const Tensor read = there.gather(1, position).logical_and(valid).sum(1);
  const Tensor all = batch.evidence.sum(1), alive = there.sum(1);
  const auto add = [&](const char* name, const Tensor& value) {
    Tensor& sum = result.terms[name];
    sum = (sum.defined() ? sum : torch::zeros_like(value)) + value / static_cast<double>(layers);
  };
  add("recall", MeanWhere(read / alive.clamp_min(1), alive > 0));
  add("alive", MeanWhere(alive / all.clamp_min(1), all > 0));
}

void AddRetrievals(const ForwardResult& forward, const Batch& batch, const Phase& phase,
                   const RetrievalProbe& probe, Objective& result) {
  const auto layers = static_cast<int64_t>(forward.retrievals.size());
  Tensor loss = torch::zeros_like(result.total), budget;
  for (const Retrieval& retrieval : forward.retrievals) {
    loss = loss + RetrievalLoss(retrieval, batch.evidence);
    AddRecall(retrieval, batch, layers, result);
    if (!probe.explores()) continue;
    const auto most = static_cast<double>(retrieval.position.size(2) * layers);
    const Tensor own = retrieval.budget.index({batch.stream, batch.segment}) / most;
    result.mean_budget = result.mean_budget.defined() ? result.mean_budget + own : own;
    result.log_probability = result.log_probability.defined()
                                 ? result.log_probability + retrieval.log_probability
                                 : retrieval.log_probability;
  }
  result.total = result.total + phase.loss.retrieval * loss;
  result.terms["retrieval"] = loss.detach() / static_cast<double>(layers);
}

// What the decoder's own attention looks for, in place of evidence.
void AddLesson(const ForwardResult& forward, const Lesson& lesson, const Phase& phase,
               const RetrievalProbe& probe, Objective& result) {
  const auto layers = static_cast<double>(forward.retrievals.size());
  Tensor loss = torch::zeros_like(result.total), read = loss;
  for (size_t i = 0; i < forward.retrievals.size(); ++i) {
    loss = loss + RetrievalDivergence(forward.retrievals[i], lesson.attention[i]);
    read = read + AttentionRead(forward.retrievals[i], probe, lesson.attention[i]);
  }
  result.total = result.total + phase.loss.retrieval * loss;
  result.terms["retrieval"] = loss.detach() / layers;
  result.terms["attention_read"] = read / layers;
}

}  // namespace

Objective ComputeObjective(const Decoder& decoder, const Batch& batch, const Phase& phase,
                           const ForwardOptions& given) {
  ForwardOptions options = given;
  const bool taught = phase.teacher != Teacher::kNone;
  Lesson lesson;
  if (taught) {
    lesson = Teach(decoder, batch.tokens, options.probe, options.compute);
  } else {
    options.probe.stream = batch.stream;
    options.probe.segment = batch.segment;
    options.probe.evidence = batch.evidence;
  }
  ForwardResult forward;
  if (options.full_attention) {
    forward.hidden = decoder.ForwardFull(batch.tokens, options.compute);
  } else {
    forward = decoder.Forward(batch.tokens, options);
  }
  const Tensor hidden = forward.hidden.flatten(0, 1);
  const Tensor target = batch.target.flatten(), weight = batch.weight.flatten();
  const TokenLosses losses =
      taught ? Divergence(hidden, lesson.hidden.flatten(0, 1), decoder.head(), target, weight)
             : CrossEntropy(hidden, decoder.head(), target, weight);
  Objective result;
  result.total = phase.loss.task * losses.mean;
  const auto over_answers = [&](const Tensor& values) {
    return MeanOverAnswers(batch, values.view(batch.tokens.sizes()));
  };
  const bool asks = batch.num_rows() > 0;
  Tensor right;
  if (asks) right = over_answers(losses.right.to(torch::kFloat32)) > 0.999;
  if (options.full_attention) {
    result.terms["full_task"] = losses.mean.detach();
    if (asks) result.terms["full_right"] = right.to(torch::kFloat32).mean();
    return result;
  }
  result.terms["task"] = losses.mean.detach();
  if (asks) {
    result.answer_log_probability = -over_answers(losses.each);
    result.answer_right = right;
  }
  if (taught) {
    AddLesson(forward, lesson, phase, options.probe, result);
  } else if (asks) {
    AddRetrievals(forward, batch, phase, options.probe, result);
  }
  const Tensor gate = forward.log_gate.exp().mean();
  result.total = result.total + phase.loss.gate * gate;
  if (asks) {
    const Tensor kept = MeanWhere(forward.log_gate.index_select(0, batch.stream), batch.evidence);
    result.total = result.total - phase.loss.keep * kept;
    result.terms["keep"] = -kept.detach();
  }
  result.terms["gate"] = gate.detach();
  Tensor budget = torch::zeros_like(gate);
  for (const Retrieval& retrieval : forward.retrievals) {
    budget = budget + retrieval.valid.to(torch::kFloat32).sum(-1).mean() /
                          static_cast<double>(forward.retrievals.size());
  }
  result.terms["budget"] = budget;
  if (options.compression_loss) {
    result.total = result.total + phase.loss.compression * forward.compression_loss;
    result.terms["compression"] = forward.compression_loss.detach();
  }
  result.retrievals = std::move(forward.retrievals);
  return result;
}

}  // namespace rasq::train
