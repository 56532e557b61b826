// Summaries on the GPU, against the same numbers in double as the CPU's.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/summarize_entries.h"
#include "tests/support/gpu_twin.h"
#include "tests/support/summary_reference.h"
#include "tests/support/summary_world.h"

namespace rasq::testing {
namespace {

class SummarizeEntriesCudaTest : public ::testing::Test {
 protected:
  void SetUp() override { RASQ_NEEDS_GPU(); }

  static SummaryCase Case(EntryType entry_type, int32_t compressed) {
    return {.type = DType::kBfloat16,
            .entry_type = entry_type,
            .capacity = 23,
            .kv_heads = 3,
            .compressed = compressed,
            .summaries = 4,
            .decay = 0.9f};
  }
  static std::vector<std::vector<int32_t>> Streams() {
    return {RandomSegments(1, 40), RandomSegments(2, 25), RandomSegments(3, 60),
            std::vector<int32_t>(30, 16)};
  }
};

TEST_F(SummarizeEntriesCudaTest, MatchesDouble) {
  for (const EntryType entry_type : {EntryType::kElement, EntryType::kInt8}) {
    for (const int32_t compressed : {1, 8, 40, 64, 128, 256}) {
      SCOPED_TRACE(::testing::Message()
                   << Name(entry_type, DType::kBfloat16) << " of " << compressed);
      ExpectDouble(*Gpu(), Case(entry_type, compressed), /*padded=*/true, Streams(), compressed);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(SummarizeEntriesCudaTest, LongSegments) {
  SummaryCase c = Case(EntryType::kElement, 32);
  c.segment = 300;
  ExpectDouble(*Gpu(), c, /*padded=*/true, {RandomSegments(1, 20, 300), RandomSegments(2, 30, 300)},
               /*seed=*/3);
}

TEST_F(SummarizeEntriesCudaTest, Extremes) {
  for (const float decay : {0.0f, 0.999f}) {
    SummaryCase c = Case(EntryType::kElement, 32);
    c.decay = decay;
    c.summaries = decay == 0 ? 1 : 32;
    c.capacity = decay == 0 ? 1 : 700;
    std::vector<std::vector<int32_t>> streams = Streams();
    streams.push_back(std::vector<int32_t>(80, 16));
    ExpectDouble(*Gpu(), c, /*padded=*/true, streams, /*seed=*/2);
  }
}

TEST_F(SummarizeEntriesCudaTest, CutsDoNotMatter) {
  const SummaryCase c = Case(EntryType::kInt8, 64);
  const std::vector<int32_t> lengths = RandomSegments(5, 40);
  std::vector<std::vector<float>> slots;
  for (const int32_t rows : {1000, 1, 7, 100}) {
    SummaryWorld world(*Gpu(), c, /*num_streams=*/1, /*padded=*/true);
    for (const SummaryPart& part : CutSegments(0, lengths, [&] { return rows; })) {
      world.Run({part});
    }
    slots.push_back(world.Slots(0, /*key=*/true));
    slots.back().push_back(world.Mass(0));
  }
  for (size_t i = 1; i < slots.size(); ++i) EXPECT_EQ(slots[i], slots[0]) << i;
}

TEST_F(SummarizeEntriesCudaTest, ArgumentErrors) {
  SummarizeEntriesArgs args{};
  args.shape = Case(EntryType::kElement, 8).shape();
  args.element = DType::kBfloat16;
  args.num_kv_heads = args.num_summaries = 1;
  args.compressed_dim = 257;
  EXPECT_EQ(Gpu()->SummarizeEntries(args).message(), "SummarizeEntries: compressed_dim=257");
  args.element = DType::kFloat32;
  EXPECT_EQ(Gpu()->SummarizeEntries(args).code(), absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace rasq::testing
