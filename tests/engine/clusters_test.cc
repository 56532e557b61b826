// The model with clusters of what it retrieves (kernels/cluster_entries.h): tiny segments and
// budgets, so that most segments have clusters.
#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/backends.h"
#include "tests/support/model_harness.h"

namespace rasq {
namespace {

using testing::ModelHarness;
using testing::TestStream;

constexpr int32_t kVocab = 256;

std::vector<int32_t> RandomTokens(uint64_t seed, int64_t count) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % kVocab);
  return tokens;
}

testing::HarnessOptions Tiny(const std::string& backend, int32_t clusters, int32_t read_clusters) {
  return {.checkpoint = "tests/testdata/tiny",
          .backend = backend,
          .num_clusters = clusters,
          .read_clusters = read_clusters,
          .cluster_min_entries = 2};
}

// Logits of the tokens, given to the model in parts of `part`.
std::vector<float> LogitsOf(ModelHarness& harness, const std::vector<int32_t>& tokens,
                            size_t part) {
  TestStream stream = harness.NewStream();
  std::vector<float> all;
  for (size_t at = 0; at < tokens.size(); at += part) {
    const size_t end = std::min(at + part, tokens.size());
    const std::vector<float> logits =
        harness.Run(stream, {tokens.begin() + at, tokens.begin() + end});
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

double Difference(const std::vector<float>& got, const std::vector<float>& want) {
  return testing::RelativeError(got.data(), want.data(), static_cast<int64_t>(want.size()));
}

class ClustersTest : public testing::BackendTest {
 protected:
  // As of the shipped model's vectors (shipped_model_test.cc).
  double Tolerance() const { return is_rough() ? 0.1 : 1e-4; }
};

TEST_P(ClustersTest, ReadingAllOfThemIsReadingAllEntries) {
  const std::vector<int32_t> tokens = RandomTokens(/*seed=*/1, 400);
  ModelHarness without(Tiny(GetParam(), 0, 1)), all(Tiny(GetParam(), 4, 4)),
      one(Tiny(GetParam(), 4, 1));
  for (const size_t part : {size_t{400}, size_t{1}}) {
    const std::vector<float> want = LogitsOf(without, tokens, part);
    EXPECT_LT(Difference(LogitsOf(all, tokens, part), want), Tolerance()) << "parts of " << part;
    // And reading one of them is not.
    EXPECT_GT(Difference(LogitsOf(one, tokens, part), want), 1e-3) << "parts of " << part;
  }
}

// A segment's clusters are those that it began with, however its tokens come: in one step with
// other segments, or one by one, when they are found in the state.
TEST_P(ClustersTest, DecodeEqualsAppend) {
  // Decoding rounds otherwise than appending does, and so may choose another of two clusters that
  // promise nearly the same.
  if (is_rough()) GTEST_SKIP() << "choices between clusters depend on rounding";
  const std::vector<int32_t> tokens = RandomTokens(/*seed=*/2, 400);
  ModelHarness harness(Tiny(GetParam(), 4, 2));
  const std::vector<float> want = LogitsOf(harness, tokens, 400);
  for (const size_t part : {1, 7, 16, 100}) {
    EXPECT_LT(Difference(LogitsOf(harness, tokens, part), want), Tolerance())
        << "parts of " << part;
  }
}

TEST_P(ClustersTest, ParallelEqualsSequential) {
  const std::vector<int32_t> tokens = RandomTokens(/*seed=*/3, 384);
  ModelHarness harness(Tiny(GetParam(), 3, 1));
  // Whole segments of 16, in one step and one after another: the same to the last bit.
  EXPECT_EQ(LogitsOf(harness, tokens, 384), LogitsOf(harness, tokens, 16));
}

INSTANTIATE_TEST_SUITE_P(All, ClustersTest,
                         ::testing::Values("float32", "float32_int8", "bfloat16", "cuda",
                                           "cuda_int8"),
                         testing::BackendName);

// Without clusters a state has no room for them, nor where no segment reads enough.
TEST(ClustersLayoutTest, RoomOnlyWhereThereAreClusters) {
  const auto bytes = [](int32_t clusters, int32_t min_entries) {
    testing::HarnessOptions options = Tiny("float32", clusters, /*read_clusters=*/1);
    options.cluster_min_entries = min_entries;
    ModelHarness harness(options);
    const auto layout = MakeStateLayout(Strategy::kRasq, harness.model().config(), harness.memory(),
                                        DType::kFloat32, {});
    EXPECT_TRUE(layout.ok()) << layout.status();
    EXPECT_EQ(layout->has_clusters(), clusters > 0 && min_entries < 8);
    return layout->bytes;
  };
  EXPECT_EQ(bytes(4, 8), bytes(0, 0));
  EXPECT_GT(bytes(4, 7), bytes(0, 0));
}

}  // namespace
}  // namespace rasq
