#include "train/policy.h"

#include <ATen/CPUGeneratorImpl.h>

#include <utility>

namespace rasq::train {
namespace {

constexpr double kBaselineStep = 0.05;  // of a batch's mean: remembers some twenty batches

}  // namespace

Tensor RewardBaseline::Advantage(const Tensor& reward, const std::vector<int32_t>& task) {
  const Tensor rewards = reward.detach().to(torch::kCPU, torch::kFloat32).contiguous();
  const float* values = rewards.data_ptr<float>();
  std::map<int32_t, std::pair<double, int64_t>> sums;
  for (size_t i = 0; i < task.size(); ++i) {
    auto& [sum, count] = sums[task[i]];
    sum += values[i];
    ++count;
  }
  for (const auto& [id, sum] : sums) {
    means_.try_emplace(id, sum.first / static_cast<double>(sum.second));
  }
  Tensor advantage = torch::empty_like(rewards);
  for (size_t i = 0; i < task.size(); ++i) {
    advantage.data_ptr<float>()[i] = static_cast<float>(values[i] - means_[task[i]]);
  }
  for (const auto& [id, sum] : sums) {
    means_[id] += kBaselineStep * (sum.first / static_cast<double>(sum.second) - means_[id]);
  }
  return advantage.to(reward.device());
}

Tensor GumbelNoise(at::IntArrayRef sizes, uint64_t seed, const torch::Device& device) {
  const auto generator = at::detail::createCPUGenerator(seed);
  const Tensor uniform = torch::rand(sizes, generator, torch::kFloat32).clamp(1e-10, 1 - 1e-7);
  return (-torch::log(-torch::log(uniform))).to(device);
}

Tensor ReinforceLoss(const Tensor& log_probability, const Tensor& advantage) {
  return -(advantage.detach() * log_probability).mean();
}

Tensor PpoLoss(const Tensor& log_probability, const Tensor& before, const Tensor& advantage,
               double clip) {
  const Tensor ratio = (log_probability - before.detach()).exp();
  const Tensor gain = advantage.detach();
  return -torch::minimum(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain).mean();
}

}  // namespace rasq::train
