#include "kernels/repeat_scores.h"

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/stream_batches.h"
#include "tests/support/tensors.h"

namespace rasq {
namespace {

constexpr int32_t kHeads = 4, kKvHeads = 2, kDim = 8, kLength = 40, kFirst = 1, kPeriod = 9;
constexpr StreamShape kShape{.window_rows = 60,
                             .segment_rows = 64,
                             .sink_rows = 0,
                             .capacity = 0,
                             .max_selected = 0,
                             .memory_span = 0,
                             .ring_rows = 124};

// A stream of random queries and keys, the first `known` of them in its ring, the others in one
// batch.
struct World {
  World(DType element, int32_t known)
      : q(element, RandomFloats(kLength * kHeads * kDim, 1, 2)),
        k(element, RandomFloats(kLength * kKvHeads * kDim, 2, 2)),
        lse((kLength - known) * kHeads),
        out(lse.size()),
        state(kShape.ring_rows * kKvHeads * kDim * SizeOf(element)),
        first(known),
        builder(kShape) {
    const int64_t row = kKvHeads * kDim * SizeOf(element);
    std::memcpy(state.data(), k.bytes().data(), known * row);
    builder.Add({.first_position = known,
                 .segment_rows = {kLength - known},
                 .first_start = known > 0 ? 0 : -1},
                state.data());
    for (int64_t i = known; i < kLength; ++i) {
      for (int64_t h = 0; h < kHeads; ++h) {
        double sum = 0;
        for (int64_t j = 0; j <= i; ++j) sum += std::exp(Logit(i, j, h));
        lse[(i - known) * kHeads + h] = static_cast<float>(std::log(sum));
      }
    }
  }
  double Logit(int64_t i, int64_t j, int64_t head) const {
    double sum = 0;
    for (int64_t d = 0; d < kDim; ++d) {
      sum += double{q[(i * kHeads + head) * kDim + d]} *
             k[(j * kKvHeads + head / (kHeads / kKvHeads)) * kDim + d];
    }
    return sum / std::sqrt(double{kDim});
  }
  double Weight(int64_t i, int64_t j, int64_t head) const {
    double sum = 0;
    for (int64_t other = 0; other <= i; ++other) sum += std::exp(Logit(i, other, head));
    return std::exp(Logit(i, j, head)) / sum;
  }
  RepeatScoresArgs Args(DType element) {
    const auto behind = [&](const Elements& all, int64_t heads) {
      return all.bytes().data() + first * heads * kDim * SizeOf(element);
    };
    return {.batch = builder.Batch(),
            .shape = kShape,
            .element = element,
            .num_heads = kHeads,
            .num_kv_heads = kKvHeads,
            .head_dim = kDim,
            .q = behind(q, kHeads),
            .k = behind(k, kKvHeads),
            .ring_k_offset = 0,
            .lse = lse.data(),
            .first = kFirst,
            .period = kPeriod,
            .out = out.data()};
  }

