#include "kernels/budget_head.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "tests/support/stream_batches.h"
#include "tests/support/tensors.h"

namespace rasq {
namespace {

constexpr StreamShape kShape = {.window_rows = 40,
                                .segment_rows = 4,
                                .sink_rows = 0,
                                .capacity = 8,
                                .max_selected = 8,
                                .memory_span = 8,
                                .ring_rows = 44};

// Queries of two numbers for positions from 0 on.
struct World {
  World(DType element, const std::vector<float>& queries, const ChunkSpec& spec)
      : type(element), builder(kShape), state(4 * 2 * SizeOf(element)) {
    builder.Add(spec, state.data());
    own = Elements(type, int64_t{builder.Batch().num_rows} * 2, /*value=*/99);
    for (int64_t p = 0; p < static_cast<int64_t>(queries.size()) / 2; ++p) {
      for (int64_t d = 0; d < 2; ++d) {
        if (p < spec.first_position) {
          Elements::Store(type, state.data(), p % 4 * 2 + d, queries[2 * p + d]);
        } else if (p - spec.first_position < builder.Batch().num_rows) {
          own.Set((p - spec.first_position) * 2 + d, queries[2 * p + d]);
        }
      }
    }
    factor.assign(builder.Batch().num_segments, -1.0f);
  }
  BudgetHeadArgs Args() {
    return {.batch = builder.Batch(),
            .shape = kShape,
            .index_dim = 2,
            .num_factors = 3,
            .element = type,
            .query_ring_offset = 0,
            .query = own.data(),
            .weight = weight.data(),
            .bias = bias.data(),
            .factors = factors.data(),
            .factor = factor.data()};
  }
  DType type;
  BatchBuilder builder;
  std::vector<std::byte> state;
  Elements own;
  // Logits of a pooled query (x, y): x, y, and 0.5.
  std::vector<float> weight = {1, 0, 0, 1, 0, 0}, bias = {0, 0, 0.5f}, factors = {0.25f, 2, 1};
  std::vector<float> factor;
};

TEST(BudgetHeadTest, ByHand) {
  for (const DType type : {DType::kFloat32, DType::kBfloat16}) {
    // Segments at 4 (goes on), 6, 10 and 12. The one at 6 pools positions 2..5: (0.75, 0.25). That
    // at 10 pools 6..9: (0, 0.75). That at 12 pools 8..11: (0.25, 0.5), which ties with the third
    // logit, and the second wins.
    const std::vector<float> queries = {9, 9, 9, 9, 1, 0, 1, 0, 1, 0, 0, 1,
                                        0, 1, 0, 1, 0, 1, 0, 0, 1, 0, 0, 1};
    World w(type, queries, {.first_position = 5, .segment_rows = {1, 4, 2, 2}, .first_start = 4});
    ThreadPool pool(1);
    const absl::Status status = BudgetHeadCpu(w.Args(), pool);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(w.factor, (std::vector<float>{-1, 0.25f, 2, 2}));
  }
}

TEST(BudgetHeadTest, WithoutQueriesTheBiasDecides) {
  World w(DType::kFloat32, {}, {.first_position = 0, .segment_rows = {2}});
  ThreadPool pool(1);
  ASSERT_TRUE(BudgetHeadCpu(w.Args(), pool).ok());
  EXPECT_EQ(w.factor, (std::vector<float>{1}));
}

TEST(BudgetHeadTest, ArgumentErrors) {
  World w(DType::kFloat32, {}, {.first_position = 0, .segment_rows = {2}});
  const auto message = [&](auto change) {
    BudgetHeadArgs args = w.Args();
    change(args);
    return std::string(ValidateBudgetHead(args).message());
  };
  using Args = BudgetHeadArgs;
  EXPECT_EQ(message([](Args& a) { a.num_factors = 0; }), "BudgetHead: num_factors=0");
  EXPECT_EQ(message([](Args& a) { a.num_factors = 33; }), "BudgetHead: num_factors=33");
  EXPECT_EQ(message([](Args& a) { a.index_dim = 0; }), "BudgetHead: index_dim=0");
  EXPECT_EQ(message([](Args& a) { a.weight = nullptr; }), "BudgetHead: weight=null");
  EXPECT_EQ(message([](Args& a) { a.factor = nullptr; }), "BudgetHead: factor=null");
}

}  // namespace
}  // namespace rasq
