#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/index_tokens.h"
#include "tests/support/entry_format.h"
#include "tests/support/gpu_batches.h"

namespace rasq {
namespace {

using testing::Arrays;
using testing::DeviceArray;
using testing::Gpu;
using testing::GpuBatch;

constexpr DType kType = DType::kBfloat16;
constexpr StreamShape kShape = {.window_rows = 40,
                                .segment_rows = 16,
                                .sink_rows = 2,
                                .capacity = 4,
                                .max_selected = 2,
                                .memory_span = 2,
                                .ring_rows = 56};

TEST(IndexTokensCudaTest, MatchesCpu) {
  RASQ_NEEDS_GPU();
  std::byte state[1];
  BatchBuilder builder(kShape);
  builder.Add({.first_position = 0, .segment_rows = {16, 3}}, state);
  builder.Add({.first_position = 3000000017, .segment_rows = {9}, .leave_begin = 2999999970},
              state);
  builder.Add({.first_position = 77, .segment_rows = {1}}, state);
  builder.Add({.first_position = 500, .segment_rows = {4}}, state);
  const std::vector<WritePolicy> policy = {
      {.log_growth = 1e-4, .noise = 1, .seed = 5},
      {.log_growth = 3e-8, .noise = 0.25, .seed = 6},
      {.log_growth = 0, .noise = 0, .seed = 7},
      {.log_growth = 1, .noise = 1, .seed = 8, .by_age = true}};
  const StreamBatch batch = builder.Batch();
  const int64_t rows = batch.num_rows;
  std::vector<uint8_t> pinned(rows);
  pinned[2] = 1;
  for (const bool has_gate : {false, true}) {
    for (const int32_t dim : {1, 33, 64, 300}) {
      const int64_t stride = 2 * dim + (has_gate ? 1 : 4);
      // The GPU's batch has more rows.
      std::vector<float> projected = RandomFloats((rows + GpuBatch::kPadding) * stride, 1, 30);
      for (int32_t i = 0; i < 2 * dim; ++i) projected[3 * stride + i] = 0;
      if (has_gate) projected[4 * stride + 2 * dim] = std::nanf("");
      if (has_gate) projected[5 * stride + 2 * dim] = 1e30f;
      if (has_gate) projected[6 * stride + 2 * dim] = -1e30f;
      Elements query(kType, rows * dim), key(kType, rows * dim);
      std::vector<float> log_gate(has_gate ? rows : 0);
      std::vector<double> priority(has_gate ? rows : 0);
      IndexTokensArgs args{.batch = batch,
                           .projected = projected.data(),
                           .projected_stride = stride,
                           .index_dim = dim,
                           .has_gate = has_gate,
                           .gate_bias = 0.5f,
                           .query = query.data(),
                           .key = key.data(),
                           .element = kType,
                           .pinned = pinned.data(),
                           .policy = policy.data(),
                           .log_gate = log_gate.data(),
                           .priority = priority.data()};
      ThreadPool pool(1);
      ASSERT_TRUE(IndexTokensCpu(args, pool).ok());
      Arrays arrays(*Gpu());
      const GpuBatch on_gpu(arrays, builder, testing::RandomStates(4, 1));
      args.batch = on_gpu.batch;
      args.projected = arrays.Put(projected);
      args.pinned = arrays.Put(pinned);
      args.policy = arrays.Put(policy);
      const int64_t num_rows = args.batch.num_rows;
      DeviceArray& got_query = arrays.Poisoned(num_rows * dim * 2);
      DeviceArray& got_key = arrays.Poisoned(num_rows * dim * 2);
      DeviceArray& got_gate = arrays.Poisoned(num_rows * 4);
      DeviceArray& got_priority = arrays.Poisoned(num_rows * 8);
      args.query = got_query.data();
      args.key = got_key.data();
      args.log_gate = got_gate.data<float>();
      args.priority = got_priority.data<double>();
      ASSERT_TRUE(Gpu()->IndexTokens(args).ok());
      testing::ExpectBfloat16Near(got_query, query);
      testing::ExpectBfloat16Near(got_key, key);
      // Without a gate its outputs are left alone. exp, log1p and the subtraction: a few ulps.
      testing::ExpectNear(got_gate.ToHostAs<float>(), log_gate, 0x1p-21, 0);
      const std::vector<double> got = got_priority.ToHostAs<double>();
      for (int64_t t = 0; t < num_rows; ++t) {
        if (t >= rows || !has_gate) {
          ASSERT_TRUE(std::isnan(got[t])) << t;
        } else if (std::isinf(priority[t])) {
          ASSERT_EQ(got[t], priority[t]) << t;
        } else {
          // Growth reaches 90 and noise 40; the gate's ulps as above.
          ASSERT_NEAR(got[t], priority[t], std::abs(log_gate[t]) * 0x1p-21 + 130 * 0x1p-50) << t;
        }
      }
    }
  }
}

TEST(IndexTokensCudaTest, Int8KeysMatchCpu) {
  RASQ_NEEDS_GPU();
  std::byte state[1];
  BatchBuilder builder(kShape);
  builder.Add({.first_position = 0, .segment_rows = {16, 3}}, state);
  builder.Add({.first_position = 77, .segment_rows = {1}}, state);
  const int64_t rows = builder.Batch().num_rows;
  for (const int32_t dim : {1, 33, 64, 300}) {
    std::vector<float> projected = RandomFloats((rows + GpuBatch::kPadding) * 2 * dim, 1, 30);
    for (int32_t i = 0; i < 2 * dim; ++i) projected[3 * 2 * dim + i] = 0;
    const EntryFormat int8{EntryType::kInt8, kType, 1, dim};
    Elements query(kType, rows * dim);
    std::vector<std::byte> want(rows * int8.row_bytes());
    IndexTokensArgs args{.batch = builder.Batch(),
                         .projected = projected.data(),
                         .projected_stride = 2 * dim,
                         .index_dim = dim,
                         .query = query.data(),
                         .key = want.data(),
                         .element = kType,
                         .entry_type = EntryType::kInt8};
    ThreadPool pool(1);
    ASSERT_TRUE(IndexTokensCpu(args, pool).ok());
    Arrays arrays(*Gpu());
    const GpuBatch on_gpu(arrays, builder, testing::RandomStates(2, 1));
    args.batch = on_gpu.batch;
    args.projected = arrays.Put(projected);
    DeviceArray& got_query = arrays.Poisoned(args.batch.num_rows * dim * 2);
    DeviceArray& got_key = arrays.Poisoned(args.batch.num_rows * int8.row_bytes());
    args.query = got_query.data();
    args.key = got_key.data();
    ASSERT_TRUE(Gpu()->IndexTokens(args).ok());
    const std::vector<std::byte> got = got_key.ToHost();
    for (int64_t row = 0; row < rows; ++row) {
      // A length is a sum in another order: a scale differs by some ulps, and a number that lies
      // between two steps may go to the other one.
      const float scale = int8.Scale(want.data(), row, 0);
      ASSERT_NEAR(int8.Scale(got.data(), row, 0), scale, scale * 0x1p-20f) << row;
      for (int64_t i = 0; i < dim; ++i) {
        ASSERT_NEAR(int8.Quantum(got.data(), row, 0, i), int8.Quantum(want.data(), row, 0, i), 1);
      }
    }
  }
}

}  // namespace
}  // namespace rasq
