// Whole runs of a tiny model on the processor.
#include "train/trainer.h"

#include <atomic>
#include <string>
#include <vector>

#include "engine/json_reader.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/support/temporary_directory.h"
#include "tests/train/tiny_model.h"
#include "train/batch.h"
#include "train/objective.h"
#include "train/replicas.h"
#include "train/safetensors_writer.h"

namespace rasq::train {
namespace {

constexpr int64_t kTokens = 32;
constexpr int64_t kStreams = 4;

Recipe MakeRecipe(int64_t steps, const Phase& phase) {
  Recipe recipe;
  recipe.seed = 7;
  recipe.optimizer.matrix_rate = 0.02;
  recipe.optimizer.rate = 0.01;
  recipe.phases = {phase};
  recipe.phases[0].tokens = steps * kStreams * kTokens;
  return recipe;
}

Phase MakePhase() {
  Phase phase;
  phase.name = "test";
  phase.stream_tokens = kTokens;
  phase.streams = kStreams;
  phase.capacities = {0, 8};
  return phase;
}

class TrainerTest : public ::testing::Test {
 protected:
  TrainerTest() {
    torch::manual_seed(11);
    initial_ = std::make_unique<Decoder>(
        Decoder::Make(testing::TinyModel(), testing::TinyMemory(/*budget=*/4)));
    state_.parameters = initial_->parameters();
  }

  TrainingState Run(const std::string& name, const Recipe& recipe, const TrainingState& from,
                    const std::string& devices = "cpu") {
    const std::string output = directory_.path() + "/" + name;
    std::filesystem::create_directories(output);
    EXPECT_TRUE(WriteTextFile(output + "/rasq_config.json", "{\"segment_tokens\": 4}").ok());
    Decoder decoder = *initial_;
    decoder.MoveTo(torch::kCPU);
    EXPECT_TRUE(SetParameters(from.parameters, decoder).ok());
    const TrainerOptions options{
        .source = output, .output = output, .devices = *ParseDevices(devices), .log_steps = 1000};
    const StreamFactory streams = [](const Phase& phase) -> absl::StatusOr<StreamSource> {
      return [tokens = phase.stream_tokens](int64_t i) { return testing::RecallStream(i, tokens); };
    };
    const auto progress = Train(options, recipe, decoder, from, streams, stop_);
    EXPECT_TRUE(progress.ok()) << progress.status();
    auto state = LoadTraining(output);
    EXPECT_TRUE(state.ok()) << state.status();
    return *std::move(state);
  }

  static double Difference(const TrainingState& a, const TrainingState& b) {
    double largest = 0;
    for (const auto& [name, tensor] : a.parameters) {
      largest = std::max(largest, (tensor - b.parameters.at(name)).abs().max().item<double>());
    }
    return largest;
  }

  rasq::testing::TemporaryDirectory directory_;
  std::unique_ptr<Decoder> initial_;
  TrainingState state_;
  std::atomic<bool> stop_{false};
};

TEST_F(TrainerTest, ResumingIsNotStopping) {
  for (const PolicyMethod method :
       {PolicyMethod::kNone, PolicyMethod::kReinforce, PolicyMethod::kPpo}) {
    Phase phase = MakePhase();
    phase.policy = method;
    phase.loss.policy = 0.1;
    const TrainingState whole = Run("whole", MakeRecipe(6, phase), state_);
    const TrainingState half = Run("half", MakeRecipe(3, phase), state_);
    EXPECT_EQ(half.progress.steps, 3);
    const TrainingState resumed = Run("resumed", MakeRecipe(6, phase), half);
    EXPECT_EQ(resumed.progress.steps, 6);
    EXPECT_EQ(resumed.progress.tokens, whole.progress.tokens);
    EXPECT_EQ(Difference(whole, resumed), 0);
    EXPECT_GT(Difference(whole, half), 0);
  }
}

TEST_F(TrainerTest, ReplicasAreOneLargerBatch) {
  Phase accumulated = MakePhase();
  accumulated.accumulate = 2;
  Recipe recipe = MakeRecipe(8, accumulated);
  const TrainingState one = Run("one", recipe, state_);
  recipe.phases[0].accumulate = 1;
  const TrainingState two = Run("two", recipe, state_, "cpu,cpu");
  EXPECT_EQ(one.progress.steps, 4);
  EXPECT_EQ(two.progress.steps, 4);
  // Sums in another order, through Muon, which makes much of small gradients.
  EXPECT_LT(Difference(one, two), 1e-3);
}

// Where every entry read costs more than it can bring, the head learns to read few.
TEST_F(TrainerTest, ThePolicyLearnsTheBudget) {
  for (const PolicyMethod method : {PolicyMethod::kReinforce, PolicyMethod::kPpo}) {
    ASSERT_TRUE(initial_->AddBudgetHead({0.25f, 1}).ok());
    TrainingState start;
    start.parameters = initial_->parameters();
    Phase phase = MakePhase();
    phase.trains = Trains::kAdapter;
    phase.policy = method;
    phase.loss = {.task = 0,
                  .retrieval = 0,
                  .compression = 0,
                  .gate = 0,
                  .keep = 0,
                  .budget = 10,
                  .policy = 1};
    const auto largest = [&](const TrainingState& state) {
      Decoder decoder = *initial_;
      decoder.MoveTo(torch::kCPU);
      EXPECT_TRUE(SetParameters(state.parameters, decoder).ok());
      const Batch batch = MakeBatch({testing::RecallStream(5, kTokens)}, torch::kCPU);
      const torch::NoGradGuard no_grad;
      int64_t most = 0;
      for (const Retrieval& retrieval : decoder.Forward(batch.tokens, {}).retrievals) {
        most = std::max(most, retrieval.budget.select(1, -1).max().item<int64_t>());
      }
      return most;
    };
    EXPECT_EQ(largest(start), 4);
    EXPECT_EQ(largest(Run("budget", MakeRecipe(60, phase), start)), 1);
    const auto config = ReadTextFile(directory_.path() + "/budget/rasq_config.json");
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(nlohmann::json::parse(*config),
              nlohmann::json({{"segment_tokens", 4}, {"budget_factors", {0.25, 1}}}));
  }
}

TEST_F(TrainerTest, AStopIsASave) {
  stop_ = true;
  const TrainingState stopped = Run("stopped", MakeRecipe(50, MakePhase()), state_);
  EXPECT_EQ(stopped.progress.steps, 1);
}

TEST_F(TrainerTest, LearnsToRecall) {
  const auto answer_loss = [&](const TrainingState& state) {
    Decoder decoder = *initial_;
    decoder.MoveTo(torch::kCPU);
    EXPECT_TRUE(SetParameters(state.parameters, decoder).ok());
    std::vector<TrainingStream> streams;
    for (int64_t i = 0; i < 64; ++i) {
      streams.push_back(testing::RecallStream(1'000'000 + i, kTokens));
    }
    const torch::NoGradGuard no_grad;
    return -ComputeObjective(decoder, MakeBatch(streams, torch::kCPU), MakePhase(), {})
                .answer_log_probability.mean()
                .item<double>();
  };
  Phase phase = MakePhase();
  phase.streams = 32;
  Recipe recipe = MakeRecipe(8 * 400, phase);
  const double before = answer_loss(state_);
  const double after = answer_loss(Run("learned", recipe, state_));
  // Chance is log 8 among the values.
  EXPECT_GT(before, 2.0);
  EXPECT_LT(after, 1.0);
}

}  // namespace
}  // namespace rasq::train
