#include "kernels/pyramid_entries.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/head_store_world.h"

namespace rasq {
namespace {

using testing::HeadStoreWorld;

// The paper's own numbers: 32 layers, 128 tokens in the mean, a window of 8, beta 20.
TEST(PyramidBudgetTest, FallsFromTheFirstLayerToTheLast) {
  const auto budget = [](int64_t layer) {
    return PyramidBudget(128, 8, 20, layer, 32, /*tokens=*/100000) + 8;
  };
  EXPECT_EQ(budget(0), 242);   // 2 * 120 - 6, and the window
  EXPECT_EQ(budget(31), 14);   // 120 / 20, and the window
  EXPECT_EQ(budget(1), 235);   // 234 - 228 / 31 = 226.6
  EXPECT_EQ(budget(16), 124);  // 234 - 228 * 16 / 31 = 116.3
  int64_t sum = 0;
  for (int64_t l = 0; l < 31; ++l) {
    sum += budget(l);
    EXPECT_LT(budget(l + 1), budget(l));
  }
  EXPECT_NEAR(static_cast<double>(sum + budget(31)), 32 * 128, 16);  // each layer is rounded
}

TEST(PyramidBudgetTest, HasThreeBranches) {
  // Fewer tokens than the mean: all that is behind the window.
  EXPECT_EQ(PyramidBudget(128, 8, 20, 5, 32, 127), 119);
  // Up to twice what the mean leaves beside the window: the same for all.
  EXPECT_EQ(PyramidBudget(128, 8, 20, 0, 32, 239), 120);
  EXPECT_EQ(PyramidBudget(128, 8, 20, 31, 32, 239), 120);
  // More: the first layer keeps at most all, and the last what that leaves.
  EXPECT_EQ(PyramidBudget(128, 8, 20, 0, 32, 240), 232);
  EXPECT_EQ(PyramidBudget(128, 8, 20, 31, 32, 240), 8);
  EXPECT_EQ(PyramidBudget(128, 8, 20, 0, 32, 242), 234);
  EXPECT_EQ(PyramidBudget(128, 8, 20, 31, 32, 242), 6);
  // A window that takes the whole mean, and a single layer.
  EXPECT_EQ(PyramidBudget(8, 8, 20, 0, 32, 1000), 0);
  EXPECT_EQ(PyramidBudget(128, 8, 20, 0, 1, 1000), 120);
}

constexpr int32_t kHeads = 4, kKvHeads = 2, kGroup = 2, kDim = 6, kWindow = 8, kSegment = 4,
                  kRows = 12, kQueries = 3;
constexpr StreamShape kShape{.window_rows = kWindow,
                             .segment_rows = kSegment,
                             .sink_rows = 0,
                             .capacity = kKvHeads * kRows,
                             .max_selected = kRows,
                             .memory_span = 0,
                             .ring_rows = kWindow + kSegment};

// A stream that keeps its last queries, too.
class PyramidWorld : public HeadStoreWorld {
 public:
  explicit PyramidWorld(DType type, int32_t pool_rows)
      : HeadStoreWorld(kShape, type, kKvHeads, kDim, /*own_bytes=*/4096),
        pool_rows_(pool_rows),
        weight(kKvHeads * (kRows + kSegment)),
        scratch(weight.size()) {}