  const Elements q, k;
  std::vector<float> lse;
  std::vector<RepeatScores> out;
  std::vector<std::byte> state;
  const int64_t first;
  BatchBuilder builder;
};

TEST(RepeatScoresTest, AreTheWeightsOfRepeats) {
  ThreadPool pool(2);
  for (const DType element : {DType::kFloat32, DType::kBfloat16}) {
    for (const int32_t known : {0, 13, 39}) {
      World world(element, known);
      const absl::Status status = RepeatScoresCpu(world.Args(element), pool);
      ASSERT_TRUE(status.ok()) << status;
      for (int64_t i = known; i < kLength; ++i) {
        for (int64_t h = 0; h < kHeads; ++h) {
          double echo = 0, induction = 0;
          for (int64_t j = kFirst; j < i; ++j) {
            if ((i - j) % kPeriod != 0) continue;
            echo += world.Weight(i, j, h);
            induction += world.Weight(i, j + 1, h);
          }
          const RepeatScores& got = world.out[(i - known) * kHeads + h];
          EXPECT_NEAR(got.echo, echo, 1e-5) << i << " head " << h;
          EXPECT_NEAR(got.induction, induction, 1e-5) << i << " head " << h;
        }
      }
    }
  }
}

// Three heads that were made for it: keys that stand for the token before theirs make an induction
// head, keys that stand for their own an echo head, and keys that are all alike neither.
TEST(RepeatScoresTest, TellInductionHeadsFromEchoHeads) {
  constexpr int32_t kPlanted = 3, kTokens = 10;
  Elements q(DType::kFloat32, kLength * kPlanted * kTokens),
      k(DType::kFloat32, kLength * kPlanted * kTokens);
  const auto token = [](int32_t position) { return (position - kFirst) % kPeriod; };
  for (int32_t i = kFirst; i < kLength; ++i) {  // what stands before is like no token
    for (int32_t h = 0; h < kPlanted; ++h) {
      const int32_t row = (i * kPlanted + h) * kTokens;
      q.Set(row + token(i), 30);
      if (h == 0 && i > kFirst) k.Set(row + token(i - 1), 1);
      if (h == 1) k.Set(row + token(i), 1);
    }
  }
  std::vector<float> lse(kLength * kPlanted);
  for (int32_t i = 0; i < kLength; ++i) {
    for (int32_t h = 0; h < kPlanted; ++h) {
      double sum = 0;
      for (int32_t j = 0; j <= i; ++j) {
        double dot = 0;
        for (int32_t d = 0; d < kTokens; ++d) {
          dot += q[(i * kPlanted + h) * kTokens + d] * k[(j * kPlanted + h) * kTokens + d];
        }
        sum += std::exp(dot / std::sqrt(double{kTokens}));
      }
      lse[i * kPlanted + h] = static_cast<float>(std::log(sum));
    }
  }
  std::vector<std::byte> state(kShape.ring_rows * kPlanted * kTokens * sizeof(float));
  BatchBuilder builder(kShape);
  builder.Add({.first_position = 0, .segment_rows = {kLength}}, state.data());
  std::vector<RepeatScores> out(kLength * kPlanted);
  ThreadPool pool(1);
  const absl::Status status = RepeatScoresCpu({.batch = builder.Batch(),
                                               .shape = kShape,
                                               .element = DType::kFloat32,
                                               .num_heads = kPlanted,
                                               .num_kv_heads = kPlanted,
                                               .head_dim = kTokens,
                                               .q = q.data(),
                                               .k = k.data(),
                                               .ring_k_offset = 0,
                                               .lse = lse.data(),
                                               .first = kFirst,
                                               .period = kPeriod,
                                               .out = out.data()},
                                              pool);
  ASSERT_TRUE(status.ok()) << status;
  for (int32_t i = kFirst + kPeriod; i < kLength; ++i) {
    const RepeatScores* scores = &out[i * kPlanted];
    EXPECT_GT(scores[0].induction, 0.9) << i;
    EXPECT_LT(scores[0].echo, 0.01) << i;
    // The query's own token stands at its own position, too.
    const auto before = static_cast<float>((i - kFirst) / kPeriod);
    EXPECT_NEAR(scores[1].echo, before / (before + 1), 0.01) << i;
    EXPECT_LT(scores[1].induction, 0.01) << i;
    EXPECT_NEAR(scores[2].echo, before / static_cast<float>(i + 1), 1e-5) << i;
    EXPECT_NEAR(scores[2].induction, before / static_cast<float>(i + 1), 1e-5) << i;
  }
}

TEST(RepeatScoresTest, RefusesWhatTheRingHasLost) {
  ThreadPool pool(1);
  World world(DType::kFloat32, 13);
  RepeatScoresArgs args = world.Args(DType::kFloat32);
  args.shape.window_rows = 0;
  args.shape.segment_rows = 39;
  args.shape.ring_rows = 39;
  EXPECT_EQ(RepeatScoresCpu(args, pool).code(), absl::StatusCode::kInvalidArgument);
  args = world.Args(DType::kFloat32);
  args.period = 0;
  EXPECT_EQ(RepeatScoresCpu(args, pool).message(), "RepeatScores: period=0");
  args = world.Args(DType::kFloat32);
  args.lse = nullptr;
  EXPECT_EQ(RepeatScoresCpu(args, pool).message(), "RepeatScores: lse=null");
}

}  // namespace
}  // namespace rasq
