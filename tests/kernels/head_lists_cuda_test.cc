// The operations of stores of single-head rows on the GPU, against their CPU twins: a stream is
// moved on by the CPU, and each of its steps is run on the GPU, too.
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/chunk_entries.h"
#include "kernels/pyramid_entries.h"
#include "kernels/razor_entries.h"
#include "kernels/repeat_scores.h"
#include "tests/support/gpu_batches.h"
#include "tests/support/gpu_twin.h"
#include "tests/support/head_store_world.h"

namespace rasq {
namespace {

using testing::Arrays;
using testing::DeviceArray;
using testing::Gpu;
using testing::GpuBatch;
using testing::HeadStoreWorld;

constexpr DType kType = DType::kBfloat16;
constexpr int32_t kSegment = 64, kWindow = 70;
// Some tile's width, and odd ones.
constexpr int32_t kDims[] = {6, 64, 72, 128};

StreamShape ShapeOf(int32_t capacity, int32_t max_selected) {
  return {.window_rows = kWindow,
          .segment_rows = kSegment,
          .sink_rows = 0,
          .capacity = capacity,
          .max_selected = max_selected,
          .memory_span = 0,
          .ring_rows = kWindow + kSegment};
}

// Lists of a batch with its padding; those of the padding are left alone.
struct GpuLists {
  GpuLists(Arrays& arrays, const HeadStoreWorld& world)
      : count(arrays.Poisoned(Lists(world) * 4)),
        row(arrays.Poisoned(Lists(world) * world.shape.max_selected * 4)),
        bias(arrays.Poisoned(Lists(world) * world.shape.max_selected * 4)) {}
  static int64_t Lists(const HeadStoreWorld& world) {
    return int64_t{1 + GpuBatch::kPadding} * world.num_kv_heads;
  }
  HeadLists lists() const {
    return {count.data<int32_t>(), row.data<int32_t>(), bias.data<float>()};
  }

  // Row numbers and biases alike; rows of the store within a rounding.
  void ExpectEqual(const HeadStoreWorld& world, const DeviceArray& state) const {
    const auto counts = count.ToHostAs<int32_t>();
    const auto rows = row.ToHostAs<int32_t>();
    const auto biases = bias.ToHostAs<float>();
    const std::vector<std::byte> bytes = state.ToHost();
    const int64_t row_bytes = int64_t{world.head_dim} * SizeOf(kType);
    for (int64_t h = 0; h < world.num_kv_heads; ++h) {
      ASSERT_EQ(counts[h], world.count[h]) << "head " << h;
      for (int64_t i = 0; i < counts[h]; ++i) {
        const int64_t at = h * world.shape.max_selected + i;
        ASSERT_EQ(rows[at], world.list_row[at]) << "head " << h << " entry " << i;
        if (std::isinf(world.bias[at])) {
          ASSERT_EQ(biases[at], world.bias[at]);
          continue;
        }
        ASSERT_NEAR(biases[at], world.bias[at], 1e-6) << "head " << h << " entry " << i;
        for (const bool key : {true, false}) {
          for (int64_t d = 0; d < world.head_dim; ++d) {
            const double want = world.Stored(key, rows[at], d);
            const std::byte* from =
                bytes.data() + (key ? world.store_k : world.store_v) + rows[at] * row_bytes;
            ASSERT_NEAR(Elements::Load(kType, from, d), want, std::abs(want) * 0x1p-7);
          }
        }
      }
    }
    for (size_t i = world.num_kv_heads; i < counts.size(); ++i) EXPECT_EQ(counts[i], -1);
  }

