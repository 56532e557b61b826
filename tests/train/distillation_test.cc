// The decoder with full attention as the teacher of its own memory.
#include "train/distillation.h"

#include <atomic>
#include <filesystem>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/temporary_directory.h"
#include "tests/train/tiny_model.h"
#include "train/batch.h"
#include "train/objective.h"
#include "train/recipe.h"
#include "train/safetensors_writer.h"
#include "train/trainer.h"

namespace rasq::train {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kTokens = 48;

Decoder MakeDecoder() {
  torch::manual_seed(3);
  Decoder decoder = Decoder::Make(testing::TinyModel(), testing::TinyMemory(/*budget=*/4));
  const torch::NoGradGuard no_grad;
  for (const auto& [name, parameter] : decoder.parameters()) {
    // Larger than a model starts with, so that attention has preferences.
    if (!IsAdapterParameter(name) && parameter.dim() == 2) Tensor(parameter).mul_(12);
  }
  return decoder;
}

Batch MakeStreams(int64_t first, int64_t count) {
  std::vector<TrainingStream> streams;
  for (int64_t i = 0; i < count; ++i) streams.push_back(testing::RecallStream(first + i, kTokens));
  return MakeBatch(streams, torch::kCPU);
}

Phase TaughtPhase() {
  Phase phase;
  phase.name = "taught";
  phase.stream_tokens = kTokens;
  phase.streams = 8;
  phase.trains = Trains::kAdapter;
  phase.teacher = Teacher::kFullAttention;
  phase.loss = {.task = 1, .retrieval = 1, .compression = 0, .gate = 0, .keep = 0};
  return phase;
}

Objective Compute(const Decoder& decoder, const Batch& batch) {
  ForwardOptions options;
  options.probe = DrawSegments(batch.tokens, decoder.memory(), 4, /*seed=*/1);
  return ComputeObjective(decoder, batch, TaughtPhase(), options);
}

TEST(DistillationTest, TokensDivergeByLibtorchsMeasure) {
  torch::manual_seed(1);
  const Tensor hidden = torch::randn({10, 6}).requires_grad_();
  const Tensor head = torch::randn({9, 6}).requires_grad_();
  const Tensor taught = torch::randn({10, 6}), weight = torch::rand({10});
  const Tensor target = torch::randint(9, {10}, torch::kInt64);
  const TokenLosses ours = Divergence(hidden, taught, head, target, weight);
  (2 * ours.mean).backward();
  const Tensor hidden_gradient = hidden.grad().clone(), head_gradient = head.grad().clone();
  hidden.mutable_grad() = Tensor();
  head.mutable_grad() = Tensor();

  const Tensor logs = torch::matmul(hidden, head.t()).log_softmax(-1);
  const Tensor wanted = torch::matmul(taught, head.detach().t()).log_softmax(-1);
  const Tensor mean = ((wanted.exp() * (wanted - logs)).sum(-1) * weight).sum() / weight.sum();
  (2 * mean).backward();
  EXPECT_TRUE(torch::allclose(ours.mean, mean, 1e-5, 1e-5));
  EXPECT_TRUE(torch::allclose(hidden_gradient, hidden.grad(), 1e-4, 1e-5));
  EXPECT_TRUE(torch::allclose(head_gradient, head.grad(), 1e-4, 1e-5));
  EXPECT_TRUE(torch::allclose(ours.each, -logs.gather(1, target.unsqueeze(1)).squeeze(1)));

  const TokenLosses same = Divergence(taught, taught, head.detach(), target, weight);
  EXPECT_NEAR(same.mean.item<double>(), 0, 1e-6);
}

TEST(DistillationTest, SegmentsAreDrawnFromThoseWithAPast) {
  const Tensor tokens = torch::zeros({3, kTokens}, torch::kInt64);
  const MemoryConfig memory = testing::TinyMemory(4);
  EXPECT_EQ(FirstTaughtSegment(memory), 3);
  const RetrievalProbe some = DrawSegments(tokens, memory, 5, 7);
  EXPECT_EQ(some.stream.size(0), 15);
  EXPECT_GE(some.segment.min().item<int64_t>(), 3);
  EXPECT_LT(some.segment.max().item<int64_t>(), 12);
  EXPECT_TRUE(torch::equal(some.segment, DrawSegments(tokens, memory, 5, 7).segment));
  EXPECT_FALSE(torch::equal(some.segment, DrawSegments(tokens, memory, 5, 8).segment));
  const Tensor every =
      std::get<0>(DrawSegments(tokens, memory, 100, 7).segment.view({3, 9}).sort(1));
  EXPECT_TRUE(torch::equal(every[0], torch::arange(3, 12)));
}

TEST(DistillationTest, AttentionIsThatOfTheSegmentToItsPast) {
  const Decoder decoder = MakeDecoder();
  const Batch batch = MakeStreams(1, 2);
  RetrievalProbe probe;
  probe.stream = torch::tensor({1, 0}, torch::kInt64);
  probe.segment = torch::tensor({3, 11}, torch::kInt64);
  const Lesson lesson = Teach(decoder, batch.tokens, probe, torch::kFloat32);
  ASSERT_EQ(lesson.attention.size(), 2u);
  for (const Tensor& attention : lesson.attention) {
    ASSERT_EQ(attention.sizes(), (std::vector<int64_t>{2, kTokens}));
    EXPECT_TRUE(torch::allclose(attention.sum(1), torch::ones({2})));
    // Sinks are 2, the window 8: of segment 3 (from token 12) tokens 2 and 3 are the past.
    EXPECT_NEAR(attention[0].narrow(0, 2, 2).sum().item<double>(), 1, 1e-6);
    EXPECT_NEAR(attention[1].narrow(0, 2, 34).sum().item<double>(), 1, 1e-6);
  }
  // A retriever whose scores are the log of it has nothing to learn.
  Retrieval perfect;
  perfect.z = lesson.attention[0].clamp_min(1e-30).log();
  EXPECT_NEAR(RetrievalDivergence(perfect, lesson.attention[0]).item<double>(), 0, 1e-5);
  perfect.z = torch::zeros_like(perfect.z);
  EXPECT_GT(RetrievalDivergence(perfect, lesson.attention[0]).item<double>(), 0.1);
}

TEST(DistillationTest, GradientIsTheSlope) {
  const Decoder decoder = MakeDecoder();
  const Batch batch = MakeStreams(1, 2);
  Compute(decoder, batch).total.backward();
  const torch::NoGradGuard no_grad;
  // Other parameters move the teacher too, which has no gradient.
  for (const char* name : {"layers.1.retriever.log_temperature", "layers.2.memory.score_weight"}) {
    Tensor moved = decoder.parameters().at(name);
    const double norm = moved.grad().norm().item<double>();
    const Tensor direction = moved.grad() / norm;
    constexpr double kStep = 1e-3;
    moved.add_(direction, kStep);
    const double ahead = Compute(decoder, batch).total.item<double>();
    moved.sub_(direction, 2 * kStep);
    const double behind = Compute(decoder, batch).total.item<double>();
    moved.add_(direction, kStep);
    EXPECT_NEAR((ahead - behind) / (2 * kStep), norm, 0.03 * norm + 3e-3) << name;
  }
}

TEST(DistillationTest, TheAdapterLearnsAndTheDecoderStays) {
  const rasq::testing::TemporaryDirectory directory;
  const Decoder decoder = MakeDecoder();
  TrainingState start;
  start.parameters = decoder.parameters();
  Recipe recipe;
  recipe.optimizer.matrix_rate = 0.02;
  recipe.optimizer.rate = 0.01;
  recipe.phases = {TaughtPhase()};
  recipe.phases[0].tokens = 80 * 8 * kTokens;
  ASSERT_TRUE(WriteTextFile(directory.path() + "/rasq_config.json", "{}").ok());
  const TrainerOptions options{.source = directory.path(),
                               .output = directory.path(),
                               .devices = {torch::kCPU},
                               .log_steps = 1000};
  const StreamFactory streams = [](const Phase&) -> absl::StatusOr<StreamSource> {
    return [](int64_t i) { return testing::RecallStream(i, kTokens); };
  };
  const Batch unseen = MakeStreams(1'000'000, 32);
  const Objective before = Compute(decoder, unseen);
  const std::atomic<bool> stop{false};
  const auto progress = Train(options, recipe, decoder, start, streams, stop);
  ASSERT_TRUE(progress.ok()) << progress.status();

  Decoder learned = decoder;
  learned.MoveTo(torch::kCPU);
  const auto state = LoadTraining(directory.path());
  ASSERT_TRUE(state.ok() && SetParameters(state->parameters, learned).ok());
  for (const auto& [name, parameter] : decoder.parameters()) {
    EXPECT_EQ(torch::equal(parameter, learned.parameters().at(name)), !IsAdapterParameter(name))
        << name;
  }
  const Objective after = Compute(learned, unseen);
  for (const char* term : {"retrieval", "task"}) {
    EXPECT_LT(after.terms.at(term).item<double>(), 0.8 * before.terms.at(term).item<double>())
        << term;
  }
  EXPECT_GT(after.terms.at("attention_read").item<double>(),
            before.terms.at("attention_read").item<double>());
}

TEST(DistillationTest, RecipesAreChecked) {
  const auto parse = [](const std::string& fields) {
    return ParseRecipe(
        R"({"phases": [{"tokens": 1, "stream_tokens": 64, "streams": 1, )" + fields + "}]}",
        "recipe.json");
  };
  const auto good = parse(R"("teacher": "full_attention", "teacher_segments": 3)");
  ASSERT_TRUE(good.ok()) << good.status();
  EXPECT_EQ(good->phases[0].teacher, Teacher::kFullAttention);
  EXPECT_EQ(good->phases[0].teacher_segments, 3);
  for (const char* fields :
       {R"("teacher": "oracle")", R"("teacher": "full_attention", "policy": "ppo")",
        R"("teacher": "full_attention", "full_attention_share": 0.5)"}) {
    EXPECT_THAT(std::string(parse(fields).status().message()), HasSubstr("teacher")) << fields;
  }
  Recipe recipe;
  recipe.phases = {TaughtPhase()};
  recipe.phases[0].stream_tokens = 128;  // more than the model was trained for
  const std::atomic<bool> stop{false};
  const auto refused = Train({.devices = {torch::kCPU}}, recipe, MakeDecoder(), {}, nullptr, stop);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("stream_tokens=128"));
}

}  // namespace
}  // namespace rasq::train
