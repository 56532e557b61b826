#include "kernels/stream_attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <ostream>
#include <random>
#include <vector>

#include "tests/support/attention_world.h"
#include "tests/support/stream_batches.h"
#include "tests/support/tensors.h"

namespace rasq {
namespace {

class StreamAttentionShapeTest : public ::testing::TestWithParam<AttentionCase> {};

TEST_P(StreamAttentionShapeTest, MatchesDouble) {
  const AttentionCase& c = GetParam();
  AttentionWorld world(c, c.chunks, StreamNumbers(c.chunks.size()));
  ThreadPool pool(2);
  const absl::Status status = StreamAttentionCpu(world.Args(), pool);
  ASSERT_TRUE(status.ok()) << status;
  // Values are below 1 and an output is their mean, so an error d of the logits moves it by 2d at
  // most. float32: logits below 16 from sums of 64 products, d < 64 * 2^-20 * 16 / 8. bfloat16:
  // moving a query into the memory's frame and its map each round at 2^-9, as do the two up maps
  // and the weights; memory logits are below 2, so d < 3 * 2^-8, and the store adds 2^-9. A
  // logarithm of a sum of exponentials moves by d at most.
  const float tolerance = c.type == DType::kBfloat16 ? 0x1p-5f : 0x1p-13f;
  // Clusters are chosen by logits with errors d.
  ExpectOutputs(world, c, world.out(), world.lse(), tolerance, /*margin=*/tolerance);
}

TEST_P(StreamAttentionShapeTest, DoesNotDependOnOtherStreamsOrSegments) {
  const AttentionCase& c = GetParam();
  AttentionWorld all(c, c.chunks, StreamNumbers(c.chunks.size()), /*select_staged=*/false);
  ThreadPool pool(2);
  ASSERT_TRUE(StreamAttentionCpu(all.Args(), pool).ok());
  const int64_t row_bytes = int64_t{c.heads} * c.head_dim * SizeOf(c.type);
  for (int32_t s = 0; s < all.batch().num_segments; ++s) {
    const StreamSegment& segment = all.batch().segments[s];
    const StreamChunk& chunk = all.batch().chunks[segment.chunk];
    const int64_t first = chunk.first_position + segment.first_row - chunk.first_row;
    const ChunkSpec alone{.first_position = first,
                          .segment_rows = {segment.num_rows},
                          .first_start = segment.begins != 0 ? -1 : segment.start,
                          .leave_begin = std::max<int64_t>(0, segment.start - c.window)};
    AttentionWorld one(c, {alone}, {segment.chunk}, /*select_staged=*/false);
    ASSERT_TRUE(StreamAttentionCpu(one.Args(), pool).ok());
    EXPECT_EQ(std::memcmp(one.out().bytes().data(),
                          all.out().bytes().data() + segment.first_row * row_bytes,
                          segment.num_rows * row_bytes),
              0)
        << "segment " << s;
  }
}

std::vector<AttentionCase> Cases() {
  std::vector<AttentionCase> cases;
  for (const DType type : {DType::kFloat32, DType::kBfloat16}) {
    cases.push_back({"gqa3", type, 37, 16, 4, 50, 20, 6, 2, 16, 8, RaggedChunks()});
    cases.push_back({"mha_odd_dims", type, 40, 16, 1, 3, 3, 3, 3, 10, 7, RaggedChunks()});
    cases.push_back({"no_memory", type, 37, 16, 4, 0, 0, 4, 1, 8, 0, RaggedChunks()});
    cases.push_back({"no_sinks", type, 37, 16, 0, 80, 70, 2, 1, 32, 32, RaggedChunks()});
    cases.push_back({"clusters", type, 37, 16, 4, 80, 70, 6, 2, 16, 8, RaggedChunks(), 9, 3, 12});
    cases.push_back(
        {"most_clusters", type, 37, 16, 0, 80, 70, 3, 1, 10, 7, RaggedChunks(), 64, 17, 0});
    cases.push_back(
        {"one_cluster_read", type, 37, 16, 2, 30, 20, 2, 2, 8, 8, RaggedChunks(), 5, 1});
    cases.push_back({"no_window",
                     type,
                     0,
                     16,
                     2,
                     9,
                     4,
                     2,
                     2,
                     8,
                     4,
                     {{.first_position = 50, .segment_rows = {16, 3}, .leave_begin = 40}}});
    cases.push_back({"shipped",
                     type,
                     448,
                     64,
                     4,
                     1024,
                     128,
                     6,
                     2,
                     64,
                     32,
                     {{.first_position = 5000, .segment_rows = {64, 64, 10}, .leave_begin = 4500},
                      {.first_position = 300, .segment_rows = {1}, .first_start = 256}}});
    // Exact entries: as they are, turned, in clusters, a list for each kv head, and in blocks of
    // which the last is short; many entries, for more than one part of the tile's columns.
    const AttentionCase exact{"exact", type, 37, 16, 4, 80, 70, 6, 2, 16, 16, RaggedChunks()};
    const AttentionCase odd{"odd_dims", type, 40, 16, 1, 3, 3, 3, 3, 10, 10, RaggedChunks()};
    const AttentionCase many{"many", type, 37, 16, 4, 900, 700, 4, 2, 16, 16, RaggedChunks()};
    cases.push_back(WithSummaries("summaries", cases[0], 4));
    cases.push_back(WithSummaries("summaries_odd_dims", cases[1], 2));
    cases.push_back(WithSummaries("summaries_many", cases[3], 32));
    AttentionCase clusters = exact;
    clusters.clusters = 9;
    clusters.read_clusters = 3;
    cases.push_back(Reading("exact_turned", exact, {.exact = true}));
    cases.push_back(Reading("exact_unturned", exact, {.exact = true, .turned = false}));
    cases.push_back(
        Reading("exact_bare", exact, {.exact = true, .turned = false, .weighed = false}));
    cases.push_back(Reading("unturned", cases[0], {.turned = false}));
    cases.push_back(Reading("bare", cases[0], {.weighed = false}));
    cases.push_back(Reading("exact_clusters", clusters, {.exact = true}));
    cases.push_back(Reading("exact_odd_dims", odd, {.exact = true, .per_head = true}));
    cases.push_back(Reading("per_head", exact, {.exact = true, .turned = false, .per_head = true}));
    cases.push_back(Reading("fused", exact, {.exact = true, .fused = true}));
    cases.push_back(Reading(
        "fused_many", many,
        {.exact = true, .turned = false, .weighed = false, .per_head = true, .fused = true}));
  }
  const size_t num_cases = cases.size();
  for (size_t i = 0; i < num_cases; ++i) {
    if (cases[i].capacity == 0 || cases[i].reading.per_head) continue;
    cases.push_back(cases[i]);
    cases.back().entry_type = EntryType::kInt8;
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Shapes, StreamAttentionShapeTest, ::testing::ValuesIn(Cases()));

// Reading every cluster is reading every entry; and reading few of them is not.
TEST(StreamAttentionTest, ReadingAllClustersIsReadingAllEntries) {
  for (const DType type : {DType::kFloat32, DType::kBfloat16}) {
    AttentionCase c{"clusters", type, 37, 16, 4, 700, 650, 6, 2, 16, 8, RaggedChunks()};
    const auto out_of = [](const AttentionCase& test) {
      AttentionWorld world(test, test.chunks, StreamNumbers(test.chunks.size()));
      ThreadPool pool(2);
      const absl::Status status = StreamAttentionCpu(world.Args(), pool);
      EXPECT_TRUE(status.ok()) << status;
      return world.out().ToFloats();
    };
    const std::vector<float> want = out_of(c);
    c.clusters = c.read_clusters = 33;
    const std::vector<float> got = out_of(c);
    c.read_clusters = 2;
    const std::vector<float> few = out_of(c);
    float difference = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      // The same numbers, summed in another order; outputs are below 1.
      ASSERT_NEAR(got[i], want[i], 4 * Rounding(type)) << i;
      difference = std::max(difference, std::abs(few[i] - want[i]));
    }
    EXPECT_GT(difference, 0.01f);
  }
}

TEST(StreamAttentionTest, ByHand) {
  // One head of two dimensions; no window, sinks or rotation to speak of. Two tokens begin a
  // segment at 0: the first sees itself alone. The second, q = (sqrt(2) ln 3, 0), sees keys (1, 0)
  // and (0, 0): logits ln 3 and 0, weights 3/4 and 1/4 of the values (4, 0) and (0, 8).
  for (const DType type : {DType::kFloat32, DType::kBfloat16}) {
    const StreamShape shape{.window_rows = 4,
                            .segment_rows = 4,
                            .sink_rows = 0,
                            .capacity = 0,
                            .max_selected = 0,
                            .memory_span = 0,
                            .ring_rows = 8};
    std::vector<std::byte> state(8 * 2 * 2 * 4);
    BatchBuilder builder(shape);
    builder.Add({.first_position = 0, .segment_rows = {2}}, state.data());
    const Elements q(type, {9, 9, std::sqrt(2.0f) * std::log(3.0f), 0});
    const Elements k(type, {1, 0, 0, 0}), v(type, {4, 0, 0, 8});
    Elements out(type, 4);
    ThreadPool pool(1);
    StreamAttentionArgs a{};
    a.batch = builder.Batch();
    a.shape = shape;
    a.element = type;
    a.num_heads = a.num_kv_heads = 1;
    a.head_dim = 2;
    a.q = q.data();
    a.k = k.data();
    a.v = v.data();
    a.ring_v_offset = 8 * 2 * SizeOf(type);
    a.out = out.data();
    ASSERT_TRUE(StreamAttentionCpu(a, pool).ok());
    EXPECT_EQ(out[0], 4);
    EXPECT_EQ(out[1], 0);
    EXPECT_NEAR(out[2], 3, 16 * Rounding(type));
    EXPECT_NEAR(out[3], 2, 16 * Rounding(type));
  }
}

TEST(StreamAttentionTest, ArgumentErrors) {
  const AttentionCase c{
      "errors", DType::kFloat32,
      37,       16,
      4,        50,
      20,       6,
      2,        16,
      8,        {{.first_position = 100, .segment_rows = {16}, .leave_begin = 60}}};
  AttentionWorld world(c, c.chunks, {0});
  ThreadPool pool(1);
  const auto message = [&](auto change) {
    StreamAttentionArgs args = world.Args();
    change(args);
    const absl::Status status = StreamAttentionCpu(args, pool);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  using Args = StreamAttentionArgs;
  EXPECT_EQ(message([](Args& a) { a.num_heads = 5; }), "StreamAttention: num_heads=5");
  EXPECT_EQ(message([](Args& a) { a.head_dim = 15; }), "StreamAttention: head_dim=15");
  EXPECT_EQ(message([](Args& a) { a.compressed_dim = 17; }), "StreamAttention: compressed_dim=17");
  EXPECT_EQ(message([](Args& a) { a.key_up = nullptr; }), "StreamAttention: key_up=null");
  EXPECT_EQ(message([](Args& a) { a.key_up = a.value_up = nullptr; }),
            "StreamAttention: compressed_dim=8");
  EXPECT_EQ(message([](Args& a) { a.entries_per_head = true; }),
            "StreamAttention: entries_per_head with key_up");
  EXPECT_EQ(message([](Args& a) { a.fused_weight = a.score_weight; }),
            "StreamAttention: fused_weight with key_up");
  EXPECT_EQ(message([](Args& a) { a.num_summaries = 21; }), "StreamAttention: num_summaries=21");
  EXPECT_EQ(message([](Args& a) {
              a.num_summaries = 2;
              a.selected.count[0] = 1;
            }),
            "StreamAttention: selected.count[0]=1");
  EXPECT_EQ(message([](Args& a) { a.shape.ring_rows = 50; }), "StreamAttention: ring_rows=50");
  EXPECT_EQ(message([](Args& a) { a.selected.count[0] = 21; }),
            "StreamAttention: selected.count[0]=21");
  EXPECT_EQ(message([](Args& a) {
              a.selected.count[0] = 1;
              a.selected.row[0] = 53 + 1000;
            }),
            "StreamAttention: segment 0: selected.row[0]=1053");
}

TEST(StreamAttentionTest, ArgumentErrorsOfLists) {
  AttentionCase c{"errors", DType::kFloat32,
                  37,       16,
                  4,        50,
                  20,       6,
                  2,        16,
                  16,       {{.first_position = 100, .segment_rows = {16}, .leave_begin = 60}}};
  c.reading = {.exact = true, .per_head = true};
  AttentionWorld world(c, c.chunks, {0});
  ThreadPool pool(1);
  const auto message = [&](auto change) {
    StreamAttentionArgs args = world.Args();
    change(args);
    const absl::Status status = StreamAttentionCpu(args, pool);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  using Args = StreamAttentionArgs;
  EXPECT_EQ(message([](Args& a) { a.entry_type = EntryType::kInt8; }),
            "StreamAttention: entries_per_head with entry_type=int8");
  EXPECT_EQ(message([](Args& a) { a.clusters.segments = a.batch.chunks[0].state; }),
            "StreamAttention: entries_per_head with clusters");
  EXPECT_EQ(message([](Args& a) { a.num_summaries = 1; }),
            "StreamAttention: num_summaries=1 with exact entries");
  EXPECT_EQ(message([](Args& a) { a.selected.count[1] = -1; }),
            "StreamAttention: selected.count[1]=-1");
  EXPECT_EQ(message([](Args& a) {
              a.selected.count[1] = 2;
              a.selected.row[20] = 0;
              a.selected.row[21] = -1;
            }),
            "StreamAttention: segment 0: selected.row[21]=-1");
}

TEST(StreamAttentionTest, ArgumentErrorsOfClusters) {
  const AttentionCase c{
      "errors", DType::kFloat32,
      37,       16,
      4,        50,
      20,       6,
      2,        16,
      8,        {{.first_position = 100, .segment_rows = {16}, .leave_begin = 60}},
      4,        2};
  AttentionWorld world(c, c.chunks, {0});
  ThreadPool pool(1);
  const auto message = [&](auto change) {
    StreamAttentionArgs args = world.Args();
    change(args);
    const absl::Status status = StreamAttentionCpu(args, pool);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  using Args = StreamAttentionArgs;
  EXPECT_EQ(message([](Args& a) { a.num_summaries = 1; }),
            "StreamAttention: num_summaries=1 with clusters");
  EXPECT_EQ(message([](Args& a) { a.clusters.num_clusters = 65; }),
            "StreamAttention: clusters.num_clusters=65");
  EXPECT_EQ(message([](Args& a) { a.clusters.read_clusters = 0; }),
            "StreamAttention: clusters.read_clusters=0");
  EXPECT_EQ(message([](Args& a) { a.clusters.min_entries = -1; }),
            "StreamAttention: clusters.min_entries=-1");
  EXPECT_EQ(message([](Args& a) { a.clusters.segments[a.clusters.layout.cluster] = std::byte{4}; }),
            "StreamAttention: segment 0: cluster[0]=4");
}

}  // namespace
}  // namespace rasq
