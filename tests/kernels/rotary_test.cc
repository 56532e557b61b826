#include "kernels/rotary.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/support/stream_batches.h"
#include "tests/support/tensors.h"

namespace rasq {
namespace {

constexpr DType kTypes[] = {DType::kFloat32, DType::kBfloat16};

TEST(RotationTableTest, PositionsOfEveryKind) {
  const StreamShape shape{.window_rows = 8,
                          .segment_rows = 4,
                          .sink_rows = 2,
                          .capacity = 5,
                          .max_selected = 3,
                          .memory_span = 3,
                          .ring_rows = 12};
  std::byte state[1];
  BatchBuilder builder(shape);
  builder.Add({.first_position = 1000000006,
               .segment_rows = {2, 4},
               .first_start = 1000000004,
               .leave_begin = 999999996},
              state);
  builder.Add({.first_position = 0, .segment_rows = {1}}, state);
  const StreamBatch batch = builder.Batch();
  ASSERT_EQ(batch.num_staged, 4);
  const std::vector<double> inv_freq = {1, 0.25};
  std::vector<float> row(7 * 4), memory(3 * 4), sink(3 * 2 * 4), staged(4 * 4);
  ThreadPool pool(2);
  const RotationTableArgs args{.batch = batch,
                               .shape = shape,
                               .inv_freq = inv_freq.data(),
                               .head_dim = 4,
                               .row = row.data(),
                               .memory = memory.data(),
                               .sink = sink.data(),
                               .staged = staged.data()};
  ASSERT_TRUE(RotationTableCpu(args, pool).ok());
  const auto expect = [&](const float* got, int64_t position) {
    const double angle = static_cast<double>(position);
    EXPECT_EQ(got[0], static_cast<float>(std::cos(angle))) << position;
    EXPECT_EQ(got[1], static_cast<float>(std::cos(angle * 0.25))) << position;
    EXPECT_EQ(got[2], static_cast<float>(std::sin(angle))) << position;
    EXPECT_EQ(got[3], static_cast<float>(std::sin(angle * 0.25))) << position;
  };
  for (int64_t i = 0; i < 6; ++i) expect(&row[i * 4], 1000000006 + i);
  expect(&row[6 * 4], 0);
  for (int64_t i = 0; i < 4; ++i) expect(&staged[i * 4], 999999996 + i);
  const int64_t starts[] = {1000000004, 1000000008, 0};
  for (int64_t s = 0; s < 3; ++s) {
    expect(&memory[s * 4], starts[s] - 9);  // window 8, and one
    expect(&sink[s * 8], starts[s] - 13);   // window 8, span 3, two sinks
    expect(&sink[s * 8 + 4], starts[s] - 12);
  }
}

TEST(RotaryTest, ByHand) {
  // One query head, one kv head, two dimensions; a quarter turn takes (x, y) to (-y, x).
  // q = (3, 4) + (0, 0): norm by sqrt(12.5 + 12.5) = 5 and weights (5, 10): (3, 8); turned (-8, 3).
  // k = (1, 0) + (1, 2): no norm: (2, 2); turned (-2, 2). v = (7, 8) + (1, -1).
  ThreadPool pool(1);
  const float qkv[] = {3, 4, 1, 0, 7, 8}, bias[] = {0, 0, 1, 2, 1, -1};
  const float q_norm[] = {5, 10}, rotation[] = {0, 1};
  for (const DType type : kTypes) {
    Elements q(type, 2), k(type, 2), v(type, 2);
    const RotaryArgs args{.qkv = qkv,
                          .bias = bias,
                          .q_norm = q_norm,
                          .k_norm = nullptr,
                          .rotation = rotation,
                          .q = q.data(),
                          .k = k.data(),
                          .v = v.data(),
                          .element = type,
                          .rows = 1,
                          .num_heads = 1,
                          .num_kv_heads = 1,
                          .head_dim = 2,
                          .epsilon = 12.5f};
    ASSERT_TRUE(RotaryCpu(args, pool).ok());
    EXPECT_NEAR(q[0], -8, 32 * Rounding(type));
    EXPECT_NEAR(q[1], 3, 16 * Rounding(type));
    EXPECT_EQ(k[0], -2);
    EXPECT_EQ(k[1], 2);
    EXPECT_EQ(v[0], 8);
    EXPECT_EQ(v[1], 7);
  }
}

TEST(RotaryTest, RowsDoNotDependOnEachOther) {
  constexpr int kRows = 37, kHeads = 6, kKvHeads = 2, kDim = 20, kWidth = 10 * kDim;
  const auto qkv = RandomFloats(kRows * kWidth, 1), norm = RandomFloats(kDim, 2),
             rotation = RandomFloats(kRows * kDim, 3);
  ThreadPool pool(2);
  for (const DType type : kTypes) {
    Elements q(type, kRows * kHeads * kDim), k(type, kRows * kKvHeads * kDim), v = k;
    RotaryArgs args{.qkv = qkv.data(),
                    .bias = nullptr,
                    .q_norm = norm.data(),
                    .k_norm = norm.data(),
                    .rotation = rotation.data(),
                    .q = q.data(),
                    .k = k.data(),
                    .v = v.data(),
                    .element = type,
                    .rows = kRows,
                    .num_heads = kHeads,
                    .num_kv_heads = kKvHeads,
                    .head_dim = kDim,
                    .epsilon = 1e-6f};
    ASSERT_TRUE(RotaryCpu(args, pool).ok());
    Elements q1(type, kHeads * kDim), k1(type, kKvHeads * kDim), v1 = k1;
    args.rows = 1;
    args.q = q1.data();
    args.k = k1.data();
    args.v = v1.data();
    for (int t = 0; t < kRows; ++t) {
      args.qkv = qkv.data() + t * kWidth;
      args.rotation = rotation.data() + t * kDim;
      ASSERT_TRUE(RotaryCpu(args, pool).ok());
      for (int i = 0; i < kHeads * kDim; ++i) ASSERT_EQ(q1[i], q[t * kHeads * kDim + i]);
      for (int i = 0; i < kKvHeads * kDim; ++i) {
        ASSERT_EQ(k1[i], k[t * kKvHeads * kDim + i]);
        ASSERT_EQ(v1[i], Elements(type, 1, qkv[t * kWidth + (kHeads + kKvHeads) * kDim + i])[0]);
      }
    }
  }
}

TEST(RotaryTest, ArgumentErrors) {
  RotaryArgs args{};
  args.num_kv_heads = 2;
  args.num_heads = 3;
  args.head_dim = 4;
  args.epsilon = 1;
  EXPECT_EQ(ValidateRotary(args).message(), "Rotary: num_heads=3");
  args.num_heads = 4;
  EXPECT_TRUE(ValidateRotary(args).ok());
  args.rows = 1;
  EXPECT_EQ(ValidateRotary(args).message(), "Rotary: qkv=null");
  args.head_dim = 3;
  EXPECT_EQ(ValidateRotary(args).message(), "Rotary: head_dim=3");
  args.epsilon = 0;
  args.head_dim = 4;
  EXPECT_EQ(ValidateRotary(args).message(), "Rotary: epsilon=0");
}

}  // namespace
}  // namespace rasq