  const DeviceArray& count;
  const DeviceArray& row;
  const DeviceArray& bias;
};

// Moves the world on by segments of changing lengths; `step` runs one batch on both.
void Drive(HeadStoreWorld& world,
           const std::function<void(const BatchBuilder&, const testing::States&, int32_t)>& step) {
  for (const int32_t length : {64, 64, 40, 64, 1, 64, 64, 30, 64, 64}) {
    const int64_t start = world.position;
    for (int32_t done = 0; done < length;) {
      const int32_t rows = done == 0 && length == 40 ? 11 : length - done;
      const testing::States before = {world.state};
      const BatchBuilder builder = world.Segment(rows, done == 0 ? -1 : start);
      step(builder, before, rows);
      if (::testing::Test::HasFatalFailure()) return;
      world.Write(rows);
      done += rows;
    }
  }
}

TEST(RazorEntriesCudaTest, MatchesCpu) {
  RASQ_NEEDS_GPU();
  constexpr int32_t kHeads = 3;
  for (const int32_t dim : kDims) {
    for (const RazorPolicy& policy : {RazorPolicy{.sink_rows = 4,
                                     .retrieval_rows = 600,
                                     .local_rows = 200,
                                     .local_tokens = 90,
                                     .compression = 3,
                                     .retrieval_heads = 0b010},
                                      RazorPolicy{.sink_rows = 2,
                                      .retrieval_rows = 100,
                                      .local_rows = 0,
                                      .local_tokens = 0,
                                      .compression = 0,
                                      .retrieval_heads = 0b001}}) {
      SCOPED_TRACE(::testing::Message() << "dim " << dim << " sinks " << policy.sink_rows);
      const int64_t means = int64_t{kHeads} * dim * sizeof(double);
      HeadStoreWorld world(
          ShapeOf(static_cast<int32_t>(NumRazorRows(policy, kHeads)),
                  policy.sink_rows + std::max(policy.retrieval_rows, policy.local_rows + 1)),
          kType, kHeads, dim, 2 * means);
      ThreadPool pool(1);
      Drive(world, [&](const BatchBuilder& builder, const testing::States& before, int32_t) {
        RazorEntriesArgs args{.store = world.Store(builder.Batch()),
                              .policy = policy,
                              .mean_k_offset = world.own,
                              .mean_v_offset = world.own + means,
                              .lists = world.Lists()};
        ASSERT_TRUE(RazorEntriesCpu(args, pool).ok());
        Arrays arrays(*Gpu());
        const GpuBatch on_gpu(arrays, builder, before);
        const GpuLists lists(arrays, world);
        args.store.batch = on_gpu.batch;
        args.lists = lists.lists();
        const absl::Status status = Gpu()->RazorEntries(args);
        ASSERT_TRUE(status.ok()) << status;
        lists.ExpectEqual(world, *on_gpu.states[0]);
      });
    }
  }
}

TEST(PyramidEntriesCudaTest, MatchesCpu) {
  RASQ_NEEDS_GPU();
  constexpr int32_t kHeads = 6, kKvHeads = 2, kRows = 300, kQueries = 8;
  for (const int32_t dim : kDims) {
    for (const int32_t budget : {0, 40, 300, -1}) {
      SCOPED_TRACE(::testing::Message() << "dim " << dim << " budget " << budget);
      const int64_t query_bytes = int64_t{kQueries} * kHeads * dim * 2;
      const int64_t lse = HeadStoreWorld::Aligned(query_bytes);
      const int64_t order = lse + HeadStoreWorld::Aligned(kQueries * kHeads * 4);
      const int64_t count = order + HeadStoreWorld::Aligned(kKvHeads * kRows * 4);
      const int32_t rows = budget < 0 ? 600 : kRows;
      const int64_t tail = count + HeadStoreWorld::Aligned(kKvHeads * rows * 4);
      HeadStoreWorld world(ShapeOf(kKvHeads * rows, rows), kType, kKvHeads, dim, tail + 256);
      ThreadPool pool(1);
      std::vector<float> weight(kKvHeads * (rows + kSegment));
      std::vector<int32_t> scratch(weight.size());
      Drive(world, [&](const BatchBuilder& builder, const testing::States& before, int32_t) {
        const std::vector<int32_t> budgets(1 + GpuBatch::kPadding, budget);
        PyramidEntriesArgs args{.store = world.Store(builder.Batch()),
                                .num_heads = kHeads,
                                .rows = rows,
                                .num_queries = kQueries,
                                .pool_rows = 7,
                                .query_offset = world.own,
                                .lse_offset = world.own + lse,
                                .order_offset = world.own + count,
                                .count_offset = world.own + tail,
                                .budget = budgets.data(),
                                .weight = weight.data(),
                                .scratch = scratch.data(),
                                .lists = world.Lists()};
        testing::States with_queries = before;
        // Every row of the rings of queries anew, so that each choice is another.
        for (std::vector<std::byte>* state : {&world.state, &with_queries[0]}) {
          const Elements q(kType, RandomFloats(kQueries * kHeads * dim, world.position, 2));
          std::copy(q.bytes().begin(), q.bytes().end(), state->begin() + world.own);
          const Elements sums(DType::kFloat32, RandomFloats(kQueries * kHeads, world.position));
          std::copy(sums.bytes().begin(), sums.bytes().end(), state->begin() + world.own + lse);
        }
        ASSERT_TRUE(PyramidEntriesCpu(args, pool).ok());
        Arrays arrays(*Gpu());
        const GpuBatch on_gpu(arrays, builder, with_queries);
        const GpuLists lists(arrays, world);
        const int64_t own = GpuLists::Lists(world) * (rows + kSegment) * 4;
        args.store.batch = on_gpu.batch;
        args.budget = arrays.Put(budgets);
        args.weight = arrays.Poisoned(own).data<float>();
        args.scratch = arrays.Poisoned(own).data<int32_t>();
        args.lists = lists.lists();
        const absl::Status status = Gpu()->PyramidEntries(args);
        ASSERT_TRUE(status.ok()) << status;
        lists.ExpectEqual(world, *on_gpu.states[0]);
        const std::vector<std::byte> after = on_gpu.states[0]->ToHost();
        EXPECT_TRUE(std::equal(after.begin() + world.own + count, after.end(),
                               world.state.begin() + world.own + count))
            << "the order of rows";
      });
    }
  }
}

TEST(ChunkEntriesCudaTest, MatchesCpu) {
  RASQ_NEEDS_GPU();
  constexpr int32_t kHeads = 6, kKvHeads = 2, kRead = 3;
  for (const int32_t dim : kDims) {
    for (const int32_t kept : {4, 20}) {
      SCOPED_TRACE(::testing::Message() << "dim " << dim << " kept " << kept);
      const int64_t part = HeadStoreWorld::Aligned(int64_t{kKvHeads} * kept * dim * 4);
      HeadStoreWorld world(ShapeOf(kKvHeads * kept * kChunkRows, kRead * kChunkRows), kType,
                           kKvHeads, dim, 8 * part);
      const auto at = [&](int64_t i) { return world.own + i * part; };
      const ChunkTable table{at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)};
      ThreadPool pool(1);
      std::vector<float> score(kKvHeads * kept), weight(kKvHeads * kRead);
      Drive(world, [&](const BatchBuilder& builder, const testing::States& before, int32_t rows) {
        ChunkEntriesArgs args{.store = world.Store(builder.Batch()),
                              .chunks = kept,
                              .read_chunks = kRead,
                              .table = table,
                              .score = score.data(),
                              .lists = world.Lists(),
                              .fused_weight = weight.data()};
        const Elements q(
            kType, RandomFloats((rows + GpuBatch::kPadding) * kHeads * dim, world.position, 2));
        ChunkQueriesArgs queries{.batch = builder.Batch(),
                                 .element = kType,
                                 .num_heads = kHeads,
                                 .num_kv_heads = kKvHeads,
                                 .head_dim = dim,
                                 .q = q.data(),
                                 .table = table};
        ASSERT_TRUE(ChunkEntriesCpu(args, pool).ok());
        ASSERT_TRUE(ChunkQueriesCpu(queries, pool).ok());
        Arrays arrays(*Gpu());
        const GpuBatch on_gpu(arrays, builder, before);
        const GpuLists lists(arrays, world);
        const DeviceArray& weights = arrays.Poisoned(GpuLists::Lists(world) * kRead * 4);
        args.store.batch = queries.batch = on_gpu.batch;
        args.lists = lists.lists();
        args.score = arrays.Poisoned(GpuLists::Lists(world) * kept * 4).data<float>();
        args.fused_weight = weights.data<float>();
        queries.q = arrays.Put(q);
        ASSERT_TRUE(Gpu()->ChunkEntries(args).ok());
        ASSERT_TRUE(Gpu()->ChunkQueries(queries).ok());
        lists.ExpectEqual(world, *on_gpu.states[0]);
        const auto got = weights.ToHostAs<float>();
        for (int32_t h = 0; h < kKvHeads; ++h) {
          for (int32_t i = 0; i < world.count[h] / kChunkRows; ++i) {
            ASSERT_NEAR(got[h * kRead + i], weight[h * kRead + i], 1e-4);
          }
        }
        const std::vector<std::byte> after = on_gpu.states[0]->ToHost();
        for (int64_t i = 0; i < int64_t{kKvHeads} * dim; ++i) {
          const double want = Elements::Load(DType::kFloat32, world.state.data() + at(6), i);
          ASSERT_NEAR(Elements::Load(DType::kFloat32, after.data() + at(6), i), want, 1e-3);
        }
      });
    }
  }
}

TEST(RepeatScoresCudaTest, MatchesCpu) {
  RASQ_NEEDS_GPU();
  constexpr int32_t kHeads = 6, kKvHeads = 2, kRows = 100;
  for (const int32_t dim : kDims) {
    SCOPED_TRACE(::testing::Message() << "dim " << dim);
    StreamShape shape = ShapeOf(0, 0);
    shape.window_rows = 200;
    shape.ring_rows = 200 + kSegment;
    BatchBuilder builder(shape);
    testing::States states = {
        Elements(kType, RandomFloats(int64_t{shape.ring_rows} * kKvHeads * dim, 1)).bytes()};
    builder.Add({.first_position = 77, .segment_rows = {51, 49}, .first_start = 64},
                states[0].data());
    const Elements q(kType, RandomFloats((kRows + GpuBatch::kPadding) * kHeads * dim, 2));
    const Elements k(kType, RandomFloats((kRows + GpuBatch::kPadding) * kKvHeads * dim, 3));
    const std::vector<float> lse((kRows + GpuBatch::kPadding) * kHeads, 4.0f);
    std::vector<RepeatScores> want(kRows * kHeads);
    RepeatScoresArgs args{.batch = builder.Batch(),
                          .shape = shape,
                          .element = kType,
                          .num_heads = kHeads,
                          .num_kv_heads = kKvHeads,
                          .head_dim = dim,
                          .q = q.data(),
                          .k = k.data(),
                          .ring_k_offset = 0,
                          .lse = lse.data(),
                          .first = 1,
                          .period = 13,
                          .out = want.data()};
    ThreadPool pool(1);
    ASSERT_TRUE(RepeatScoresCpu(args, pool).ok());
    Arrays arrays(*Gpu());
    const GpuBatch on_gpu(arrays, builder, states);
    const DeviceArray& out = arrays.Poisoned(lse.size() * sizeof(RepeatScores));
    args.batch = on_gpu.batch;
    args.q = arrays.Put(q);
    args.k = arrays.Put(k);
    args.lse = arrays.Put(lse);
    args.out = out.data<RepeatScores>();
    ASSERT_TRUE(Gpu()->RepeatScores(args).ok());
    const auto got = out.ToHostAs<RepeatScores>();
    for (size_t i = 0; i < got.size(); ++i) {
      if (i >= want.size()) {
        EXPECT_TRUE(std::isnan(got[i].echo)) << "padding is left alone";
        continue;
      }
      ASSERT_NEAR(got[i].echo, want[i].echo, std::abs(want[i].echo) * 1e-4) << i;
      ASSERT_NEAR(got[i].induction, want[i].induction, std::abs(want[i].induction) * 1e-4) << i;
    }
  }
}

}  // namespace
}  // namespace rasq
