#include "train/cross_entropy.h"

#include <algorithm>

namespace rasq::train {
namespace {

constexpr int64_t kRows = 16384;  // of a block: 0.5 GiB of probabilities at a vocabulary of 8192

class WeightedMean : public torch::autograd::Function<WeightedMean> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context,
                                                const Tensor& hidden, const Tensor& head,
                                                const Tensor& target, const Tensor& weight) {
    const Tensor share = weight / weight.sum().clamp_min(1e-6);
    const Tensor matrix = head.to(hidden.scalar_type());
    const auto floats = weight.options();
    Tensor each = torch::empty({hidden.size(0)}, floats);
    Tensor right = torch::empty({hidden.size(0)}, floats.dtype(torch::kBool));
    Tensor hidden_gradient = torch::empty_like(hidden);
    Tensor head_gradient = torch::zeros(head.sizes(), floats);
    for (int64_t begin = 0; begin < hidden.size(0); begin += kRows) {
      const int64_t count = std::min(kRows, hidden.size(0) - begin);
      const auto rows = [&](const Tensor& all) { return all.narrow(0, begin, count); };
      const Tensor logits = torch::matmul(rows(hidden), matrix.t());
      Tensor gradient = torch::softmax(logits, -1, torch::kFloat32);
      const Tensor wanted = rows(target).unsqueeze(1);
      rows(each).copy_(-gradient.gather(1, wanted).squeeze(1).clamp_min(1e-30).log());
      rows(right).copy_(logits.argmax(-1) == rows(target));
      gradient.scatter_add_(1, wanted, torch::full(wanted.sizes(), -1.0, floats));
      gradient = gradient.to(hidden.scalar_type());
      // Weighted where a row is narrow.
      const Tensor own = rows(share).unsqueeze(1);
      rows(hidden_gradient).copy_(torch::matmul(gradient, matrix) * own);
      head_gradient.add_(
          torch::matmul(gradient.t(), (rows(hidden) * own).to(gradient.scalar_type())));
    }
    context->save_for_backward({hidden_gradient, head_gradient});
    context->mark_non_differentiable({each, right});
    return {(each * share).sum(), each, right};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor& scale = gradients[0];
    return {saved[0] * scale.to(saved[0].scalar_type()), saved[1] * scale, Tensor(), Tensor()};
  }
};

}  // namespace

TokenLosses CrossEntropy(const Tensor& hidden, const Tensor& head, const Tensor& target,
                         const Tensor& weight) {
  const auto results = WeightedMean::apply(hidden, head, target, weight);
  return {results[0], results[1], results[2]};
}

}  // namespace rasq::train
