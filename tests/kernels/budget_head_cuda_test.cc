#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/budget_head.h"
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
                                .sink_rows = 0,
                                .capacity = 8,
                                .max_selected = 8,
                                .memory_span = 8,
                                .ring_rows = 56};

// Queries from the ring and the batch, young streams with few or none, a segment that goes on.
const std::vector<ChunkSpec> kChunks = {
    {.first_position = 205, .segment_rows = {3, 5, 16, 7}, .first_start = 200, .leave_begin = 165},
    {.first_position = 0, .segment_rows = {16, 2}},
    {.first_position = 7, .segment_rows = {1}},
    {.first_position = 1000003, .segment_rows = {16, 16}, .leave_begin = 999950}};

TEST(BudgetHeadCudaTest, MatchesCpu) {
  RASQ_NEEDS_GPU();
  for (const int32_t dim : {1, 24, 64, 128, 200}) {
    for (const int32_t num_factors : {1, 4, 7, 32}) {
      SCOPED_TRACE(::testing::Message() << dim << " numbers, " << num_factors << " factors");
      BatchBuilder builder(kShape);
      testing::States states;
      for (size_t i = 0; i < kChunks.size(); ++i) {
        states.push_back(Elements(kType, RandomFloats(kShape.segment_rows * dim, 10 + i)).bytes());
      }
      for (size_t i = 0; i < kChunks.size(); ++i) builder.Add(kChunks[i], states[i].data());
      const StreamBatch batch = builder.Batch();
      const Elements query(kType, RandomFloats((batch.num_rows + GpuBatch::kPadding) * dim, 3));
      // Logits of deviation 1 and more, so that no two are within rounding of each other.
      const auto weight = RandomFloats(num_factors * dim, 4, 8),
                 bias = RandomFloats(num_factors, 5);
      std::vector<float> factors(num_factors), want(batch.num_segments, -1.0f);
      for (int32_t f = 0; f < num_factors; ++f) factors[f] = 0.25f * static_cast<float>(f + 1);
      BudgetHeadArgs args{.batch = batch,
                          .shape = kShape,
                          .index_dim = dim,
                          .num_factors = num_factors,
                          .element = kType,
                          .query_ring_offset = 0,
                          .query = query.data(),
                          .weight = weight.data(),
                          .bias = bias.data(),
                          .factors = factors.data(),
                          .factor = want.data()};
      ThreadPool pool(1);
      ASSERT_TRUE(BudgetHeadCpu(args, pool).ok());
      Arrays arrays(*Gpu());
      const GpuBatch on_gpu(arrays, builder, states);
      args.batch = on_gpu.batch;
      args.query = arrays.Put(query);
      args.weight = arrays.Put(weight);
      args.bias = arrays.Put(bias);
      args.factors = arrays.Put(factors);
      DeviceArray& got = arrays.Poisoned(on_gpu.batch.num_segments * 4);
      args.factor = got.data<float>();
      const absl::Status status = Gpu()->BudgetHead(args);
      ASSERT_TRUE(status.ok()) << status;
      const std::vector<float> factor = got.ToHostAs<float>();
      for (int32_t s = 0; s < static_cast<int32_t>(factor.size()); ++s) {
        if (s >= batch.num_segments || batch.segments[s].begins == 0) {
          EXPECT_TRUE(std::isnan(factor[s])) << "segment " << s << " is left alone";
        } else {
          EXPECT_EQ(factor[s], want[s]) << "segment " << s;
        }
      }
    }
  }
}

TEST(BudgetHeadCudaTest, RefusesOtherTypes) {
  RASQ_NEEDS_GPU();
  BudgetHeadArgs args{
      .batch = {}, .shape = kShape, .index_dim = 8, .num_factors = 2, .element = DType::kFloat32};
  EXPECT_EQ(Gpu()->BudgetHead(args).code(), absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace rasq
