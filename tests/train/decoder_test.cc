// The trainer's form of the model against the reference's vectors and against the engine.
#include "train/decoder.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/model_harness.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_with_budget_head.h"
#include "train/training_state.h"

namespace rasq::train {
namespace {

using ::rasq::testing::Expected;
using ::rasq::testing::ModelHarness;
using ::rasq::testing::RelativeError;
using ::rasq::testing::SourcePath;

constexpr char kTiny[] = "tests/testdata/tiny";
constexpr int64_t kStreams = 2;
constexpr int64_t kTokens = 192;
constexpr int64_t kVocab = 256;
// As in tests/engine/reference_test.cc: float32 sums in another order.
constexpr double kTolerance = 1e-4;

Decoder LoadTiny() {
  auto checkpoint = Checkpoint::Open(SourcePath(kTiny));
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  auto decoder = Decoder::Load(**checkpoint);
  EXPECT_TRUE(decoder.ok()) << decoder.status();
  return *std::move(decoder);
}

std::unique_ptr<SafetensorsFile> Vectors() {
  return *SafetensorsFile::Open(SourcePath(std::string(kTiny) + "/expected.safetensors"));
}

std::vector<float> Floats(const Tensor& tensor) {
  const Tensor plain = tensor.detach().to(torch::kFloat32).contiguous();
  return {plain.data_ptr<float>(), plain.data_ptr<float>() + plain.numel()};
}

Tensor Logits(const Decoder& decoder, const Tensor& hidden) {
  return torch::matmul(hidden, decoder.head().t());
}

class DecoderTest : public ::testing::TestWithParam<int64_t> {};

TEST_P(DecoderTest, AgreesWithReference) {
  const auto file = Vectors();
  const Decoder decoder = LoadTiny();
  const std::vector<int32_t> ids = *Expected(*file, "tokens").ToInts();
  const Tensor tokens = torch::tensor(ids).to(torch::kInt64).view({kStreams, kTokens});
  const torch::NoGradGuard no_grad;
  const ForwardResult result = decoder.Forward(tokens, {.capacity = GetParam()});
  const std::string suffix = "capacity_" + std::to_string(GetParam());
  const std::vector<float> got = Floats(Logits(decoder, result.hidden));
  const std::vector<float> want = *Expected(*file, "logits_" + suffix).ToFloats();
  ASSERT_EQ(got.size(), want.size());
  EXPECT_LT(RelativeError(got.data(), want.data(), static_cast<int64_t>(got.size())), kTolerance);
  for (size_t r = 0; r < result.retrievals.size(); ++r) {
    const Retrieval& retrieval = result.retrievals[r];
    const Tensor positions = retrieval.position.masked_fill(retrieval.valid.logical_not(), -1);
    const std::vector<int32_t> read =
        *Expected(*file, "selected_" + suffix + "_layer_" + std::to_string(r + 1)).ToInts();
    // The reference leaves its unused places where they fall.
    EXPECT_TRUE(torch::equal(
        std::get<0>(positions.sort(-1)),
        std::get<0>(torch::tensor(read).to(torch::kInt64).view(positions.sizes()).sort(-1))))
        << r;
  }
}

INSTANTIATE_TEST_SUITE_P(All, DecoderTest, ::testing::Values(24, 1000),
                         [](const auto& c) { return "capacity_" + std::to_string(c.param); });

TEST(DecoderTest, FullAttentionAgreesWithReference) {
  const auto file = Vectors();
  const Decoder decoder = LoadTiny();
  const TensorView expected = Expected(*file, "logits_full_attention_first_segments");
  const int64_t count = expected.shape[1];
  const std::vector<int32_t> ids = *Expected(*file, "tokens").ToInts();
  const Tensor tokens =
      torch::tensor(ids).to(torch::kInt64).view({kStreams, kTokens}).narrow(1, 0, count);
  const torch::NoGradGuard no_grad;
  const std::vector<float> got =
      Floats(Logits(decoder, decoder.ForwardFull(tokens, torch::kFloat32)));
  const std::vector<float> want = *expected.ToFloats();
  ASSERT_EQ(got.size(), want.size());
  EXPECT_LT(RelativeError(got.data(), want.data(), static_cast<int64_t>(got.size())), kTolerance);
}

// The engine is the judge: the reference has no head.
TEST(DecoderTest, BudgetHeadAgreesWithEngine) {
  const rasq::testing::TinyWithBudgetHead tiny({0.25f, 0.5f, 1, 2});
  ModelHarness harness({.checkpoint = tiny.path()});
  rasq::testing::TestStream stream = harness.NewStream();
  const std::vector<int32_t> ids = *Expected(*Vectors(), "tokens").ToInts();
  const std::vector<float> want = harness.Run(stream, {ids.begin(), ids.begin() + kTokens});

  auto checkpoint = Checkpoint::Open(tiny.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto decoder = Decoder::Load(**checkpoint);
  ASSERT_TRUE(decoder.ok()) << decoder.status();
  const Tensor tokens = torch::tensor(ids).to(torch::kInt64).narrow(0, 0, kTokens).unsqueeze(0);
  const torch::NoGradGuard no_grad;
  const ForwardResult result = decoder->Forward(tokens, {.capacity = harness.memory().capacity});
  const std::vector<float> got = Floats(Logits(*decoder, result.hidden));
  ASSERT_EQ(got.size(), want.size());
  EXPECT_LT(RelativeError(got.data(), want.data(), static_cast<int64_t>(got.size())), kTolerance);
  const Tensor last = result.retrievals[0].budget.select(1, -1);
  const Tensor differs = result.retrievals[0].budget.ne(last);
  EXPECT_TRUE(differs.any().item<bool>()) << "all segments chose alike: the test shows nothing";
}

TEST(DecoderTest, ANewBudgetHeadChangesNothing) {
  Decoder decoder = LoadTiny();
  const std::vector<int32_t> ids = *Expected(*Vectors(), "tokens").ToInts();
  const Tensor tokens = torch::tensor(ids).to(torch::kInt64).view({kStreams, kTokens});
  const torch::NoGradGuard no_grad;
  const Tensor before = decoder.Forward(tokens, {}).hidden;
  ASSERT_TRUE(decoder.AddBudgetHead({0.25f, 0.5f, 1}).ok());
  EXPECT_EQ(decoder.memory().max_budget, 8);
  EXPECT_TRUE(torch::equal(decoder.Forward(tokens, {}).hidden, before));
  EXPECT_TRUE(decoder.AddBudgetHead({0.25f, 0.5f, 1}).ok());
  const absl::Status other = decoder.AddBudgetHead({1, 2});
  EXPECT_EQ(other.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(other.message(),
            "budget_factors=[1, 2]: the model has a budget head over [0.25, 0.5, 1]");
}

struct ClusterCase {
  int32_t clusters, read, min_entries;
};
void PrintTo(const ClusterCase& c, std::ostream* out) {
  *out << c.clusters << "_" << c.read << "_" << c.min_entries;
}

class DecoderClustersTest : public ::testing::TestWithParam<ClusterCase> {};

// The engine is the judge again. Segments read up to 8 entries.
TEST_P(DecoderClustersTest, AgreesWithEngine) {
  const ClusterCase& c = GetParam();
  ModelHarness harness({.checkpoint = kTiny,
                        .num_clusters = c.clusters,
                        .read_clusters = c.read,
                        .cluster_min_entries = c.min_entries});
  const std::vector<int32_t> ids = *Expected(*Vectors(), "tokens").ToInts();
  Decoder decoder = LoadTiny();
  const torch::NoGradGuard no_grad;
  for (int64_t stream = 0; stream < kStreams; ++stream) {
    rasq::testing::TestStream own = harness.NewStream();
    const auto first = ids.begin() + stream * kTokens;
    const std::vector<float> want = harness.Run(own, {first, first + kTokens});
    const Tensor tokens =
        torch::tensor(std::vector<int32_t>(first, first + kTokens)).to(torch::kInt64).unsqueeze(0);
    const auto error = [&](const ClusterShape& shape) {
      EXPECT_TRUE(decoder.SetClusters(shape).ok());
      const std::vector<float> got = Floats(
          Logits(decoder, decoder.Forward(tokens, {.capacity = harness.memory().capacity}).hidden));
      EXPECT_EQ(got.size(), want.size());
      return RelativeError(got.data(), want.data(), static_cast<int64_t>(want.size()));
    };
    EXPECT_LT(error({.clusters = c.clusters, .read = c.read, .min_entries = c.min_entries}),
              kTolerance);
    EXPECT_GT(error({.clusters = 0}), 10 * kTolerance) << "clusters change nothing here";
  }
}

INSTANTIATE_TEST_SUITE_P(All, DecoderClustersTest,
                         ::testing::Values(ClusterCase{4, 1, 2}, ClusterCase{3, 2, 0},
                                           ClusterCase{6, 2, 0}, ClusterCase{4, 1, 7}),
                         [](const auto& c) { return ::testing::PrintToString(c.param); });

TEST(DecoderTest, NewSummarySlotsAreThoseAskedFor) {
  Decoder decoder = LoadTiny();
  const size_t before = decoder.parameters().size();
  ASSERT_TRUE(decoder.AddSummaries(3, 0.9f).ok());
  EXPECT_EQ(decoder.parameters().size(), before + 3);  // of layers 1 to 3
  const Tensor& query = decoder.parameters().at("layers.3.memory.summary_query");
  EXPECT_EQ(query.sizes(), (std::vector<int64_t>{2, 3, 8}));
  EXPECT_TRUE(query.requires_grad());
  EXPECT_GT(query.abs().max().item<double>(), 0);
  EXPECT_TRUE(IsAdapterParameter("layers.3.memory.summary_query"));

  EXPECT_TRUE(decoder.AddSummaries(3, 0.9f).ok());
  const absl::Status other = decoder.AddSummaries(4, 0.9f);
  EXPECT_EQ(other.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(other.message(),
            "summary_slots=4, summary_decay=0.9: the model has 3 slots that forget by 0.9");
  EXPECT_EQ(decoder.SetClusters({.clusters = 4}).message(),
            "clusters=4: the model has 3 summary slots");
  EXPECT_TRUE(decoder.SetClusters({.clusters = 0}).ok());
  Decoder clustered = LoadTiny();
  ASSERT_TRUE(clustered.SetClusters({.clusters = 4, .read = 1, .min_entries = 2}).ok());
  EXPECT_EQ(clustered.AddSummaries(3, 0.9f).message(), "summary_slots=3: the model has 4 clusters");
}

TEST(DecoderTest, SummarySlotsAreReadOnceSomethingIsLost) {
  Decoder decoder = LoadTiny();
  const std::vector<int32_t> ids = *Expected(*Vectors(), "tokens").ToInts();
  const Tensor tokens = torch::tensor(ids).to(torch::kInt64).view({kStreams, kTokens});
  const torch::NoGradGuard no_grad;
  const Tensor bounded = decoder.Forward(tokens, {.capacity = 24}).hidden;
  const Tensor unbounded = decoder.Forward(tokens, {}).hidden;
  ASSERT_TRUE(decoder.AddSummaries(3, 0.9f).ok());
  EXPECT_TRUE(torch::equal(decoder.Forward(tokens, {}).hidden, unbounded));
  const Tensor changed = decoder.Forward(tokens, {.capacity = 24}).hidden;
  // When the segment at 64 begins 32 tokens have left the window, of which 4 are sinks and 24 find
  // a place: it is the first that loses any.
  EXPECT_TRUE(torch::allclose(changed.narrow(1, 0, 64), bounded.narrow(1, 0, 64), 1e-5, 1e-5));
  EXPECT_GT((changed - bounded).narrow(1, 64, 16).abs().max().item<double>(), 1e-3);
}

// The engine is the judge: it keeps one recurrence, segment after segment. Given at once, in parts
// that cut segments, and token by token.
TEST(DecoderTest, SummarySlotsAgreeWithEngine) {
  Decoder decoder = LoadTiny();
  ASSERT_TRUE(decoder.AddSummaries(3, 0.8f).ok());
  const torch::NoGradGuard no_grad;
  torch::manual_seed(9);
  for (const auto& [name, parameter] : decoder.parameters()) {
    // Large enough that slots differ from each other.
    if (name.ends_with("summary_query")) Tensor(parameter).normal_(0, 3);
  }
  const rasq::testing::TemporaryDirectory directory;
  const absl::Status saved =
      SaveTraining(directory.path(), SourcePath(kTiny), decoder, /*optimizer=*/{}, Progress());
  ASSERT_TRUE(saved.ok()) << saved;
  const auto checkpoint = Checkpoint::Open(directory.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto loaded = Decoder::Load(**checkpoint);
  ASSERT_TRUE(loaded.ok()) << loaded.status();

  const std::vector<int32_t> ids = *Expected(*Vectors(), "tokens").ToInts();
  const Tensor tokens = torch::tensor(ids).to(torch::kInt64).narrow(0, 0, kTokens).unsqueeze(0);
  const ForwardOptions options{.capacity = loaded->memory().capacity};
  const std::vector<float> want = Floats(Logits(*loaded, loaded->Forward(tokens, options).hidden));
  ModelHarness harness({.checkpoint = directory.path()});
  for (const int64_t part : {kTokens, int64_t{40}, int64_t{1}}) {
    rasq::testing::TestStream stream = harness.NewStream();
    std::vector<float> got;
    for (int64_t at = 0; at < kTokens; at += part) {
      const std::vector<float> logits =
          harness.Run(stream, {ids.begin() + at, ids.begin() + std::min(at + part, kTokens)});
      got.insert(got.end(), logits.begin(), logits.end());
    }
    ASSERT_EQ(got.size(), want.size());
    EXPECT_LT(RelativeError(got.data(), want.data(), static_cast<int64_t>(got.size())), kTolerance)
        << "parts of " << part;
  }
}

// A model with slots, or with clusters, in its files, and from them again.
TEST(DecoderTest, MemoriesOutliveTheirFiles) {
  for (const bool clustered : {false, true}) {
    Decoder decoder = LoadTiny();
    const ClusterShape clusters{.clusters = 5, .read = 2, .min_entries = 3};
    ASSERT_TRUE((clustered ? decoder.SetClusters(clusters) : decoder.AddSummaries(3, 0.95f)).ok());
    const rasq::testing::TemporaryDirectory directory;
    const absl::Status saved =
        SaveTraining(directory.path(), SourcePath(kTiny), decoder, /*optimizer=*/{}, Progress());
    ASSERT_TRUE(saved.ok()) << saved;
    const auto checkpoint = Checkpoint::Open(directory.path());
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    auto loaded = Decoder::Load(**checkpoint);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_EQ(loaded->memory().num_summaries, clustered ? 0 : 3);
    EXPECT_EQ(loaded->memory().summary_decay, clustered ? 0.99f : 0.95f);
    EXPECT_EQ(loaded->memory().num_clusters, clustered ? 5 : 0);
    EXPECT_EQ(loaded->memory().read_clusters, clustered ? 2 : 8);
    EXPECT_EQ(loaded->memory().cluster_min_entries, clustered ? 3 : 128);
    EXPECT_EQ(loaded->parameters().size(), decoder.parameters().size());
    for (const auto& [name, parameter] : decoder.parameters()) {
      EXPECT_TRUE(torch::equal(loaded->parameters().at(name),
                               parameter.to(torch::kBFloat16).to(torch::kFloat32)))
          << name;
    }
    // Written as they were asked for, so that the same recipe goes on.
    if (!clustered) {
      EXPECT_TRUE(loaded->AddSummaries(3, 0.95f).ok());
    }
  }
}

}  // namespace
}  // namespace rasq::train
