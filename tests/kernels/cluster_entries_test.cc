#include "kernels/cluster_entries.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "tests/support/cluster_world.h"
#include "tests/support/stream_batches.h"
#include "tests/support/tensors.h"

namespace rasq {
namespace {

TEST(ClusterEntriesTest, ByHand) {
  // One head of one dimension, two clusters of the entries with keys 0, 7, 4, 20. They start at
  // entries 0 and 2: 0 takes {0}, 4 takes {7, 4, 20}. Means 0 and 31/3: {0, 4} and {7, 20}. Means 2
  // and 13.5: {0, 7, 4} and {20}, whose means are the result.
  for (const DType type : {DType::kFloat32, DType::kBfloat16}) {
    ClusterWorld world(
        {.type = type,
         .capacity = 6,
         .max_selected = 5,
         .kv_heads = 1,
         .compressed = 1,
         .clusters = 2,
         .chunks = {{.first_position = 100, .segment_rows = {1}, .leave_begin = 60}}});
    const std::vector<float> keys = {4, 20, -99, 7, 0, -99}, values = {3, 5, 0, 9, 6, 0};
    world.SetEntries(0, keys, values);
    world.SetSelection(0, /*row=*/{4, 3, 0, 1}, /*score=*/{1, 2, 3, 4},
                       /*log_gate=*/{0, -3, -6, 8});
    ThreadPool pool(1);
    const absl::Status status = ClusterEntriesCpu(world.Args(), pool);
    ASSERT_TRUE(status.ok()) << status;
    const ClusterWorld::Clusters got = world.Of(0, 0);
    EXPECT_EQ(got.cluster, (std::vector<int>{0, 0, 0, 1}));
    EXPECT_EQ(got.count, (std::vector<int32_t>{3, 1}));
    EXPECT_NEAR(got.k[0], 11.0f / 3, 4 * Rounding(type));
    EXPECT_EQ(got.k[1], 20);
    EXPECT_EQ(got.v[0], 6);
    EXPECT_EQ(got.v[1], 5);
    EXPECT_EQ(got.score, (std::vector<float>{2, 4}));
    EXPECT_EQ(got.log_gate, (std::vector<float>{-3, 8}));
    EXPECT_EQ(got.age, (std::vector<float>{2, 0}));
  }
}

TEST(ClusterEntriesTest, EqualKeysShareTheFirstCluster) {
  ClusterWorld world({.type = DType::kFloat32,
                      .capacity = 6,
                      .max_selected = 6,
                      .kv_heads = 1,
                      .compressed = 2,
                      .clusters = 3,
                      .chunks = {{.first_position = 100, .segment_rows = {1}, .leave_begin = 60}}});
  world.SetEntries(0, std::vector<float>(12, 1.5f), std::vector<float>(12, 2.5f));
  world.SetSelection(0, {0, 1, 2, 3}, {1, 1, 1, 1}, {1, 1, 1, 1});
  ThreadPool pool(1);
  ASSERT_TRUE(ClusterEntriesCpu(world.Args(), pool).ok());
  const ClusterWorld::Clusters got = world.Of(0, 0);
  EXPECT_EQ(got.cluster, (std::vector<int>{0, 0, 0, 0}));
  EXPECT_EQ(got.count, (std::vector<int32_t>{4, 0, 0}));
  EXPECT_EQ(got.k, (std::vector<float>{1.5f, 1.5f, 0, 0, 0, 0}));
  EXPECT_EQ(got.v, (std::vector<float>{2.5f, 2.5f, 0, 0, 0, 0}));
  EXPECT_EQ(got.age, (std::vector<float>{1.5f, 0, 0}));
}

// More clusters than entries, staged entries, several streams and heads: the parts' sizes add up,
// means are those of their entries, and each entry is in the nearest cluster of the round before.
TEST(ClusterEntriesTest, MeansAreOfTheirEntries) {
  for (const auto& [type, entry_type] : {std::pair(DType::kFloat32, EntryType::kElement),
                                         std::pair(DType::kBfloat16, EntryType::kElement),
                                         std::pair(DType::kFloat32, EntryType::kInt8),
                                         std::pair(DType::kBfloat16, EntryType::kInt8)}) {
    for (const int32_t clusters : {1, 7, 64}) {
      ClusterWorld world({.type = type,
                          .capacity = 90,
                          .max_selected = 70,
                          .kv_heads = 3,
                          .compressed = 13,
                          .clusters = clusters,
                          .min_entries = 10,
                          .chunks = ClusterWorld::RaggedChunks(),
                          .entry_type = entry_type});
      ThreadPool pool(2);
      const absl::Status status = ClusterEntriesCpu(world.Args(), pool);
      ASSERT_TRUE(status.ok()) << status;
      for (int32_t s = 0; s < world.batch().num_segments; ++s) {
        for (int32_t h = 0; h < 3; ++h) {
          SCOPED_TRACE(::testing::Message()
                       << clusters << " clusters, segment " << s << " head " << h << " "
                       << Name(type) << " entries in " << Name(entry_type, type));
          if (!world.HasClusters(s)) {
            EXPECT_TRUE(world.IsUntouched(s)) << "segment without clusters of its own";
            continue;
          }
          world.ExpectMeans(s, h);
          if (::testing::Test::HasFailure()) return;
        }
      }
    }
  }
}

TEST(ClusterEntriesTest, DoesNotDependOnOtherStreams) {
  const auto bytes_of = [](const std::vector<ChunkSpec>& chunks, int32_t segment, int first) {
    ClusterWorld world({.type = DType::kFloat32,
                        .capacity = 90,
                        .max_selected = 70,
                        .kv_heads = 2,
                        .compressed = 8,
                        .clusters = 9,
                        .min_entries = 10,
                        .first_stream = first,
                        .chunks = chunks});
    ThreadPool pool(2);
    EXPECT_TRUE(ClusterEntriesCpu(world.Args(), pool).ok());
    EXPECT_TRUE(world.HasClusters(segment));
    return std::pair(world.Of(segment, 1).k, world.Of(segment, 1).cluster);
  };
  const std::vector<ChunkSpec> all = ClusterWorld::RaggedChunks();
  EXPECT_EQ(bytes_of(all, 0, 0), bytes_of({all[0]}, 0, 0));
  EXPECT_EQ(bytes_of(all, 3, 0), bytes_of({all[1]}, 2, 1));
}

TEST(KeepClustersTest, TheLastSegmentsGoToTheState) {
  ClusterWorld world({.type = DType::kFloat32,
                      .capacity = 90,
                      .max_selected = 70,
                      .kv_heads = 2,
                      .compressed = 8,
                      .clusters = 9,
                      .chunks = ClusterWorld::RaggedChunks()});
  ThreadPool pool(2);
  ASSERT_TRUE(ClusterEntriesCpu(world.Args(), pool).ok());
  const auto before = world.states();
  const absl::Status status = KeepClustersCpu(world.KeepArgs(), pool);
  ASSERT_TRUE(status.ok()) << status;
  const int64_t bytes = world.segment_bytes();
  for (int32_t i = 0; i < world.batch().num_chunks; ++i) {
    const StreamChunk& c = world.batch().chunks[i];
    const int32_t last = c.first_segment + c.num_segments - 1;
    std::vector<std::byte> want = before[i];
    if (world.batch().segments[last].begins != 0) {
      std::memcpy(want.data() + world.Args().clusters.state_offset,
                  world.Args().clusters.segments + last * bytes, bytes);
    }
    EXPECT_EQ(world.states()[i], want) << "chunk " << i;
  }
}

TEST(ClusterEntriesTest, ArgumentErrors) {
  ClusterWorld world({.type = DType::kFloat32,
                      .capacity = 20,
                      .max_selected = 10,
                      .kv_heads = 2,
                      .compressed = 8,
                      .clusters = 9,
                      .chunks = {{.first_position = 100, .segment_rows = {1}, .leave_begin = 60}}});
  ThreadPool pool(1);
  const auto message = [&](auto change) {
    ClusterEntriesArgs args = world.Args();
    change(args);
    const absl::Status status = ClusterEntriesCpu(args, pool);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  using Args = ClusterEntriesArgs;
  EXPECT_EQ(message([](Args& a) { a.clusters.num_clusters = 0; }),
            "ClusterEntries: clusters.num_clusters=0");
  EXPECT_EQ(message([](Args& a) { a.clusters.segments = nullptr; }),
            "ClusterEntries: clusters.segments=null");
  EXPECT_EQ(message([](Args& a) { a.rounds = -1; }), "ClusterEntries: rounds=-1");
  EXPECT_EQ(message([](Args& a) { a.compressed_dim = 0; }), "ClusterEntries: compressed_dim=0");
  EXPECT_EQ(message([](Args& a) { a.selected.row[0] = 20; }),
            "ClusterEntries: segment 0: selected.row[0]=20");
}

}  // namespace
}  // namespace rasq
