#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "kernels/stream_attention.h"
#include "tests/support/attention_world.h"
#include "tests/support/gpu_twin.h"

namespace rasq {
namespace {

using testing::Arrays;
using testing::Gpu;

constexpr DType kType = DType::kBfloat16;

struct GpuOutputs {
  Elements out;
  std::vector<float> lse;
};

// What the GPU makes of the world.
GpuOutputs OnGpu(AttentionWorld& world) {
  Arrays arrays(*Gpu());
  const AttentionWorld::OtherCall call = world.ArgsOn(arrays);
  const absl::Status status = Gpu()->StreamAttention(call.args);
  EXPECT_TRUE(status.ok()) << status;
  const std::vector<std::byte> bytes = call.out->ToHost();
  std::vector<float> values(bytes.size() / 2);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = Elements::Load(kType, bytes.data(), static_cast<int64_t>(i));
  }
  return {.out = Elements(kType, values), .lse = call.lse->ToHostAs<float>()};
}

class StreamAttentionCudaTest : public ::testing::TestWithParam<AttentionCase> {};

TEST_P(StreamAttentionCudaTest, MatchesDouble) {
  RASQ_NEEDS_GPU();
  const AttentionCase& c = GetParam();
  AttentionWorld world(c, c.chunks, StreamNumbers(c.chunks.size()));
  const GpuOutputs got = OnGpu(world);
  // As the CPU's test derives it: the same values are rounded to bfloat16 on the way.
  const float tolerance = 0x1p-5f;
  ExpectOutputs(world, c, got.out, got.lse, tolerance, /*margin=*/tolerance);
}

TEST_P(StreamAttentionCudaTest, DoesNotDependOnOtherStreamsOrSegments) {
  RASQ_NEEDS_GPU();
  const AttentionCase& c = GetParam();
  AttentionWorld all(c, c.chunks, StreamNumbers(c.chunks.size()), /*select_staged=*/false);
  const GpuOutputs whole = OnGpu(all);
  const int64_t row_bytes = int64_t{c.heads} * c.head_dim * SizeOf(kType);
  for (int32_t s = 0; s < all.batch().num_segments; ++s) {
    const StreamSegment& segment = all.batch().segments[s];
    const StreamChunk& chunk = all.batch().chunks[segment.chunk];
    const int64_t first = chunk.first_position + segment.first_row - chunk.first_row;
    const ChunkSpec alone{.first_position = first,
                          .segment_rows = {segment.num_rows},
                          .first_start = segment.begins != 0 ? -1 : segment.start,
                          .leave_begin = std::max<int64_t>(0, segment.start - c.window)};
    AttentionWorld one(c, {alone}, {segment.chunk}, /*select_staged=*/false);
    const GpuOutputs alone_outputs = OnGpu(one);
    EXPECT_EQ(std::memcmp(alone_outputs.out.bytes().data(),
                          whole.out.bytes().data() + segment.first_row * row_bytes,
                          segment.num_rows * row_bytes),
              0)
        << "segment " << s;
    EXPECT_EQ(std::memcmp(alone_outputs.lse.data(), whole.lse.data() + segment.first_row * c.heads,
                          segment.num_rows * c.heads * sizeof(float)),
              0)
        << "segment " << s;
  }
}

// Parts of few queries and of many, window and memory wider and narrower than a tile, every width
// of tile that the launcher chooses from, groups of 1 to 8 heads.
std::vector<AttentionCase> Cases() {
  const std::vector<ChunkSpec> ragged = RaggedChunks();
  std::vector<AttentionCase> cases = {
      {"gqa3", kType, 37, 16, 4, 50, 20, 6, 2, 16, 8, ragged},
      {"no_memory", kType, 37, 16, 4, 0, 0, 4, 1, 16, 0, ragged},
      {"no_sinks", kType, 37, 16, 0, 80, 70, 2, 1, 32, 32, ragged},
      {"odd_widths", kType, 37, 16, 3, 80, 70, 5, 1, 80, 40, ragged},
      {"wide_entries", kType, 37, 16, 3, 80, 70, 2, 2, 64, 64, ragged},
      {"widest", kType, 37, 16, 3, 80, 70, 2, 1, 128, 128, ragged},
      {"group8", kType, 37, 16, 3, 80, 70, 8, 1, 128, 64, ragged},
      {"long_segment",
       kType,
       128,
       100,
       2,
       300,
       200,
       4,
       2,
       64,
       32,
       {{.first_position = 1000, .segment_rows = {100, 70, 1}, .leave_begin = 800}}},
  };
  const std::vector<ChunkSpec> old = {
      {.first_position = 5000, .segment_rows = {64, 64, 10}, .leave_begin = 4500},
      {.first_position = 300, .segment_rows = {1}, .first_start = 256},
      {.first_position = 1000100, .segment_rows = {1}, .leave_begin = 999600},
      {.first_position = 777, .segment_rows = {2}, .first_start = 770, .leave_begin = 322}};
  cases.push_back({"shipped", kType, 448, 64, 4, 1024, 128, 6, 2, 64, 32, old});
  cases.push_back({"llama8b", kType, 448, 64, 4, 2048, 512, 8, 2, 128, 64, old});
  cases.push_back({"qwen7b", kType, 448, 64, 4, 2048, 512, 7, 1, 128, 64, old});
  // Clusters: a tile of entries and many, all widths, segments with too few entries to have any.
  cases.push_back({"clusters", kType, 37, 16, 4, 80, 70, 6, 2, 16, 8, ragged, 9, 3, 12});
  cases.push_back({"most_clusters", kType, 37, 16, 0, 500, 400, 2, 1, 80, 40, ragged, 64, 17, 0});
  cases.push_back({"clusters_of_few", kType, 37, 16, 2, 30, 20, 2, 2, 64, 64, ragged, 33, 1, 0});
  cases.push_back({"clusters_widest", kType, 37, 16, 3, 80, 70, 8, 1, 128, 128, ragged, 7, 2, 9});
  cases.push_back(
      {"clusters_shipped", kType, 448, 64, 4, 1024, 512, 6, 2, 64, 32, old, 32, 8, 128});
  cases.push_back({"clusters_8b", kType, 448, 64, 4, 2048, 1024, 8, 2, 128, 64, old, 32, 8, 128});
  cases.push_back({"clusters_7b", kType, 448, 64, 4, 2048, 2000, 7, 1, 128, 64, old, 32, 4, 128});
  cases.push_back(WithSummaries("summaries", cases[0], 4));
  cases.push_back(WithSummaries("summaries_many", cases[2], 32));
  cases.push_back(WithSummaries("summaries_8b", cases[9], 8));
  cases.push_back({"full",
                   kType,
                   4096,
                   64,
                   0,
                   0,
                   0,
                   4,
                   2,
                   64,
                   0,
                   {{.first_position = 3000, .segment_rows = {64, 1}},
                    {.first_position = 4000, .segment_rows = {1}, .first_start = 3990}}});
  // Exact entries: turned and not, of both tile widths and widths between, in clusters, in lists of
  // kv heads, and in fused blocks, few of them and more than a cluster has thread blocks.
  AttentionCase exact{"exact", kType, 37, 16, 4, 80, 70, 6, 2, 64, 64, ragged};
  cases.push_back(Reading("exact_turned", exact, {.exact = true}));
  cases.push_back(Reading("exact_bare", exact, {.exact = true, .turned = false, .weighed = false}));
  cases.push_back(Reading("per_head", exact, {.exact = true, .turned = false, .per_head = true}));
  cases.push_back(Reading("fused", exact, {.exact = true, .turned = false, .fused = true}));
  exact.clusters = 9;
  exact.read_clusters = 3;
  cases.push_back(Reading("exact_clusters", exact, {.exact = true}));
  AttentionCase wide{"wide", kType, 448, 64, 4, 2048, 1000, 8, 2, 128, 128, old};
  cases.push_back(Reading("exact_8b", wide, {.exact = true}));
  cases.push_back(Reading("per_head_8b", wide, {.exact = true, .turned = false, .per_head = true}));
  cases.push_back(Reading("fused_8b", wide, {.exact = true, .turned = false, .fused = true}));
  wide.head_dim = wide.compressed = 80;
  cases.push_back(
      Reading("fused_per_head", wide,
              {.exact = true, .turned = false, .weighed = false, .per_head = true, .fused = true}));
  wide.clusters = 32;
  wide.read_clusters = 8;
  cases.push_back(Reading("exact_clusters_80", wide, {.exact = true}));
  cases.push_back(Reading("unturned", cases[0], {.turned = false, .weighed = false}));
  const size_t num_cases = cases.size();
  for (size_t i = 0; i < num_cases; ++i) {
    if (cases[i].capacity == 0 || cases[i].reading.per_head) continue;
    cases.push_back(cases[i]);
    cases.back().entry_type = EntryType::kInt8;
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Shapes, StreamAttentionCudaTest, ::testing::ValuesIn(Cases()));

TEST(StreamAttentionCudaClustersTest, ReadingAllClustersIsReadingAllEntries) {
  RASQ_NEEDS_GPU();
  AttentionCase c{"clusters", kType, 37, 16, 4, 700, 650, 6, 2, 64, 32, RaggedChunks()};
  const auto out_of = [](const AttentionCase& test) {
    AttentionWorld world(test, test.chunks, StreamNumbers(test.chunks.size()));
    return OnGpu(world).out.ToFloats();
  };
  const std::vector<float> want = out_of(c);
  c.clusters = c.read_clusters = 33;
  const std::vector<float> got = out_of(c);
  ASSERT_EQ(got.size(), want.size());
  // Weights are rounded relative to maxima of their own, outputs are below 1.
  for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 0x1p-6f) << i;
}

TEST(StreamAttentionCudaErrorsTest, WidthsThatRowsCannotBeReadIn) {
  RASQ_NEEDS_GPU();
  AttentionCase c{"odd", kType, 37, 16, 1, 3,
                  3,     3,     3,  10, 7, {{.first_position = 0, .segment_rows = {2}}}};
  AttentionWorld world(c, c.chunks, {0});
  Arrays arrays(*Gpu());
  StreamAttentionArgs args = world.ArgsOn(arrays).args;
  EXPECT_EQ(Gpu()->StreamAttention(args).message(), "StreamAttention: head_dim=10");
  args.element = DType::kFloat32;
  EXPECT_EQ(Gpu()->StreamAttention(args).code(), absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace rasq