  double Query(int64_t at, int64_t head, int64_t d) const {
    return Elements(element, RandomFloats(kDim, 7000 + at * kHeads + head, 3))[d];
  }
  static float Lse(int64_t at, int64_t head) {
    return RandomFloats(1, 9000 + at * kHeads + head)[0];
  }
  void WriteQueries(int32_t rows) {
    for (int64_t p = position; p < position + rows; ++p) {
      for (int64_t h = 0; h < kHeads; ++h) {
        const int64_t at = p % kQueries * kHeads + h;
        std::byte* to = state.data() + own + at * kDim * SizeOf(element);
        for (int64_t d = 0; d < kDim; ++d) {
          Elements::Store(element, to, d, static_cast<float>(Query(p, h, d)));
        }
        Elements::Store(DType::kFloat32, state.data() + own + 1024, at, Lse(p, h));
      }
    }
  }
  PyramidEntriesArgs Args(const StreamBatch& batch, const int32_t* budget) {
    return {.store = Store(batch),
            .num_heads = kHeads,
            .rows = kRows,
            .num_queries = kQueries,
            .pool_rows = pool_rows_,
            .query_offset = own,
            .lse_offset = own + 1024,
            .order_offset = own + 2048,
            .count_offset = own + 3072,
            .budget = budget,
            .weight = weight.data(),
            .scratch = scratch.data(),
            .lists = Lists()};
  }
  double Weight(int64_t at, int64_t kv_head) const {
    double sum = 0;
    for (int64_t p = std::max<int64_t>(0, position - kQueries); p < position; ++p) {
      for (int64_t g = 0; g < kGroup; ++g) {
        const int64_t head = kv_head * kGroup + g;
        double dot = 0;
        for (int64_t d = 0; d < kDim; ++d) dot += Query(p, head, d) * At(true, at, kv_head, d);
        sum += std::exp(dot / std::sqrt(double{kDim}) - Lse(p, head)) / kGroup;
      }
    }
    return sum;
  }
  // Those of the candidates, ascending positions, that stay.
  std::vector<int64_t> Chosen(const std::vector<int64_t>& candidates, int64_t kv_head,
                              int64_t budget) const {
    const auto all = static_cast<int64_t>(candidates.size());
    std::vector<double> weights;
    for (const int64_t p : candidates) weights.push_back(Weight(p, kv_head));
    std::vector<std::pair<std::pair<double, double>, int64_t>> ranked;
    for (int64_t j = 0; j < all; ++j) {
      double pooled = 0;
      for (int64_t i = 0; i < all; ++i) {
        if (std::abs(i - j) <= pool_rows_ / 2) pooled = std::max(pooled, weights[i]);
      }
      ranked.push_back({{pooled, weights[j]}, candidates[j]});
    }
    std::sort(ranked.rbegin(), ranked.rend());
    std::vector<int64_t> chosen;
    for (int64_t i = 0; i < std::min(all, budget); ++i) chosen.push_back(ranked[i].second);
    std::sort(chosen.begin(), chosen.end());
    return chosen;
  }
  void ExpectList(int64_t kv_head, const std::vector<int64_t>& want) const {
    ASSERT_EQ(count[kv_head], static_cast<int32_t>(want.size()));
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_EQ(BiasOf(kv_head, i), 0);
      const int32_t row = RowOf(kv_head, i);
      EXPECT_EQ(row / kRows, kv_head);
      for (const bool key : {true, false}) {
        for (int64_t d = 0; d < kDim; ++d) {
          ASSERT_EQ(Stored(key, row, d), At(key, want[i], kv_head, d)) << "entry " << i;
        }
      }
    }
  }

 private:
  const int32_t pool_rows_;

