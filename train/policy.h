// The policy gradient of what is read and of how much: REINFORCE with a moving-average baseline,
// and PPO. An episode is one answer and has one step. Sources: Williams 1992; Schulman et al. 2017,
// arXiv:1707.06347; algorithm.md section 7.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "train/torch.h"

namespace rasq::train {

// What rewards of a task have been of late: without it every reward above zero would be good news.
class RewardBaseline {
 public:
  // Rewards less their tasks' baselines as these were before, which then move. The first rewards
  // of a task are their own baseline.
  Tensor Advantage(const Tensor& reward, const std::vector<int32_t>& task);

  const std::map<int32_t, double>& means() const { return means_; }
  void set_means(std::map<int32_t, double> means) { means_ = std::move(means); }

 private:
  std::map<int32_t, double> means_;
};

// Standard Gumbel noise from a generator of its own, so that a seed draws the same on any device.
Tensor GumbelNoise(at::IntArrayRef sizes, uint64_t seed, const torch::Device& device);

// Minus the estimate that the gradient should climb: advantage times log probability.
Tensor ReinforceLoss(const Tensor& log_probability, const Tensor& advantage);

// Minus PPO's clipped surrogate. `before`: log probabilities when the episodes were played.
Tensor PpoLoss(const Tensor& log_probability, const Tensor& before, const Tensor& advantage,
               double clip);

}  // namespace rasq::train
