// What a stream's last token attends to, as a step gives it, against a plain forward pass.
#include <cstdint>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/backends.h"
#include "tests/support/model_harness.h"
#include "tests/support/plain_decoder.h"

namespace rasq {
namespace {

using testing::ModelHarness;
using testing::TestStream;
using Ids = std::vector<int32_t>;

class KeyWeightsTest : public testing::BackendTest {};
INSTANTIATE_TEST_SUITE_P(All, KeyWeightsTest, ::testing::Values("float32", "bfloat16", "cuda"),
                         testing::BackendName);

// Beside another stream that asks for nothing, and in two lengths.
TEST_P(KeyWeightsTest, AreThoseOfAPlainForwardPass) {
  ModelHarness harness({.checkpoint = "tests/testdata/tiny", .backend = GetParam()});
  testing::PlainDecoder plain(testing::SourcePath("tests/testdata/tiny"));
  std::mt19937_64 random(1);
  std::vector<TestStream> streams;
  for (int i = 0; i < 3; ++i) streams.push_back(harness.NewStream(Strategy::kFull));
  ASSERT_TRUE(harness.model().ServeKeyWeights(*streams[0].layout, 2).ok());
  std::vector<Ids> texts;
  for (const int64_t size : {150, 61, 30}) {
    Ids& text = texts.emplace_back(size);
    for (int32_t& id : text) id = static_cast<int32_t>(random() % 256);
  }
  for (int i = 0; i < 3; ++i) harness.Run(streams[i], {texts[i].begin(), texts[i].end() - 1});
  std::vector<std::vector<float>> got(2);
  std::vector<StreamStep> steps;
  for (const int i : {2, 0, 1}) {  // the one between asks for none
    steps.push_back(harness.Step(streams[i], {texts[i].back()}));
    if (i < 2) steps.back().key_weights = &got[i];
  }
  std::swap(steps[0], steps[1]);
  const auto outcomes = harness.model().Step(steps);
  ASSERT_TRUE(outcomes.ok()) << outcomes.status();
  for (int i = 0; i < 2; ++i) {
    plain.Reset();
    for (const int32_t id : texts[i]) plain.Read(id);
    ASSERT_EQ(got[i].size(), texts[i].size());
    for (size_t t = 0; t < got[i].size(); ++t) {
      EXPECT_NEAR(got[i][t], plain.weights()[t], is_rough() ? 0.03 : 1e-4) << i << " " << t;
    }
    EXPECT_NEAR(std::accumulate(got[i].begin(), got[i].end(), 0.0), plain.num_layers(),
                is_rough() ? 0.05 : 1e-3);
  }
}

}  // namespace
}  // namespace rasq
