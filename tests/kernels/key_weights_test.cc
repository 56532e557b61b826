#include "kernels/key_weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/attention_world.h"
#include "tests/support/key_weights_cases.h"
#include "tests/support/stream_batches.h"
#include "tests/support/tensors.h"

namespace rasq {
namespace {

class KeyWeightsShapeTest : public ::testing::TestWithParam<KeyWeightsCase> {};

TEST_P(KeyWeightsShapeTest, MatchesDouble) {
  const AttentionCase& c = GetParam().attention;
  AttentionWorld world(c, c.chunks, StreamNumbers(c.chunks.size()));
  ThreadPool pool(2);
  ASSERT_TRUE(StreamAttentionCpu(world.Args(), pool).ok());
  KeyWeightsArgs args = KeyWeightsArgsOf(GetParam(), world);
  const int64_t size =
      int64_t{args.attention.batch.num_segments} * c.kv_heads * KeyColumns(args.attention.shape);
  std::vector<float> out(size, std::numeric_limits<float>::quiet_NaN());
  args.out = out.data();
  absl::Status status = KeyWeightsCpu(args, pool);
  ASSERT_TRUE(status.ok()) << status;
  ExpectKeyWeights(args, out, /*first=*/0);
  out.assign(size, 3.5f);
  args.accumulate = true;
  status = KeyWeightsCpu(args, pool);
  ASSERT_TRUE(status.ok()) << status;
  ExpectKeyWeights(args, out, /*first=*/3.5f);
}

std::vector<KeyWeightsCase> Cases() {
  std::vector<KeyWeightsCase> cases = KeyWeightsCases(DType::kFloat32, 16);
  for (const KeyWeightsCase& c : KeyWeightsCases(DType::kBfloat16, 10)) cases.push_back(c);
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Shapes, KeyWeightsShapeTest, ::testing::ValuesIn(Cases()));

// One query's weights are a softmax: without sinks, 1 in sum over the columns.
TEST(KeyWeightsTest, WeightsOfAQueryAreOneInSum) {
  AttentionCase c{"sum", DType::kFloat32, 37, 16, 0, 80, 70, 6, 2, 16, 16, RaggedChunks()};
  c.reading = {.exact = true, .turned = false, .per_head = true};
  AttentionWorld world(c, c.chunks, StreamNumbers(c.chunks.size()));
  ThreadPool pool(1);
  ASSERT_TRUE(StreamAttentionCpu(world.Args(), pool).ok());
  KeyWeightsArgs args = KeyWeightsArgsOf({c, /*num_queries=*/1}, world);
  const int64_t columns = KeyColumns(args.attention.shape);
  std::vector<float> out(args.attention.batch.num_segments * c.kv_heads * columns);
  args.out = out.data();
  ASSERT_TRUE(KeyWeightsCpu(args, pool).ok());
  for (size_t first = 0; first < out.size(); first += columns) {
    double sum = 0;
    for (int64_t i = 0; i < columns; ++i) sum += out[first + i];
    ASSERT_NEAR(sum, 1, 0x1p-18) << first / columns;
  }
}

TEST(KeyWeightsTest, ByHand) {
  // One kv head of two query heads and two dimensions. Two tokens begin a segment at 0, with keys
  // (1, 0) and (0, 0). Queries (sqrt(2) ln a, 0): the heads have a = 1 and 3 at both tokens. The
  // first token sees itself alone: weight 1 in both heads. The second sees both: 1/2 and 1/2 in
  // head 0, 3/4 and 1/4 in head 1. Means over heads, summed over queries: 1 + 5/8 and 3/8.
  const StreamShape shape{.window_rows = 2,
                          .segment_rows = 2,
                          .sink_rows = 0,
                          .capacity = 0,
                          .max_selected = 0,
                          .memory_span = 0,
                          .ring_rows = 4};
  std::vector<std::byte> state(4 * 2 * 2 * 4);
  BatchBuilder builder(shape);
  builder.Add({.first_position = 0, .segment_rows = {2}}, state.data());
  const float ln3 = std::sqrt(2.0f) * std::log(3.0f);
  const std::vector<float> q = {0, 0, ln3, 0, 0, 0, ln3, 0}, k = {1, 0, 0, 0}, v(4);
  std::vector<float> attended(8), lse(4), out(4);
  KeyWeightsArgs args{};
  StreamAttentionArgs& a = args.attention;
  a.batch = builder.Batch();
  a.shape = shape;
  a.element = DType::kFloat32;
  a.num_heads = 2;
  a.num_kv_heads = 1;
  a.head_dim = 2;
  a.q = q.data();
  a.k = k.data();
  a.v = v.data();
  a.ring_v_offset = 4 * 2 * 4;
  a.out = attended.data();
  a.lse = lse.data();
  ThreadPool pool(1);
  ASSERT_TRUE(StreamAttentionCpu(a, pool).ok());
  EXPECT_NEAR(lse[0], 0, 1e-6);            // 1
  EXPECT_NEAR(lse[1], std::log(3), 1e-6);  // 3
  EXPECT_NEAR(lse[2], std::log(2), 1e-6);  // 1 + 1
  EXPECT_NEAR(lse[3], std::log(4), 1e-6);  // 3 + 1
  args.num_queries = 2;
  args.out = out.data();
  ASSERT_TRUE(KeyWeightsCpu(args, pool).ok());
  EXPECT_NEAR(out[0], 1.625, 1e-5);
  EXPECT_NEAR(out[1], 0.375, 1e-5);
  EXPECT_EQ(out[2], 0);  // no token there yet
  EXPECT_EQ(out[3], 0);
  args.num_queries = 1;
  args.sum_heads = true;
  args.accumulate = true;
  ASSERT_TRUE(KeyWeightsCpu(args, pool).ok());
  EXPECT_NEAR(out[0], 1.625 + 1.25, 1e-5);
  EXPECT_NEAR(out[1], 0.375 + 0.75, 1e-5);
}

TEST(KeyWeightsTest, ArgumentErrors) {
  AttentionCase c{"errors", DType::kFloat32,
                  37,       16,
                  4,        50,
                  20,       6,
                  2,        16,
                  16,       {{.first_position = 100, .segment_rows = {16}, .leave_begin = 60}}};
  c.reading = {.exact = true, .turned = false};
  AttentionWorld world(c, c.chunks, {0});
  ThreadPool pool(1);
  std::vector<float> out(2 * KeyColumns(world.Args().shape));
  const std::vector<float> up(16 * 16 * 2);
  const auto message = [&](auto change) {
    KeyWeightsArgs args = KeyWeightsArgsOf({c, /*num_queries=*/4}, world);
    args.out = out.data();
    change(args);
    const absl::Status status = KeyWeightsCpu(args, pool);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  using Args = KeyWeightsArgs;
  EXPECT_EQ(message([](Args& a) { a.num_queries = 0; }), "KeyWeights: num_queries=0");
  EXPECT_EQ(message([](Args& a) { a.num_queries = 65; }), "KeyWeights: num_queries=65");
  EXPECT_EQ(message([](Args& a) { a.query_ring_rows = 3; }), "KeyWeights: query_ring_rows=3");
  EXPECT_EQ(message([](Args& a) { a.attention.lse = nullptr; }), "KeyWeights: attention.lse=null");
  EXPECT_EQ(message([](Args& a) { a.out = nullptr; }), "KeyWeights: out=null");
  EXPECT_EQ(message([](Args& a) { a.attention.head_dim = 15; }), "StreamAttention: head_dim=15");
  EXPECT_EQ(message([&](Args& a) { a.attention.key_up = a.attention.value_up = up.data(); }),
            "KeyWeights: attention with key_up");
  EXPECT_EQ(message([&](Args& a) { a.attention.memory_rotation = up.data(); }),
            "KeyWeights: attention with memory_rotation");
  EXPECT_EQ(message([&](Args& a) { a.attention.fused_weight = up.data(); }),
            "KeyWeights: attention with fused_weight");
  EXPECT_EQ(message([](Args& a) { a.attention.entry_type = EntryType::kInt8; }),
            "KeyWeights: attention with entry_type=int8");
  EXPECT_EQ(message([](Args& a) { a.attention.selected.count[0] = 21; }),
            "KeyWeights: selected.count[0]=21");
}

}  // namespace
}  // namespace rasq
