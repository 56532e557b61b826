// Attention over exact entries (stream_attention.h), by hand: biases that stand for many entries,
// and blocks of entries fused by weights.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/stream_attention.h"
#include "tests/support/attention_world.h"
#include "tests/support/stream_batches.h"
#include "tests/support/tensors.h"

namespace rasq {
namespace {

// One head of two dimensions, no window and no sinks. A segment of `num_rows` equal queries (query,
// 0) sees one token of its own, (1, 0) with value (8, 0): the keys of later ones lie so far below
// that they weigh nothing.
struct SmallWorld {
  SmallWorld(DType element, int32_t num_rows, int32_t num_entries, float query)
      : type(element),
        shape{.window_rows = 0,
              .segment_rows = 8,
              .sink_rows = 0,
              .capacity = num_entries,
              .max_selected = num_entries,
              .memory_span = 0,
              .ring_rows = 8},
        rows(num_rows),
        state((2 * 8 + 2 * num_entries) * 2 * SizeOf(element)),
        builder(shape),
        q(element, 2L * num_rows),
        k(element, 2L * num_rows, -1000),
        v(element, 2L * num_rows, 1),
        out(element, 2L * num_rows),
        count{num_entries},
        row(num_entries),
        log_gate(num_entries),
        lse(num_rows) {
    builder.Add({.first_position = 0, .segment_rows = {num_rows}}, state.data());
    for (int32_t i = 0; i < num_rows; ++i) q.Set(2L * i, query);
    k.Set(0, 1);
    k.Set(1, 0);
    v.Set(0, 8);
    v.Set(1, 0);
    for (int32_t i = 0; i < num_entries; ++i) row[i] = i;
  }

  int64_t key_offset() const { return 2 * 8 * 2 * SizeOf(type); }
  int64_t value_offset() const { return key_offset() + shape.capacity * 2 * SizeOf(type); }

  void SetEntry(int32_t i, float key, float value0, float value1, float bias) {
    Elements::Store(type, state.data() + key_offset(), 2L * i, key);
    Elements::Store(type, state.data() + value_offset(), 2L * i, value0);
    Elements::Store(type, state.data() + value_offset(), 2L * i + 1, value1);
    log_gate[i] = bias;
  }

  void Run(const float* fused_weight) {
    StreamAttentionArgs a{};
    a.batch = builder.Batch();
    a.shape = shape;
    a.element = type;
    a.num_heads = a.num_kv_heads = 1;
    a.head_dim = a.compressed_dim = 2;
    a.q = q.data();
    a.k = k.data();
    a.v = v.data();
    a.ring_v_offset = 8 * 2 * SizeOf(type);
    a.reads_memory = true;
    a.selected.count = count.data();
    a.selected.row = row.data();
    a.selected.log_gate = log_gate.data();
    a.entry_k_offset = key_offset();
    a.entry_v_offset = value_offset();
    a.fused_weight = fused_weight;
    a.out = out.data();
    a.lse = lse.data();
    ThreadPool pool(1);
    const absl::Status status = StreamAttentionCpu(a, pool);
    ASSERT_TRUE(status.ok()) << status;
  }

  void ExpectRows(double out0, double out1, double log_sum) const {
    // A query and the weights are rounded, and outputs are below 8; logits are below 5.
    const double tolerance = 64 * Rounding(type);
    for (int32_t i = 0; i < rows; ++i) {
      EXPECT_NEAR(out[2L * i], out0, tolerance) << i;
      EXPECT_NEAR(out[2L * i + 1], out1, tolerance) << i;
      EXPECT_NEAR(lse[i], log_sum, tolerance) << i;
    }
  }

