#include <gtest/gtest.h>

#include <ostream>
#include <vector>

#include "kernels/copy_rows.h"
#include "tests/support/gpu_batches.h"

namespace rasq {
namespace {

using testing::Arrays;
using testing::DeviceArray;
using testing::Gpu;
using testing::GpuBatch;

constexpr StreamShape kShape = {.window_rows = 40,
                                .segment_rows = 16,
                                .sink_rows = 2,
                                .capacity = 30,
                                .max_selected = 2,
                                .memory_span = 2,
                                .ring_rows = 56};

struct CopyCase {
  int64_t row_bytes;
  int misaligned;  // bytes that states lie off their alignment
};
void PrintTo(const CopyCase& c, std::ostream* out) {
  *out << c.row_bytes << " bytes, off by " << c.misaligned;
}

std::vector<std::byte> RandomBytes(int64_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> bytes(n);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

class CopyRowsCudaTest : public ::testing::TestWithParam<CopyCase> {
 protected:
  // The GPU's states are what the CPU made of its own.
  void ExpectStates(const GpuBatch& on_gpu) const {
    for (size_t i = 0; i < states_.size(); ++i) {
      std::vector<std::byte> got = on_gpu.states[i]->ToHost();
      got.erase(got.begin(), got.begin() + GetParam().misaligned);
      ASSERT_EQ(got, states_[i]) << "chunk " << i;
    }
  }

  void SetUp() override {
    states_ = testing::RandomStates(/*num_chunks=*/4, kShape.ring_rows * GetParam().row_bytes + 48);
    // Longer than the ring; a young stream; one that goes on; rows from the ring alone.
    const std::vector<ChunkSpec> chunks = {
        {.first_position = 205,
         .segment_rows = {3, 16, 16, 16, 16, 7},
         .first_start = 200,
         .leave_begin = 160},
        {.first_position = 0, .segment_rows = {16, 2}},
        {.first_position = 1000007, .segment_rows = {1}, .first_start = 1000000},
        {.first_position = 1000000, .segment_rows = {5}, .leave_begin = 999950}};
    for (size_t i = 0; i < chunks.size(); ++i) builder_.Add(chunks[i], states_[i].data());
  }

  BatchBuilder builder_{kShape};
  testing::States states_;
};

TEST_P(CopyRowsCudaTest, MatchesCpu) {
  RASQ_NEEDS_GPU();
  const int64_t row_bytes = GetParam().row_bytes;
  const StreamBatch batch = builder_.Batch();
  const auto rows = RandomBytes((batch.num_rows + GpuBatch::kPadding) * row_bytes, 1);
  const int64_t staged_bytes = batch.num_staged * row_bytes;
  std::vector<std::byte> staged(staged_bytes);
  Arrays arrays(*Gpu());
  const GpuBatch on_gpu(arrays, builder_, states_, GetParam().misaligned);
  const std::byte* device_rows = arrays.Put(rows);
  DeviceArray& got_staged = arrays.Poisoned(staged_bytes + GpuBatch::kUnusedStaged * row_bytes);
  ThreadPool pool(1);

  StageRowsArgs stage{.batch = batch,
                      .shape = kShape,
                      .ring_offset = 16,
                      .chunk = rows.data(),
                      .staged = staged.data(),
                      .row_bytes = row_bytes};
  ASSERT_TRUE(StageRowsCpu(stage, pool).ok());
  stage.batch = on_gpu.batch;
  stage.chunk = device_rows;
  stage.staged = got_staged.data();
  ASSERT_TRUE(Gpu()->StageRows(stage).ok());
  std::vector<std::byte> want = staged;
  want.resize(got_staged.bytes(), std::byte{0xff});
  ASSERT_EQ(got_staged.ToHost(), want);
  ExpectStates(on_gpu);

  for (const int32_t ring_rows : {kShape.ring_rows, 7}) {
    WriteRingArgs write{.batch = batch,
                        .ring_offset = 32,
                        .ring_rows = ring_rows,
                        .chunk = rows.data(),
                        .row_bytes = row_bytes};
    ASSERT_TRUE(WriteRingCpu(write, pool).ok());
    write.batch = on_gpu.batch;
    write.chunk = device_rows;
    ASSERT_TRUE(Gpu()->WriteRing(write).ok());
    ExpectStates(on_gpu);
  }

  std::vector<int32_t> slot(batch.num_staged, -1);
  for (const StreamChunk& c : builder_.chunks()) {
    for (int64_t i = 0; i < c.leave_end - c.leave_begin && i / 2 < kShape.capacity; i += 2) {
      slot[c.first_staged + i] = static_cast<int32_t>(kShape.capacity - 1 - i / 2);
    }
  }
  CommitRowsArgs commit{.batch = batch,
                        .entries_offset = 48,
                        .staged = staged.data(),
                        .slot = slot.data(),
                        .row_bytes = row_bytes};
  ASSERT_TRUE(CommitRowsCpu(commit, pool).ok());
  commit.batch = on_gpu.batch;
  commit.staged = got_staged.data();
  slot.resize(on_gpu.batch.num_staged, 1);  // of staging rows that are not used: not to be read
  commit.slot = arrays.Put(slot);
  ASSERT_TRUE(Gpu()->CommitRows(commit).ok());
  ExpectStates(on_gpu);
}

INSTANTIATE_TEST_SUITE_P(Rows, CopyRowsCudaTest,
                         ::testing::Values(CopyCase{1, 0}, CopyCase{4, 0}, CopyCase{7, 0},
                                           CopyCase{8, 0}, CopyCase{12, 4}, CopyCase{16, 0},
                                           CopyCase{24, 0}, CopyCase{48, 8}, CopyCase{80, 1},
                                           CopyCase{256, 0}, CopyCase{2048, 0}, CopyCase{2050, 0}));

}  // namespace
}  // namespace rasq