 public:
  std::vector<float> weight;
  std::vector<int32_t> scratch;
};

// Chosen whenever something leaves; segments of changing lengths, some in two parts.
TEST(PyramidEntriesTest, KeepsWhatTheLastQueriesLookAt) {
  ThreadPool pool(2);
  for (const DType element : {DType::kFloat32, DType::kBfloat16}) {
    for (const int32_t pool_rows : {1, 3, 7}) {
      for (const int32_t budget : {0, 5, 12}) {
        SCOPED_TRACE(::testing::Message()
                     << Name(element) << " pool " << pool_rows << " budget " << budget);
        PyramidWorld world(element, pool_rows);
        std::vector<std::vector<int64_t>> lists(kKvHeads);
        int64_t left = 0;
        for (const int32_t length : {4, 4, 1, 4, 3, 4, 4, 2, 4, 4, 4, 4}) {
          const int64_t start = world.position;
          for (int64_t h = 0; h < kKvHeads; ++h) {
            std::vector<int64_t> candidates = lists[h];
            for (int64_t p = left; p < start - kWindow; ++p) candidates.push_back(p);
            lists[h] = world.Chosen(candidates, h, budget);
          }
          left = std::max(left, start - kWindow);
          for (int32_t done = 0; done < length;) {
            const int32_t rows = done == 0 && length == 3 ? 1 : length - done;
            const BatchBuilder builder = world.Segment(rows, done == 0 ? -1 : start);
            const absl::Status status =
                PyramidEntriesCpu(world.Args(builder.Batch(), &budget), pool);
            ASSERT_TRUE(status.ok()) << status;
            for (int64_t h = 0; h < kKvHeads; ++h) world.ExpectList(h, lists[h]);
            world.WriteQueries(rows);
            world.Write(rows);
            done += rows;
          }
        }
      }
    }
  }
}

// As published: all is kept until a budget is given once, and then again all that comes.
TEST(PyramidEntriesTest, ChoosesOnceAndThenKeepsAll) {
  ThreadPool pool(1);
  PyramidWorld world(DType::kFloat32, /*pool_rows=*/3);
  std::vector<int64_t> all;
  for (int64_t i = 0; i < 4; ++i) {
    const BatchBuilder builder = world.Segment(kSegment);
    const int32_t none = -1;
    ASSERT_TRUE(PyramidEntriesCpu(world.Args(builder.Batch(), &none), pool).ok());
    for (int64_t p = static_cast<int64_t>(all.size()); p < world.left; ++p) all.push_back(p);
    for (int64_t h = 0; h < kKvHeads; ++h) world.ExpectList(h, all);
    world.WriteQueries(kSegment);
    world.Write(kSegment);
  }
  std::vector<std::vector<int64_t>> lists;
  for (int64_t i = 0; i < 3; ++i) {
    const int64_t before = world.left;
    const BatchBuilder builder = world.Segment(kSegment);
    const int32_t budget = i == 0 ? 3 : -1;
    for (int64_t h = 0; i == 0 && h < kKvHeads; ++h) {
      std::vector<int64_t> candidates = all;
      for (int64_t p = before; p < world.left; ++p) candidates.push_back(p);
      lists.push_back(world.Chosen(candidates, h, 3));
    }
    ASSERT_TRUE(PyramidEntriesCpu(world.Args(builder.Batch(), &budget), pool).ok());
    for (int64_t h = 0; h < kKvHeads; ++h) {
      for (int64_t p = before; i > 0 && p < world.left; ++p) lists[h].push_back(p);
      world.ExpectList(h, lists[h]);
    }
    world.WriteQueries(kSegment);
    world.Write(kSegment);
  }
}

TEST(PyramidEntriesTest, RefusesWhatDoesNotFit) {
  ThreadPool pool(1);
  PyramidWorld world(DType::kFloat32, /*pool_rows=*/3);
  world.position = 24;
  const BatchBuilder builder = world.Segment(/*rows=*/1);
  world.left = 16;
  const int32_t none = -1;
  const auto message = [&](const std::function<void(PyramidEntriesArgs&)>& change) {
    PyramidEntriesArgs args = world.Args(builder.Batch(), &none);
    change(args);
    return std::string(ValidatePyramidEntries(args).message());
  };
  EXPECT_EQ(message([](PyramidEntriesArgs&) {}), "");
  EXPECT_EQ(message([](PyramidEntriesArgs& a) { a.rows = 13; }), "PyramidEntries: rows=13");
  EXPECT_EQ(message([](PyramidEntriesArgs& a) { a.pool_rows = 2; }), "PyramidEntries: pool_rows=2");
  EXPECT_EQ(message([](PyramidEntriesArgs& a) { a.num_queries = 9; }),
            "PyramidEntries: num_queries=9");
  EXPECT_EQ(message([](PyramidEntriesArgs& a) { a.num_heads = 3; }), "PyramidEntries: num_heads=3");
  EXPECT_EQ(message([](PyramidEntriesArgs& a) { a.budget = nullptr; }),
            "PyramidEntries: budget=null");
}

}  // namespace
}  // namespace rasq
