// The policy gradient on cases that can be enumerated.
#include "train/policy.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "train/retrieval.h"

namespace rasq::train {
namespace {

constexpr int64_t kItems = 4;
constexpr double kTemperature = 0.7;

Tensor Logits() { return torch::tensor({0.3f, -0.8f, 1.1f, 0.0f}).unsqueeze(0); }

// All ordered pairs.
std::vector<std::pair<int64_t, int64_t>> Pairs() {
  std::vector<std::pair<int64_t, int64_t>> pairs;
  for (int64_t a = 0; a < kItems; ++a) {
    for (int64_t b = 0; b < kItems; ++b) {
      if (a != b) pairs.emplace_back(a, b);
    }
  }
  return pairs;
}

// What a pair is worth, whatever its order.
double Reward(int64_t a, int64_t b) { return (a == 1 || b == 1 ? 2.0 : 0.0) + 0.25 * (a + b); }

TEST(PlackettLuceTest, IsTheProductOfDraws) {
  const Tensor z = Logits();
  const Tensor p = (z / kTemperature).softmax(1).squeeze(0);
  double sum = 0;
  for (const auto& [a, b] : Pairs()) {
    const double got =
        PlackettLuceLogProbability(z, torch::tensor({{a, b}}, torch::kInt64), kTemperature)
            .item<double>();
    const double first = p[a].item<double>(), second = p[b].item<double>() / (1 - first);
    EXPECT_NEAR(got, std::log(first * second), 1e-5) << a << " " << b;
    sum += std::exp(got);
  }
  EXPECT_NEAR(sum, 1, 1e-5);
  // A draw that ended early is the likelihood of what was drawn.
  EXPECT_NEAR(PlackettLuceLogProbability(z, torch::tensor({{2, -1}}, torch::kInt64), kTemperature)
                  .item<double>(),
              std::log(p[2].item<double>()), 1e-5);
}

// Pairs by Gumbel-top-k, as Retrieve draws them.
Tensor DrawPairs(const Tensor& z, int64_t rows, uint64_t seed) {
  const Tensor noisy = z.detach() / kTemperature + GumbelNoise({rows, kItems}, seed, torch::kCPU);
  return std::get<1>(noisy.topk(2, 1));
}

TEST(PolicyTest, GumbelTopKDrawsByPlackettLuce) {
  constexpr int64_t kRows = 200000;
  const Tensor z = Logits();
  const Tensor drawn = DrawPairs(z, kRows, 5);
  for (const auto& [a, b] : Pairs()) {
    const double share = drawn.select(1, 0)
                             .eq(a)
                             .logical_and(drawn.select(1, 1).eq(b))
                             .to(torch::kFloat64)
                             .mean()
                             .item<double>();
    const double want =
        std::exp(PlackettLuceLogProbability(z, torch::tensor({{a, b}}, torch::kInt64), kTemperature)
                     .item<double>());
    EXPECT_NEAR(share, want, 5 * std::sqrt(want / kRows)) << a << " " << b;
  }
}

Tensor Rewards(const Tensor& drawn) {
  Tensor rewards = torch::empty({drawn.size(0)});
  for (int64_t i = 0; i < drawn.size(0); ++i) {
    rewards[i] = Reward(drawn[i][0].item<int64_t>(), drawn[i][1].item<int64_t>());
  }
  return rewards;
}

TEST(PolicyTest, ReinforceIsUnbiased) {
  const Tensor z = Logits().requires_grad_();
  Tensor expected = torch::zeros({});
  for (const auto& [a, b] : Pairs()) {
    const Tensor log_probability =
        PlackettLuceLogProbability(z, torch::tensor({{a, b}}, torch::kInt64), kTemperature);
    expected = expected + log_probability.exp().sum() * Reward(a, b);
  }
  expected.backward();
  const Tensor want = z.grad().clone().squeeze(0);

  constexpr int64_t kRows = 20000;
  const Tensor rows = z.detach().expand({kRows, kItems}).clone().requires_grad_();
  const Tensor drawn = DrawPairs(z, kRows, 6);
  // Any constant baseline leaves the mean where it is.
  const Tensor loss =
      ReinforceLoss(PlackettLuceLogProbability(rows, drawn, kTemperature), Rewards(drawn) - 1.3);
  loss.backward();
  const Tensor samples = -rows.grad() * static_cast<double>(kRows);
  const Tensor mean = samples.mean(0), error = samples.std(0) / std::sqrt(1.0 * kRows);
  for (int64_t i = 0; i < kItems; ++i) {
    EXPECT_NEAR(mean[i].item<double>(), want[i].item<double>(), 4.5 * error[i].item<double>()) << i;
  }
}

double ExpectedReward(const Tensor& z) {
  double sum = 0;
  for (const auto& [a, b] : Pairs()) {
    sum += Reward(a, b) * std::exp(PlackettLuceLogProbability(
                                       z, torch::tensor({{a, b}}, torch::kInt64), kTemperature)
                                       .item<double>());
  }
  return sum;
}

TEST(PolicyTest, PpoImprovesOverItsStart) {
  Tensor z = Logits().requires_grad_();
  const double start = ExpectedReward(z.detach());
  RewardBaseline baseline;
  for (uint64_t round = 0; round < 40; ++round) {
    const Tensor drawn = DrawPairs(z, 64, 100 + round);
    const auto log_probability = [&] {
      return PlackettLuceLogProbability(z.expand({64, kItems}), drawn, kTemperature);
    };
    const Tensor before = log_probability().detach();
    const Tensor advantage = baseline.Advantage(Rewards(drawn), std::vector<int32_t>(64, 0));
    for (int epoch = 0; epoch < 3; ++epoch) {
      PpoLoss(log_probability(), before, advantage, /*clip=*/0.2).backward();
      const torch::NoGradGuard no_grad;
      z.sub_(z.grad(), 0.1);
      z.mutable_grad() = Tensor();
    }
  }
  const double best = Reward(1, 3);
  EXPECT_GT(ExpectedReward(z.detach()), start + 0.6 * (best - start));
}

TEST(PolicyTest, PpoStopsAtTheClip) {
  const Tensor before = torch::zeros({2});
  const Tensor now = torch::tensor({0.5f, -0.5f}).requires_grad_();  // ratios 1.65 and 0.61
  PpoLoss(now, before, torch::tensor({1.0f, -1.0f}), 0.2).backward();
  EXPECT_EQ(now.grad().abs().sum().item<double>(), 0);  // both went far enough
  now.mutable_grad() = Tensor();
  PpoLoss(now, before, torch::tensor({-1.0f, 1.0f}), 0.2).backward();
  EXPECT_GT(now.grad().abs().min().item<double>(), 0.2);  // both went the wrong way
}

TEST(PolicyTest, BaselinesAreOfTasks) {
  RewardBaseline baseline;
  const Tensor first = baseline.Advantage(torch::tensor({1.0f, 3.0f, 10.0f}), {0, 0, 1});
  EXPECT_TRUE(torch::allclose(first, torch::tensor({-1.0f, 1.0f, 0.0f})));
  const Tensor second = baseline.Advantage(torch::tensor({4.0f, 10.0f}), {0, 1});
  EXPECT_TRUE(torch::allclose(second, torch::tensor({2.0f, 0.0f})));
  EXPECT_NEAR(baseline.means().at(0), 2.1, 1e-6);
}

}  // namespace
}  // namespace rasq::train