  const DType type;
  const StreamShape shape;
  const int32_t rows;
  std::vector<std::byte> state;
  BatchBuilder builder;
  Elements q, k, v, out;
  std::vector<int32_t> count, row;
  std::vector<float> log_gate, lse;
};

// Two rows are few, eight make a tile.
class ExactEntriesTest : public ::testing::TestWithParam<std::tuple<DType, int32_t>> {};
INSTANTIATE_TEST_SUITE_P(Ways, ExactEntriesTest,
                         ::testing::Combine(::testing::Values(DType::kFloat32, DType::kBfloat16),
                                            ::testing::Values(2, 8)));

TEST_P(ExactEntriesTest, BiasStandsForCopies) {
  const auto [type, rows] = GetParam();
  // q = (sqrt(2) ln 3, 0): the own key's logit is ln 3. An entry (0, .) has logit 0, with bias ln 5
  // it weighs as five of bias 0 do: out = (3 (8, 0) + 5 (4, 16)) / 8, of a sum of 8.
  const float query = std::sqrt(2.0f) * std::log(3.0f);
  SmallWorld one(type, rows, 1, query);
  one.SetEntry(0, 0, 4, 16, std::log(5.0f));
  one.Run(/*fused_weight=*/nullptr);
  one.ExpectRows(5.5, 10, std::log(8.0));
  SmallWorld five(type, rows, 5, query);
  for (int32_t i = 0; i < 5; ++i) five.SetEntry(i, 0, 4, 16, 0);
  five.Run(/*fused_weight=*/nullptr);
  five.ExpectRows(5.5, 10, std::log(8.0));
}

TEST_P(ExactEntriesTest, FusedBlocks) {
  const auto [type, rows] = GetParam();
  // Block 0: 64 entries of logit 0, half of them (2, 0), half (0, 0): a mean of (1, 0), a mass of
  // 64. Block 1: an entry (2, .), logit ln 9, with bias ln 4 a mass of 36, and (0, 4); and one of
  // bias -infinity. With weights 1/4 and 3/4 the memory's output is (1/4, 3) and its mass 100; the
  // own key's is 3. Without weights the output would be (64 (1, 0) + 36 (0, 4) + 3 (8, 0)) / 103.
  const float query = std::sqrt(2.0f) * std::log(3.0f);
  SmallWorld world(type, rows, 66, query);
  for (int32_t i = 0; i < 64; ++i) world.SetEntry(i, 0, i % 2 == 0 ? 2 : 0, 0, 0);
  world.SetEntry(64, 2, 0, 4, std::log(4.0f));
  world.SetEntry(65, 0, 77, 77, -INFINITY);
  const std::vector<float> weight = {0.25f, 0.75f};
  world.Run(weight.data());
  world.ExpectRows((25 + 24) / 103.0, 300 / 103.0, std::log(103.0));
  world.Run(/*fused_weight=*/nullptr);
  world.ExpectRows((64 + 24) / 103.0, 144 / 103.0, std::log(103.0));
  // The blocks' own shares of the mass: no fusing.
  const std::vector<float> shares = {0.64f, 0.36f};
  world.Run(shares.data());
  world.ExpectRows((64 + 24) / 103.0, 144 / 103.0, std::log(103.0));
}

TEST_P(ExactEntriesTest, BlockOfNothing) {
  const auto [type, rows] = GetParam();
  // Block 0 has no logit above -infinity: what it was given is lost. Block 1 has a mass of 1.
  SmallWorld world(type, rows, 65, /*query=*/0);
  for (int32_t i = 0; i < 64; ++i) world.SetEntry(i, 0, 5, 5, -INFINITY);
  world.SetEntry(64, 0, 0, 4, 0);
  const std::vector<float> weight = {0.5f, 0.5f};
  world.Run(weight.data());
  const int32_t last = rows - 1;  // keys far below weigh no more than others for a query of zero
  EXPECT_NEAR(world.out[0], 4, 64 * Rounding(type));
  EXPECT_NEAR(world.out[1], 1, 64 * Rounding(type));
  EXPECT_NEAR(world.lse[0], std::log(2.0), 64 * Rounding(type));
  EXPECT_NEAR(world.lse[last], std::log(rows + 1.0), 64 * Rounding(type));
}

// Weights that are the blocks' shares of the mass, at a shape of many heads: queries of zero give
// every entry its bias as logit.
TEST(FusedBlocksTest, SharesOfTheMassAreOneSoftmax) {
  for (const DType type : {DType::kFloat32, DType::kBfloat16}) {
    AttentionCase c{"shares", type, 37, 16, 4, 900, 700, 6, 2, 16, 16, RaggedChunks()};
    c.reading = {.exact = true, .weighed = false, .per_head = true};
    AttentionWorld world(c, c.chunks, StreamNumbers(c.chunks.size()));
    StreamAttentionArgs args = world.Args();
    const Elements zero(type, int64_t{args.batch.num_rows} * c.heads * c.head_dim);
    args.q = zero.data();
    ThreadPool pool(2);
    ASSERT_TRUE(StreamAttentionCpu(args, pool).ok());
    const std::vector<float> want = world.out().ToFloats(), want_lse = world.lse();
    const int64_t blocks = NumFusedBlocks(c.max_selected);
    std::vector<float> shares(args.batch.num_segments * c.kv_heads * blocks);
    for (int64_t list = 0; list < int64_t{args.batch.num_segments} * c.kv_heads; ++list) {
      double sum = 0;
      const auto mass = [&](int64_t j) {
        return std::exp(double{args.selected.log_gate[list * c.max_selected + j]});
      };
      for (int64_t j = 0; j < args.selected.count[list]; ++j) sum += mass(j);
      for (int64_t j = 0; j < args.selected.count[list]; ++j) {
        shares[list * blocks + j / kFusedRows] += static_cast<float>(mass(j) / sum);
      }
    }
    args.fused_weight = shares.data();
    ASSERT_TRUE(StreamAttentionCpu(args, pool).ok());
    for (size_t i = 0; i < want.size(); ++i) {
      // The same mean of values below 1, each weight rounded once on both ways.
      ASSERT_NEAR(world.out()[static_cast<int64_t>(i)], want[i], 4 * Rounding(type)) << i;
    }
    for (size_t i = 0; i < want_lse.size(); ++i) ASSERT_NEAR(world.lse()[i], want_lse[i], 0x1p-18f);
  }
}

}  // namespace
}  // namespace rasq
