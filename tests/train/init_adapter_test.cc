// A decoder that never saw a memory, served with one.
#include "train/init_adapter.h"

#include <cmath>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/files.h"
#include "tests/support/model_harness.h"
#include "tests/train/plain_checkpoint.h"

namespace rasq::train {
namespace {

using ::rasq::testing::ModelHarness;
using ::testing::HasSubstr;

class InitAdapterTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) const { return checkpoint_.Path(name); }

  const testing::PlainCheckpoint checkpoint_;
  InitOptions options_ = {
      .model = Path("model"),
      .output = Path("output"),
      .data = Path("data"),
      .shape = {.segment = 16, .window = 32, .sinks = 2, .capacity = 48, .budget = 16},
      .calibration_tokens = 4000};
};

std::vector<int32_t> SomeTokens(int count) {
  std::vector<int32_t> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(i * 7919 % 251);
  return tokens;
}

TEST_F(InitAdapterTest, TheEngineServesIt) {
  const absl::Status made = InitAdapter(options_);
  ASSERT_TRUE(made.ok()) << made;
  ModelHarness harness({.checkpoint = options_.output});
  EXPECT_EQ(harness.memory().retrieval_layers, (std::vector<int32_t>{1, 5}));
  EXPECT_EQ(harness.memory().index_dim, 16);
  EXPECT_EQ(harness.memory().compressed_dim, 4);

  // While nothing has left the window the adapter changes nothing.
  auto with = harness.NewStream(), without = harness.NewStream(Strategy::kFull);
  const std::vector<int32_t> prefix = SomeTokens(48);
  const std::vector<float> got = harness.Run(with, prefix), want = harness.Run(without, prefix);
  ASSERT_EQ(got.size(), want.size());
  EXPECT_LT(rasq::testing::RelativeError(got.data(), want.data(), static_cast<int64_t>(got.size())),
            1e-5);
  // And beyond, it reads.
  for (const float logit : harness.Run(with, SomeTokens(300))) ASSERT_TRUE(std::isfinite(logit));
  EXPECT_EQ(harness.model().SelectedPositions(0, 1)->size(), 16u);

  EXPECT_EQ(InitAdapter({.model = options_.output, .output = Path("again")}).code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(InitAdapterTest, TheSameTextGivesTheSameBytes) {
  ASSERT_TRUE(InitAdapter(options_).ok());
  const std::string first = ReadFile(Path("output/rasq.safetensors"));
  options_.output = options_.model;  // in place
  ASSERT_TRUE(InitAdapter(options_).ok());
  EXPECT_EQ(first, ReadFile(Path("model/rasq.safetensors")));
  EXPECT_EQ(ReadFile(Path("output/rasq_config.json")), ReadFile(Path("model/rasq_config.json")));
}

TEST_F(InitAdapterTest, ErrorsNameTheField) {
  options_.shape.retrieval_layers = {3, 6};
  EXPECT_THAT(std::string(InitAdapter(options_).message()), HasSubstr("retrieval_layers=6"));
  options_.shape.retrieval_layers = {};
  options_.shape.compressed_dim = 9;
  EXPECT_THAT(std::string(InitAdapter(options_).message()), HasSubstr("compressed_dim=9"));
  options_.shape.compressed_dim = 0;
  options_.shape.window = 128;
  EXPECT_THAT(std::string(InitAdapter(options_).message()), HasSubstr("window_tokens=128"));
}

}  // namespace
}  // namespace rasq::train
