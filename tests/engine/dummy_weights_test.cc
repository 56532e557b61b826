// Models of configs alone: what they are made of, and that they run.
#include "engine/dummy_weights.h"

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/checkpoint.h"
#include "engine/weights.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/engine_harness.h"
#include "tests/support/model_harness.h"

namespace rasq {
namespace {

using ::testing::Each;
using testing::SourcePath;

std::unique_ptr<Checkpoint> OpenDummy(const std::string& directory) {
  auto checkpoint = Checkpoint::Open(SourcePath(directory), LoadFormat::kDummy);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  return *std::move(checkpoint);
}

TEST(DummyWeightsTest, ShapesAreThoseOfACheckpoint) {
  for (const char* directory : {"models/default", "tests/testdata/tiny"}) {
    const auto real = *Checkpoint::Open(SourcePath(directory));
    const auto dummy = OpenDummy(directory);
    EXPECT_FALSE(real->is_dummy());
    EXPECT_TRUE(dummy->is_dummy());
    EXPECT_EQ(dummy->num_parameters(), real->num_parameters());
    EXPECT_NE(dummy->fingerprint(), real->fingerprint());
    for (const auto& [name, shape] : MakeTensorShapes(real->model(), real->memory())) {
      EXPECT_TRUE(real->Floats(name, shape).ok()) << name;
    }
  }
}

TEST(DummyWeightsTest, PublishedShapes) {
  // The decoders' published sizes, 8,030,261,248 and 7,615,616,512 parameters, and the memory's:
  // projections and two vectors of heads in each layer from the first retrieval's up, three
  // retrievers and a gate.
  const auto llama = OpenDummy("models/llama-3.1-8b-shape");
  EXPECT_EQ(llama->num_parameters(),
            8'030'261'248 + 24 * (2 * 8 * 64 * 128 + 2 * 32) + 3 * (2 * 128 * 4096 + 1) + 4096 + 1);
  EXPECT_EQ(llama->model().max_positions, 131072);
  const auto qwen = OpenDummy("models/qwen2.5-7b-shape");
  EXPECT_EQ(qwen->num_parameters(),
            7'615'616'512 + 21 * (2 * 4 * 64 * 128 + 2 * 28) + 3 * (2 * 128 * 3584 + 1) + 3584 + 1);
  EXPECT_TRUE(qwen->model().qkv_bias);
  EXPECT_EQ(qwen->LoadTokenizer().value()->vocab_size(), 256);
}

TEST(DummyWeightsTest, FloatsAreSmallAndAFunctionOfTheName) {
  const auto tiny = OpenDummy("tests/testdata/tiny");
  const std::vector<float> norm = *tiny->Floats("model.norm.weight", {64});
  EXPECT_THAT(norm, Each(1.0f));
  const std::string query = "layers.1.retriever.query_proj.weight";
  const std::vector<float> values = *tiny->Floats(query, {16, 64});
  ASSERT_EQ(values.size(), 16u * 64u);
  EXPECT_EQ(values, *OpenDummy("tests/testdata/tiny")->Floats(query, {16, 64}));
  EXPECT_NE(values, *tiny->Floats("layers.1.retriever.key_proj.weight", {16, 64}));
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  EXPECT_GE(*low, -0.125f);
  EXPECT_LT(*low, -0.1f);
  EXPECT_LT(*high, 0.125f);
  EXPECT_GT(*high, 0.1f);
  const std::vector<float> down = *tiny->Floats("layers.1.memory.key_down.weight", {2, 8, 16});
  EXPECT_TRUE(PseudoInverses(down, 2, 8, 16).ok());
}

// A folder with the two configs and nothing else.
TEST(DummyWeightsTest, ConfigsAloneMakeAnEngine) {
  namespace fs = std::filesystem;
  const fs::path directory = fs::path(::testing::TempDir()) / "configs_alone";
  fs::create_directories(directory);
  for (const char* file : {"config.json", "rasq_config.json"}) {
    fs::copy_file(fs::path(SourcePath("tests/testdata/tiny")) / file, directory / file,
                  fs::copy_options::overwrite_existing);
  }
  EngineOptions options = testing::ShippedModel();
  options.model = directory.string();
  EXPECT_EQ(Engine::Create(options, nullptr).status().code(), absl::StatusCode::kNotFound);
  options.load_format = LoadFormat::kDummy;
  std::vector<std::vector<int32_t>> answers;
  for (int i = 0; i < 2; ++i) {
    const auto engine = testing::StartEngine(options);
    const std::string session = testing::CreateSession(*engine);
    const auto appended = testing::Append(*engine, session, testing::Prose(/*seed=*/1, 300));
    ASSERT_TRUE(appended.ok()) << appended.status();
    EXPECT_GE(appended->context_tokens, 290);  // a token a byte; the last word may be held back
    GenerateRequest request{.session = session, .prompt = std::string("?")};
    request.stop = {.max_new_tokens = 8, .ignore_eos = true};
    const auto answer = testing::Generate(*engine, request);
    ASSERT_TRUE(answer.ok()) << answer.status();
    answers.push_back(answer->ids());
  }
  EXPECT_EQ(answers[0].size(), 8u);
  EXPECT_EQ(answers[0], answers[1]);
  fs::remove_all(directory);
}

}  // namespace
}  // namespace rasq
