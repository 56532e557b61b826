#include "train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace rasq::train {
namespace {

// Muon is for matrices between activations; an embedding's rows are looked up, a gate is a vector.
bool IsMatrix(const std::string& name, const Tensor& tensor) {
  return tensor.dim() == 2 && tensor.size(0) > 1 && !absl::StrContains(name, "embed_tokens") &&
         !absl::StrContains(name, "lm_head") && !absl::StrContains(name, "budget");
}

}  // namespace

Tensor Orthogonalise(const Tensor& matrices) {
  const bool tall = matrices.size(1) > matrices.size(2);
  Tensor x = matrices.is_cuda() ? matrices.to(torch::kBFloat16) : matrices;
  if (tall) x = x.transpose(1, 2);
  x = x / (x.flatten(1).norm(2, 1).view({-1, 1, 1}) + 1e-7);
  for (int i = 0; i < 5; ++i) {  // the quintic of the source, which needs no exact convergence
    const Tensor gram = torch::matmul(x, x.transpose(1, 2));
    const Tensor poly = -4.7750 * gram + 2.0315 * torch::matmul(gram, gram);
    x = 3.4445 * x + torch::matmul(poly, x);
  }
  return (tall ? x.transpose(1, 2) : x).to(matrices.scalar_type());
}

Optimizer::Optimizer(const Parameters& parameters, const OptimizerOptions& options)
    : options_(options) {
  const torch::NoGradGuard no_grad;
  std::map<std::vector<int64_t>, Stack> stacks;
  int64_t others = 0;
  torch::TensorOptions tensor_options;
  for (const auto& [name, parameter] : parameters) {
    if (!parameter.requires_grad()) continue;
    tensor_options = parameter.options().requires_grad(false);
    if (IsMatrix(name, parameter)) {
      stacks[parameter.sizes().vec()].member.push_back(trained_.size());
    } else {
      others_.push_back(trained_.size());
      others += parameter.numel();
    }
    trained_.push_back({name, parameter, size_});
    size_ += parameter.numel();
  }
  for (auto& [shape, stack] : stacks) {
    stack.momentum = torch::zeros({static_cast<int64_t>(stack.member.size()), shape[0], shape[1]},
                                  tensor_options);
    stacks_.push_back(std::move(stack));
  }
  adam_mean_ = torch::zeros({others}, tensor_options);
  adam_square_ = torch::zeros({others}, tensor_options);
}

Tensor Optimizer::FlatGradient() const {
  std::vector<Tensor> parts;
  parts.reserve(trained_.size());
  for (const Trained& trained : trained_) {
    const Tensor& gradient = trained.parameter.grad();
    parts.push_back(gradient.defined() ? gradient.flatten()
                                       : torch::zeros_like(trained.parameter).flatten());
  }
  return torch::cat(parts).detach();
}

Tensor Optimizer::Slice(const Tensor& flat, const Trained& trained) const {
  return flat.narrow(0, trained.offset, trained.parameter.numel()).view(trained.parameter.sizes());
}

double Optimizer::Step(const Tensor& flat_gradient, double factor) {
  const torch::NoGradGuard no_grad;
  const double norm = flat_gradient.norm().item<double>();
  if (!std::isfinite(norm)) return norm;
  StepMatrices(flat_gradient, factor);
  StepOthers(flat_gradient, factor);
  return norm;
}

void Optimizer::StepMatrices(const Tensor& gradient, double factor) {
  const double rate = options_.matrix_rate * factor;
  for (Stack& stack : stacks_) {
    std::vector<Tensor> parts;
    parts.reserve(stack.member.size());
    for (const size_t i : stack.member) parts.push_back(Slice(gradient, trained_[i]));
    const Tensor own = torch::stack(parts);
    stack.momentum.lerp_(own, 1 - options_.momentum);
    const Tensor ahead = own.lerp(stack.momentum, options_.momentum);  // Nesterov's
    const double shape = std::sqrt(std::max(1.0, static_cast<double>(own.size(1)) / own.size(2)));
    const Tensor update = Orthogonalise(ahead) * shape;
    for (size_t i = 0; i < stack.member.size(); ++i) {
      Tensor parameter = trained_[stack.member[i]].parameter;
      parameter.mul_(1 - rate * options_.matrix_decay)
          .sub_(update.select(0, static_cast<int64_t>(i)), rate);
    }
  }
}

void Optimizer::StepOthers(const Tensor& gradient, double factor) {
  if (others_.empty()) return;
  std::vector<Tensor> parts;
  parts.reserve(others_.size());
  for (const size_t i : others_) parts.push_back(Slice(gradient, trained_[i]).flatten());
  Tensor own = torch::cat(parts);
  if (options_.max_norm > 0) {
    own = own * (options_.max_norm / own.norm().clamp_min(options_.max_norm));
  }
  ++adam_steps_;
  adam_mean_.lerp_(own, 1 - options_.beta1);
  adam_square_.lerp_(own.square(), 1 - options_.beta2);
  const double steps = static_cast<double>(adam_steps_);
  const Tensor mean = adam_mean_ / (1 - std::pow(options_.beta1, steps));
  const Tensor square = adam_square_ / (1 - std::pow(options_.beta2, steps));
  const double rate = options_.rate * factor;
  const Tensor update = mean / (square.sqrt() + 1e-8) * rate;
  int64_t offset = 0;
  for (const size_t i : others_) {
    Tensor parameter = trained_[i].parameter;
    const int64_t count = parameter.numel();
    parameter.mul_(1 - rate * options_.decay)
        .sub_(update.narrow(0, offset, count).view(parameter.sizes()));
    offset += count;
  }
}

void Optimizer::ClearGradients() {
  for (Trained& trained : trained_) trained.parameter.mutable_grad() = Tensor();
}

std::map<std::string, Tensor> Optimizer::State() const {
  std::map<std::string, Tensor> state;
  for (const Stack& stack : stacks_) {
    for (size_t i = 0; i < stack.member.size(); ++i) {
      state[absl::StrCat("momentum.", trained_[stack.member[i]].name)] =
          stack.momentum.select(0, static_cast<int64_t>(i));
    }
  }
  state["adam.mean"] = adam_mean_;
  state["adam.square"] = adam_square_;
  state["adam.steps"] = torch::full({1}, adam_steps_, torch::kInt64);
  return state;
}

void Optimizer::SetState(const std::map<std::string, Tensor>& state) {
  const torch::NoGradGuard no_grad;
  for (Stack& stack : stacks_) {
    for (size_t i = 0; i < stack.member.size(); ++i) {
      stack.momentum.select(0, static_cast<int64_t>(i))
          .copy_(state.at(absl::StrCat("momentum.", trained_[stack.member[i]].name)));
    }
  }
  adam_mean_.copy_(state.at("adam.mean"));
  adam_square_.copy_(state.at("adam.square"));
  adam_steps_ = state.at("adam.steps").item<int64_t>();
}

}  // namespace rasq::train
