#include "train/distillation.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "client/tasks/random.h"
#include "train/segment_attention.h"

namespace rasq::train {
namespace {

constexpr int64_t kElements = int64_t{1} << 27;  // of two blocks of probabilities: 1 GiB

// The attention of one segment to what has left its window: float [tokens].
Tensor PastAttention(const Heads& keys, const MemoryConfig& memory, int64_t stream, int64_t start) {
  const int64_t heads = keys.query.size(2), tokens = keys.query.size(1);
  const int64_t group = heads / keys.key.size(2), end = start + memory.segment;
  const auto rows = [&](const Tensor& x, int64_t begin, int64_t count) {
    return x[stream].narrow(0, begin, count).to(torch::kFloat32);
  };
  const Tensor query = rows(keys.query, start, memory.segment).transpose(0, 1);
  const Tensor key = rows(keys.key, 0, end).repeat_interleave(group, 1).permute({1, 2, 0});
  const double scale = 1 / std::sqrt(static_cast<double>(keys.query.size(3)));
  const Tensor position = torch::arange(end, keys.query.options().dtype(torch::kInt64));
  const Tensor ahead =
      position.unsqueeze(0) > position.narrow(0, start, memory.segment).unsqueeze(1);
  const Tensor weight = (torch::matmul(query, key) * scale).masked_fill(ahead, kDead).softmax(-1);
  const int64_t past = start - memory.window - memory.sinks;
  const Tensor received = weight.sum(0).sum(0).narrow(0, memory.sinks, past);
  return torch::constant_pad_nd(received / received.sum().clamp_min(1e-30),
                                {memory.sinks, tokens - memory.sinks - past});
}

class WeightedDivergence : public torch::autograd::Function<WeightedDivergence> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context,
                                                const Tensor& hidden, const Tensor& taught,
                                                const Tensor& head, const Tensor& target,
                                                const Tensor& weight) {
    const Tensor share = weight / weight.sum().clamp_min(1e-6);
    const Tensor matrix = head.to(hidden.scalar_type());
    const int64_t count = hidden.size(0);
    const int64_t block = std::max<int64_t>(1, kElements / head.size(0));
    Tensor divergence = torch::empty({count}, weight.options());
    Tensor each = torch::empty_like(divergence);
    Tensor right = torch::empty({count}, weight.options().dtype(torch::kBool));
    Tensor hidden_gradient = torch::empty_like(hidden);
    Tensor head_gradient;  // a frozen head has none, and may be large
    if (head.requires_grad()) head_gradient = torch::zeros(head.sizes(), weight.options());
    for (int64_t begin = 0; begin < count; begin += block) {
      const int64_t size = std::min(block, count - begin);
      const auto rows = [&](const Tensor& all) { return all.narrow(0, begin, size); };
      const auto log_shares = [&](const Tensor& x) {
        return torch::log_softmax(torch::matmul(rows(x), matrix.t()), -1, torch::kFloat32);
      };
      const Tensor ours = log_shares(hidden), theirs = log_shares(taught);
      const Tensor wanted = theirs.exp();
      rows(divergence).copy_((wanted * (theirs - ours)).sum(-1));
      rows(each).copy_(-ours.gather(1, rows(target).unsqueeze(1)).squeeze(1));
      rows(right).copy_(ours.argmax(-1) == rows(target));
      const Tensor gradient =
          ((ours.exp() - wanted) * rows(share).unsqueeze(1)).to(hidden.scalar_type());
      rows(hidden_gradient).copy_(torch::matmul(gradient, matrix));
      if (head_gradient.defined()) {
        head_gradient.add_(torch::matmul(gradient.t(), rows(hidden)));
      }
    }
    context->save_for_backward({hidden_gradient, head_gradient});
    context->mark_non_differentiable({each, right});
    return {(divergence * share).sum(), each, right};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor& scale = gradients[0];
    return {saved[0] * scale.to(saved[0].scalar_type()), Tensor(),
            saved[1].defined() ? saved[1] * scale : Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

int64_t FirstTaughtSegment(const MemoryConfig& memory) {
  return (memory.window + memory.sinks) / memory.segment + 1;
}

RetrievalProbe DrawSegments(const Tensor& tokens, const MemoryConfig& memory, int64_t rows,
                            uint64_t seed) {
  const int64_t first = FirstTaughtSegment(memory);
  std::vector<int64_t> stream, segment, all(tokens.size(1) / memory.segment - first);
  tasks::Random random(seed);
  for (int64_t i = 0; i < tokens.size(0); ++i) {
    std::iota(all.begin(), all.end(), first);
    random.Shuffle(all);
    const size_t count = std::min(all.size(), static_cast<size_t>(rows));
    stream.insert(stream.end(), count, i);
    segment.insert(segment.end(), all.begin(), all.begin() + static_cast<int64_t>(count));
  }
  RetrievalProbe probe;
  probe.stream = torch::tensor(stream, torch::kInt64).to(tokens.device());
  probe.segment = torch::tensor(segment, torch::kInt64).to(tokens.device());
  return probe;
}

Lesson Teach(const Decoder& decoder, const Tensor& tokens, const RetrievalProbe& probe,
             torch::ScalarType compute) {
  const torch::NoGradGuard no_grad;
  const MemoryConfig& memory = decoder.memory();
  const Tensor stream = probe.stream.to(torch::kCPU), segment = probe.segment.to(torch::kCPU);
  Lesson lesson;
  const auto observe = [&](int64_t layer, const Tensor& /*h*/, const Heads& keys) {
    const int64_t retrieval = memory.RetrievalIndex(static_cast<int32_t>(layer));
    if (retrieval < 0 || memory.retrieval_layers[retrieval] != layer) return;
    std::vector<Tensor> rows;
    for (int64_t i = 0; i < stream.size(0); ++i) {
      rows.push_back(PastAttention(keys, memory, stream.data_ptr<int64_t>()[i],
                                   segment.data_ptr<int64_t>()[i] * memory.segment));
    }
    lesson.attention.push_back(torch::stack(rows));
  };
  lesson.hidden = decoder.ForwardFull(tokens, compute, observe);
  return lesson;
}

Tensor RetrievalDivergence(const Retrieval& retrieval, const Tensor& attention) {
  const Tensor difference = attention.clamp_min(1e-30).log() - retrieval.z.log_softmax(-1);
  return (attention * difference).sum(1).mean();
}

Tensor AttentionRead(const Retrieval& retrieval, const RetrievalProbe& probe,
                     const Tensor& attention) {
  const torch::NoGradGuard no_grad;
  const Tensor position = retrieval.position.index({probe.stream, probe.segment});
  const Tensor valid = retrieval.valid.index({probe.stream, probe.segment});
  return (attention.gather(1, position) * valid.to(torch::kFloat32)).sum(1).mean();
}

TokenLosses Divergence(const Tensor& hidden, const Tensor& taught, const Tensor& head,
                       const Tensor& target, const Tensor& weight) {
  const auto results = WeightedDivergence::apply(hidden, taught, head, target, weight);
  return {results[0], results[1], results[2]};
}

}  // namespace rasq::train
