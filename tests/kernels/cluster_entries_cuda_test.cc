// Clusters on the GPU against the CPU's: the same to the last bit.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "kernels/cluster_entries.h"
#include "tests/support/cluster_world.h"
#include "tests/support/gpu_batches.h"
#include "tests/support/gpu_twin.h"

namespace rasq::testing {
namespace {

struct Case {
  int32_t max_selected, compressed, clusters, kv_heads = 2, rounds = 2, min_entries = 13;
  EntryType entry_type = EntryType::kElement;
};

ClusterCase WorldOf(const Case& test) {
  return {.type = DType::kBfloat16,
          .capacity = test.max_selected + 30,
          .max_selected = test.max_selected,
          .kv_heads = test.kv_heads,
          .compressed = test.compressed,
          .clusters = test.clusters,
          .min_entries = test.min_entries,
          .chunks = ClusterWorld::RaggedChunks(),
          .entry_type = test.entry_type};
}

class ClusterEntriesCudaTest : public ::testing::Test {
 protected:
  void SetUp() override { RASQ_NEEDS_GPU(); }

  // Clusters, and then what of them is kept, on both backends.
  static void ExpectTwins(const Case& test) {
    SCOPED_TRACE(::testing::Message()
                 << test.max_selected << " entries of " << test.compressed << ", " << test.clusters
                 << " clusters, " << test.rounds << " rounds, entries in "
                 << Name(test.entry_type, DType::kBfloat16));
    ClusterWorld world(WorldOf(test));
    Arrays arrays(*Gpu());
    const GpuBatch gpu(arrays, world.builder(), world.states());
    ClusterEntriesArgs args = world.Args();
    args.rounds = test.rounds;
    ClusterEntriesArgs gpu_args = args;
    gpu_args.batch = gpu.batch;
    gpu_args.selected = {.count = arrays.Put(world.count()),
                         .row = arrays.Put(world.selected_row()),
                         .score = arrays.Put(world.score()),
                         .log_gate = arrays.Put(world.log_gate()),
                         .position = nullptr};
    gpu_args.staged_k = arrays.Put(world.staged_k());
    gpu_args.staged_v = arrays.Put(world.staged_v());
    DeviceArray& out = arrays.Poisoned(gpu.batch.num_segments * world.segment_bytes());
    gpu_args.clusters.segments = out.data<std::byte>();
    absl::Status status = Gpu()->ClusterEntries(gpu_args);
    ASSERT_TRUE(status.ok()) << status;
    ThreadPool pool(2);
    ASSERT_TRUE(ClusterEntriesCpu(args, pool).ok());
    std::vector<std::byte> want = world.out();
    want.resize(out.bytes(), std::byte{0xff});  // padding's
    const std::vector<std::byte> got = out.ToHost();
    for (size_t i = 0; i < want.size(); ++i) {
      ASSERT_EQ(static_cast<int>(got[i]), static_cast<int>(want[i]))
          << "byte " << i % world.layout().head_bytes << " of segment "
          << i / world.segment_bytes();
    }

    status = Gpu()->KeepClusters(
        {.batch = gpu.batch, .num_kv_heads = test.kv_heads, .clusters = gpu_args.clusters});
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_TRUE(KeepClustersCpu(world.KeepArgs(), pool).ok());
    for (size_t i = 0; i < gpu.states.size(); ++i) {
      ASSERT_EQ(gpu.states[i]->ToHost(), world.states()[i]) << "chunk " << i;
    }
  }
};

TEST_F(ClusterEntriesCudaTest, WidthsAndNumbers) {
  for (const int32_t compressed : {8, 32, 40, 64, 128}) {
    for (const int32_t clusters : {1, 7, 32, 64}) {
      for (const int32_t max_selected : {20, 70, 300}) {
        ExpectTwins({.max_selected = max_selected, .compressed = compressed, .clusters = clusters});
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(ClusterEntriesCudaTest, Rounds) {
  for (const int32_t rounds : {0, 1, 5}) {
    ExpectTwins({.max_selected = 200, .compressed = 32, .clusters = 17, .rounds = rounds});
    if (HasFatalFailure()) return;
  }
}

// Keys that do not fit shared memory, and the largest selection that there may be.
TEST_F(ClusterEntriesCudaTest, LargeSelections) {
  ExpectTwins({.max_selected = 1000, .compressed = 128, .clusters = 32});
  ExpectTwins({.max_selected = 16384, .compressed = 8, .clusters = 64, .kv_heads = 1});
  ExpectTwins({.max_selected = 16384, .compressed = 128, .clusters = 64, .kv_heads = 1});
}

// Keys in shared memory and keys that do not fit it.
TEST_F(ClusterEntriesCudaTest, Int8Entries) {
  for (const int32_t max_selected : {70, 300, 2000}) {
    for (const int32_t compressed : {8, 40, 128}) {
      ExpectTwins({.max_selected = max_selected,
                   .compressed = compressed,
                   .clusters = 17,
                   .entry_type = EntryType::kInt8});
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(ClusterEntriesCudaTest, ArgumentErrors) {
  ClusterWorld world(WorldOf({.max_selected = 20, .compressed = 8, .clusters = 4}));
  ClusterEntriesArgs args = world.Args();
  args.compressed_dim = 12;
  EXPECT_EQ(Gpu()->ClusterEntries(args).message(), "ClusterEntries: compressed_dim=12");
  args.compressed_dim = 8;
  args.shape.max_selected = 16385;
  EXPECT_EQ(Gpu()->ClusterEntries(args).message(), "ClusterEntries: max_selected=16385");
  args.element = DType::kFloat32;
  EXPECT_EQ(Gpu()->ClusterEntries(args).code(), absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace rasq::testing
