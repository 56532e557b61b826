// Gradients of the hybrid loss against differences of its values.
#include <cstdlib>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/train/tiny_model.h"
#include "train/batch.h"
#include "train/cross_entropy.h"
#include "train/objective.h"

namespace rasq::train {
namespace {

constexpr int64_t kTokens = 48;

Batch MakeTinyBatch(int64_t tokens, torch::DeviceType device = torch::kCPU) {
  return MakeBatch({testing::RecallStream(1, tokens), testing::RecallStream(2, tokens)}, device);
}

// Everything is selected, so no step changes what is.
Decoder MakeTinyDecoder(uint64_t seed, int32_t head_dim = 8) {
  torch::manual_seed(seed);
  ModelConfig model = testing::TinyModel();
  model.head_dim = head_dim;
  model.inv_freq.clear();
  for (int i = 0; i < head_dim / 2; ++i) model.inv_freq.push_back(1 / (1.0 + 3 * i));
  Decoder decoder = Decoder::Make(model, testing::TinyMemory(/*budget=*/kTokens));
  // From zeros and equals a wrong gradient could look right.
  const torch::NoGradGuard no_grad;
  for (const auto& [name, parameter] : decoder.parameters()) {
    Tensor(parameter).add_(torch::randn_like(parameter), 0.1);
  }
  return decoder;
}

Objective Compute(const Decoder& decoder, const Batch& batch, const LossWeights& loss,
                  const ForwardOptions& options = {}) {
  Phase phase;
  phase.loss = loss;
  ForwardOptions all = options;
  all.compression_loss = true;
  return ComputeObjective(decoder, batch, phase, all);
}

// Along its own direction, in which the slope is largest: the gradient's norm.
void ExpectSlope(const Decoder& decoder, const Batch& batch, const LossWeights& loss,
                 const std::string& name, const ForwardOptions& options = {}) {
  const torch::NoGradGuard no_grad;
  Tensor moved = decoder.parameters().at(name);
  ASSERT_TRUE(moved.grad().defined()) << name;
  const double norm = moved.grad().norm().item<double>();
  const Tensor direction = moved.grad() / norm;
  // Short, for scores have kinks where another query becomes the best; sums of float32 then round
  // to about 1e-3 of slope.
  constexpr double kStep = 5e-4;
  moved.add_(direction, kStep);
  const double ahead = Compute(decoder, batch, loss, options).total.item<double>();
  moved.sub_(direction, 2 * kStep);
  const double behind = Compute(decoder, batch, loss, options).total.item<double>();
  moved.add_(direction, kStep);
  EXPECT_NEAR((ahead - behind) / (2 * kStep), norm, 0.02 * norm + 3e-3) << name;
}

TEST(GradientTest, OfEveryParameterIsTheLossesSlope) {
  const LossWeights loss{.task = 1, .retrieval = 0.3, .compression = 0, .gate = 0.5, .keep = 0.2};
  const Decoder decoder = MakeTinyDecoder(1);
  const Batch batch = MakeTinyBatch(kTokens);
  Compute(decoder, batch, loss).total.backward();
  for (const auto& [name, unused] : decoder.parameters()) ExpectSlope(decoder, batch, loss, name);
}

// Streams are long beside the buffer, so that most of them is read in slots.
TEST(GradientTest, OfModelsWithSummarySlots) {
  const LossWeights loss{.task = 1, .retrieval = 0.3, .compression = 0, .gate = 0.5, .keep = 0.2};
  Decoder decoder = MakeTinyDecoder(4);
  ASSERT_TRUE(decoder.AddSummaries(/*slots=*/3, /*decay=*/0.7f).ok());
  {
    const torch::NoGradGuard no_grad;
    for (const char* name : {"layers.1.memory.summary_query", "layers.2.memory.summary_query"}) {
      Tensor(decoder.parameters().at(name)).normal_();
    }
  }
  const Batch batch = MakeTinyBatch(kTokens);
  const ForwardOptions options{.capacity = 5};
  Compute(decoder, batch, loss, options).total.backward();
  for (const auto& [name, parameter] : decoder.parameters()) {
    ExpectSlope(decoder, batch, loss, name, options);
    EXPECT_GT(parameter.grad().abs().max().item<double>(), 0) << name;
  }
}

// Projections learn to lose little of the keys; the keys do not learn to be easy to project.
TEST(GradientTest, CompressionTeachesTheProjectionsAlone) {
  const LossWeights loss{.task = 0, .retrieval = 0, .compression = 1, .gate = 0, .keep = 0};
  const Decoder decoder = MakeTinyDecoder(2);
  const Batch batch = MakeTinyBatch(kTokens);
  Compute(decoder, batch, loss).total.backward();
  for (const char* name :
       {"layers.1.memory.key_down.weight", "layers.2.memory.value_down.weight"}) {
    ExpectSlope(decoder, batch, loss, name);
  }
  const Tensor& keys = decoder.parameters().at("model.layers.1.self_attn.k_proj.weight").grad();
  EXPECT_TRUE(!keys.defined() || keys.abs().max().item<double>() == 0);
}

TEST(GradientTest, CrossEntropyIsThatOfLibtorch) {
  torch::manual_seed(2);
  const Tensor hidden = torch::randn({10, 6}).requires_grad_();
  const Tensor head = torch::randn({9, 6}).requires_grad_();
  const Tensor target = torch::randint(9, {10}, torch::kInt64);
  const Tensor weight = torch::rand({10});
  const TokenLosses ours = CrossEntropy(hidden, head, target, weight);
  (3 * ours.mean).backward();
  const Tensor hidden_gradient = hidden.grad().clone(), head_gradient = head.grad().clone();
  hidden.mutable_grad() = Tensor();
  head.mutable_grad() = Tensor();
  const Tensor each = torch::nn::functional::cross_entropy(
      torch::matmul(hidden, head.t()), target,
      torch::nn::functional::CrossEntropyFuncOptions().reduction(torch::kNone));
  const Tensor mean = (each * weight).sum() / weight.sum();
  (3 * mean).backward();
  EXPECT_TRUE(torch::allclose(ours.each, each, 1e-5, 1e-5));
  EXPECT_TRUE(torch::allclose(ours.mean, mean, 1e-5, 1e-5));
  EXPECT_TRUE(torch::allclose(hidden_gradient, hidden.grad(), 1e-5, 1e-5));
  EXPECT_TRUE(torch::allclose(head_gradient, head.grad(), 1e-5, 1e-5));
}

// With it bfloat16 makes no other query the best of a score that counts: gradients would differ.
constexpr uint64_t kGpuSeed = 3;

// On a GPU in bfloat16 against plain operations in float32 on the processor. `capacity` of the
// buffer, 0: all.
void ExpectGpuAgrees(const Decoder& decoder, int64_t capacity) {
  const LossWeights loss{.task = 1, .retrieval = 0.3, .compression = 0.1, .gate = 0.5, .keep = 0.2};
  const Batch batch = MakeTinyBatch(kTokens);
  const Objective want = Compute(decoder, batch, loss, {.capacity = capacity});
  want.total.backward();
  Decoder on_gpu = decoder;
  on_gpu.MoveTo(torch::kCUDA);
  const Objective got = Compute(on_gpu, MakeTinyBatch(kTokens, torch::kCUDA), loss,
                                {.compute = torch::kBFloat16, .capacity = capacity});
  got.total.backward();
  EXPECT_NEAR(got.total.item<double>(), want.total.item<double>(), 0.02);
  for (const auto& [name, parameter] : decoder.parameters()) {
    const Tensor expected = parameter.grad();
    const Tensor actual = on_gpu.parameters().at(name).grad().to(torch::kCPU);
    const double error = (actual - expected).norm().item<double>();
    // Of sums over all queries and keys whose terms, each rounded to bfloat16, nearly cancel.
    EXPECT_LT(error, 0.1 * expected.norm().item<double>() + 0.012) << name;
  }
}

// Our kernels (head_dim 64 and 128), flash attention and bfloat16.
class GpuGradientTest : public ::testing::TestWithParam<int32_t> {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) {
      ASSERT_EQ(std::getenv("RASQ_REQUIRE_GPU"), nullptr) << "no GPU";
      GTEST_SKIP() << "no GPU";
    }
  }
};

TEST_P(GpuGradientTest, IsThatOfTheProcessor) {
  ExpectGpuAgrees(MakeTinyDecoder(kGpuSeed, GetParam()), /*capacity=*/0);
}

TEST_P(GpuGradientTest, WithSummarySlotsIsThatOfTheProcessor) {
  Decoder decoder = MakeTinyDecoder(kGpuSeed, GetParam());
  ASSERT_TRUE(decoder.AddSummaries(/*slots=*/3, /*decay=*/0.7f).ok());
  ExpectGpuAgrees(decoder, /*capacity=*/16);
}

// Reading all clusters, so that none has to be chosen.
TEST_P(GpuGradientTest, WithClustersIsThatOfTheProcessor) {
  Decoder decoder = MakeTinyDecoder(kGpuSeed, GetParam());
  ASSERT_TRUE(decoder.SetClusters({.clusters = 4, .read = 4, .min_entries = 2}).ok());
  ExpectGpuAgrees(decoder, /*capacity=*/0);
}

INSTANTIATE_TEST_SUITE_P(All, GpuGradientTest, ::testing::Values(8, 64, 128),
                         [](const auto& c) { return "head_dim_" + std::to_string(c.param); });

}  // namespace
}  // namespace rasq::train
