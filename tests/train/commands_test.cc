// What the program does, from its flags.
#include "train/commands.h"

#include <atomic>
#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/files.h"
#include "tests/train/plain_checkpoint.h"
#include "train/training_state.h"

namespace rasq::train {
namespace {

using ::testing::HasSubstr;

std::string Recipe(int64_t tokens, const std::string& fields = "") {
  return absl::StrCat(R"({"matrix_rate": 0.002, "rate": 0.001, )", fields,
                      R"("phases": [{"tokens": )", tokens,
                      R"(, "stream_tokens": 96, "streams": 1, "trains": "adapter",
                      "capacities": [0, 12], "teacher": "full_attention",
                      "mixture": {"text": 1}}]})");
}

TrainingFlags ConvertFlags(const testing::PlainCheckpoint& checkpoint) {
  return {.model = checkpoint.Path("model"),
          .output = checkpoint.Path("output"),
          .recipe = checkpoint.Path("recipe.json"),
          .data = checkpoint.Path("data"),
          .device = "cpu",
          .dtype = "auto",
          .time_limit = absl::InfiniteDuration(),
          .save_interval = absl::InfiniteDuration(),
          .loader_threads = 1,
          .log_steps = 1,
          .adapter = {.segment = 16, .window = 32, .sinks = 2, .capacity = 48, .budget = 8},
          .retrieval_layers = {"2", "4"},
          .calibration_tokens = 1000};
}

TEST(CommandsTest, ConvertMakesAnAdapterAndGoesOn) {
  const testing::PlainCheckpoint checkpoint;
  TrainingFlags flags = ConvertFlags(checkpoint);
  const std::atomic<bool> stop{false};
  for (const int64_t steps : {2, 3}) {  // the second time it goes on with its own adapter
    WriteFile(flags.recipe, Recipe(steps * 96));
    const absl::Status converted = RunCommand("convert", flags, stop);
    ASSERT_TRUE(converted.ok()) << converted;
    const auto state = LoadTraining(flags.output);
    ASSERT_TRUE(state.ok()) << state.status();
    EXPECT_EQ(state->progress.steps, steps);
  }
  const auto result = Checkpoint::Open(flags.output);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ((*result)->memory().retrieval_layers, (std::vector<int32_t>{2, 4}));
  EXPECT_EQ(ReadFile(checkpoint.Path("model/model.safetensors")),
            ReadFile(checkpoint.Path("output/model.safetensors")));  // frozen, and bfloat16 before

  flags.output = checkpoint.Path("other");
  flags.retrieval_layers = {"two"};
  EXPECT_THAT(std::string(RunCommand("init", flags, stop).message()),
              HasSubstr("retrieval_layers=\"two\""));
}

TEST(CommandsTest, RecipesChangeTheMemory) {
  const testing::PlainCheckpoint checkpoint;
  const TrainingFlags flags = ConvertFlags(checkpoint);
  const std::atomic<bool> stop{false};
  const auto memory = [&](const std::string& fields, int64_t steps) {
    WriteFile(flags.recipe, Recipe(steps * 96, fields));
    const absl::Status converted = RunCommand("convert", flags, stop);
    EXPECT_TRUE(converted.ok()) << converted;
    const auto result = Checkpoint::Open(flags.output);
    EXPECT_TRUE(result.ok()) << result.status();
    return (*result)->memory();
  };
  const MemoryConfig clustered = memory(R"("clusters": 3, "cluster_min_entries": 4, )", 1);
  EXPECT_EQ(clustered.num_clusters, 3);
  EXPECT_EQ(clustered.read_clusters, 8);
  EXPECT_EQ(clustered.cluster_min_entries, 4);
  EXPECT_EQ(memory("", 2).num_clusters, 3);
  EXPECT_EQ(memory(R"("clusters": 0, )", 3).num_clusters, 0);

  // Slots have queries, which a run that began without them has no state of.
  std::filesystem::remove(checkpoint.Path("output/training.json"));
  constexpr char kSlots[] = R"("summary_slots": 2, "summary_decay": 0.9, )";
  for (const int64_t steps : {1, 2}) {
    EXPECT_EQ(memory(kSlots, steps).num_summaries, 2);
    EXPECT_EQ(LoadTraining(flags.output)->progress.steps, steps);
  }
  WriteFile(flags.recipe, Recipe(300, R"("summary_slots": 3, )"));
  EXPECT_THAT(std::string(RunCommand("convert", flags, stop).message()),
              HasSubstr("summary_slots=3"));
  WriteFile(flags.recipe, Recipe(300, R"("clusters": 4, )"));
  EXPECT_THAT(std::string(RunCommand("convert", flags, stop).message()), HasSubstr("clusters=4"));
}

TEST(CommandsTest, TokenizerLearnsFromTheData) {
  const testing::PlainCheckpoint checkpoint;
  TrainingFlags flags{.output = checkpoint.Path("tokenizer"), .loader_threads = 1, .vocab = 265};
  const std::atomic<bool> stop{false};
  EXPECT_THAT(std::string(RunCommand("tokenizer", flags, stop).message()), HasSubstr("--data"));
  flags.data = checkpoint.Path("data");
  const absl::Status made = RunCommand("tokenizer", flags, stop);
  ASSERT_TRUE(made.ok()) << made;
  const auto tokenizer = Tokenizer::Load(flags.output);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->vocab_size(), 265);
  EXPECT_EQ((*tokenizer)->Decode((*tokenizer)->Encode("the thing")), "the thing");
  EXPECT_LT((*tokenizer)->Encode(" the thing").size(), 8u);
}

}  // namespace
}  // namespace rasq::train
