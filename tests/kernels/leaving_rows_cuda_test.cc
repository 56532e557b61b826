// Sinks and compression on the GPU.
#include <gtest/gtest.h>

#include <cmath>
#include <ostream>
#include <vector>

#include "kernels/compress_entries.h"
#include "tests/support/entry_format.h"
#include "tests/support/gpu_batches.h"

namespace rasq {
namespace {

using testing::Arrays;
using testing::DeviceArray;
using testing::Gpu;
using testing::GpuBatch;

constexpr DType kType = DType::kBfloat16;
constexpr StreamShape kShape = {.window_rows = 90,
                                .segment_rows = 50,
                                .sink_rows = 20,
                                .capacity = 4,
                                .max_selected = 2,
                                .memory_span = 2,
                                .ring_rows = 140};

// The first sinks of one stream leave, the last ones of another, no sinks of the third.
const std::vector<ChunkSpec> kChunks = {
    {.first_position = 95, .segment_rows = {50, 3}, .leave_begin = 0},
    {.first_position = 200, .segment_rows = {50, 50, 10}, .leave_begin = 60},
    {.first_position = 3, .segment_rows = {2}, .first_start = 0},
    {.first_position = 102, .segment_rows = {40, 1}, .leave_begin = 7}};

struct World {
  World(int32_t num_heads, int32_t head_dim)
      : heads(num_heads), dim(head_dim), row_bytes(int64_t{heads} * dim * 2) {
    // Rings of keys and values, then sinks of both.
    for (size_t i = 0; i < kChunks.size(); ++i) {
      const Elements content(
          kType,
          RandomFloats(2 * (kShape.ring_rows + kShape.sink_rows) * int64_t{heads} * dim, 10 + i));
      states.push_back(content.bytes());
    }
    for (size_t i = 0; i < kChunks.size(); ++i) builder.Add(kChunks[i], states[i].data());
    batch = builder.Batch();
    k = Elements(kType, RandomFloats(batch.num_rows * int64_t{heads} * dim, 1));
    v = Elements(kType, RandomFloats(batch.num_rows * int64_t{heads} * dim, 2));
    rotation.resize(int64_t{batch.num_staged} * dim);
    for (size_t i = 0; i < rotation.size(); ++i) {
      const int64_t at = static_cast<int64_t>(i) % dim;
      const double angle =
          static_cast<double>(i / dim) * std::pow(0.3, static_cast<double>(at % (dim / 2)));
      rotation[i] = static_cast<float>(at < dim / 2 ? std::cos(angle) : std::sin(angle));
    }
  }

  const int32_t heads, dim;
  const int64_t row_bytes;
  BatchBuilder builder{kShape};
  StreamBatch batch;
  testing::States states;
  Elements k, v;
  std::vector<float> rotation;
};

TEST(KeepSinksCudaTest, MatchesCpu) {
  RASQ_NEEDS_GPU();
  for (const int32_t dim : {2, 10, 128}) {
    World w(/*num_heads=*/3, dim);
    KeepSinksArgs args{.batch = w.batch,
                       .shape = kShape,
                       .element = kType,
                       .num_kv_heads = w.heads,
                       .head_dim = dim,
                       .rotation = w.rotation.data(),
                       .ring_k_offset = 0,
                       .ring_v_offset = kShape.ring_rows * w.row_bytes,
                       .k = w.k.data(),
                       .v = w.v.data(),
                       .sink_k_offset = 2 * kShape.ring_rows * w.row_bytes,
                       .sink_v_offset = (2 * kShape.ring_rows + kShape.sink_rows) * w.row_bytes};
    Arrays arrays(*Gpu());
    const GpuBatch on_gpu(arrays, w.builder, w.states);
    ThreadPool pool(1);
    ASSERT_TRUE(KeepSinksCpu(args, pool).ok());
    args.batch = on_gpu.batch;
    args.rotation = arrays.Put(w.rotation);
    args.k = arrays.Put(w.k);
    args.v = arrays.Put(w.v);
    ASSERT_TRUE(Gpu()->KeepSinks(args).ok());
    for (size_t i = 0; i < w.states.size(); ++i) {
      std::vector<bfloat16> want(w.states[i].size() / 2);
      std::memcpy(want.data(), w.states[i].data(), w.states[i].size());
      // The two products of a rotation are below 1 and may cancel.
      testing::ExpectNear(on_gpu.states[i]->ToHostAs<bfloat16>(), want, 0x1p-7, 0x1p-22);
    }
  }
}

struct CompressCase {
  int32_t heads, dim, width;
  int misaligned;  // bytes that states lie off their alignment
};
void PrintTo(const CompressCase& c, std::ostream* out) {
  *out << c.heads << " heads of " << c.dim << " to " << c.width << " off by " << c.misaligned;
}

class CompressEntriesCudaTest : public ::testing::TestWithParam<CompressCase> {};

TEST_P(CompressEntriesCudaTest, MatchesCpu) {
  RASQ_NEEDS_GPU();
  const CompressCase c = GetParam();
  World w(c.heads, c.dim);
  const int64_t weights = int64_t{c.heads} * c.width * c.dim;
  const Elements key_down(kType, RandomFloats(weights, 91, 0.2f)),
      value_down(kType, RandomFloats(weights, 92, 0.2f));
  const int64_t entry = int64_t{c.heads} * c.width;
  Elements want_k(kType, w.batch.num_staged * entry), want_v = want_k;
  CompressEntriesArgs args{.batch = w.batch,
                           .shape = kShape,
                           .element = kType,
                           .num_kv_heads = c.heads,
                           .head_dim = c.dim,
                           .compressed_dim = c.width,
                           .rotation = w.rotation.data(),
                           .ring_k_offset = 0,
                           .ring_v_offset = kShape.ring_rows * w.row_bytes,
                           .k = w.k.data(),
                           .v = w.v.data(),
                           .key_down = key_down.data(),
                           .value_down = value_down.data(),
                           .staged_k = want_k.data(),
                           .staged_v = want_v.data()};
  ThreadPool pool(2);
  ASSERT_TRUE(CompressEntriesCpu(args, pool).ok());
  Arrays arrays(*Gpu());
  const GpuBatch on_gpu(arrays, w.builder, w.states, c.misaligned);
  args.batch = on_gpu.batch;
  args.rotation = arrays.Put(w.rotation);
  args.k = arrays.Put(w.k);
  args.v = arrays.Put(w.v);
  args.key_down = arrays.Put(key_down);
  args.value_down = arrays.Put(value_down);
  DeviceArray& got_k = arrays.Poisoned(on_gpu.batch.num_staged * entry * 2);
  DeviceArray& got_v = arrays.Poisoned(on_gpu.batch.num_staged * entry * 2);
  args.staged_k = got_k.data();
  args.staged_v = got_v.data();
  const absl::Status status = Gpu()->CompressEntries(args);
  ASSERT_TRUE(status.ok()) << status;
  // Terms are below 0.3, and their sums differ by the order alone. A processor without fused
  // operations may also round an un-rotated element the other way: by 2^-7 of a term, here and
  // there.
  const double absolute = c.dim * 0.3 * 0x1p-20 + 4 * 0.3 * 0x1p-7;
  testing::ExpectBfloat16Near(got_k, want_k, absolute);
  testing::ExpectBfloat16Near(got_v, want_v, c.dim * 0.3 * 0x1p-20);
}

INSTANTIATE_TEST_SUITE_P(Shapes, CompressEntriesCudaTest,
                         ::testing::Values(CompressCase{2, 8, 8, 0}, CompressCase{3, 40, 24, 0},
                                           CompressCase{8, 128, 64, 0},
                                           CompressCase{2, 128, 128, 0}, CompressCase{2, 64, 40, 2},
                                           CompressCase{1, 256, 256, 0},
                                           CompressCase{1, 200, 72, 0}));

TEST_P(CompressEntriesCudaTest, Int8MatchesCpu) {
  RASQ_NEEDS_GPU();
  const CompressCase c = GetParam();
  World w(c.heads, c.dim);
  const int64_t weights = int64_t{c.heads} * c.width * c.dim;
  const Elements key_down(kType, RandomFloats(weights, 91, 0.2f)),
      value_down(kType, RandomFloats(weights, 92, 0.2f));
  const EntryFormat int8{EntryType::kInt8, kType, c.heads, c.width};
  std::vector<std::byte> want_k(w.batch.num_staged * int8.row_bytes()), want_v = want_k;
  CompressEntriesArgs args{.batch = w.batch,
                           .shape = kShape,
                           .element = kType,
                           .entry_type = EntryType::kInt8,
                           .num_kv_heads = c.heads,
                           .head_dim = c.dim,
                           .compressed_dim = c.width,
                           .rotation = w.rotation.data(),
                           .ring_k_offset = 0,
                           .ring_v_offset = kShape.ring_rows * w.row_bytes,
                           .k = w.k.data(),
                           .v = w.v.data(),
                           .key_down = key_down.data(),
                           .value_down = value_down.data(),
                           .staged_k = want_k.data(),
                           .staged_v = want_v.data()};
  ThreadPool pool(2);
  ASSERT_TRUE(CompressEntriesCpu(args, pool).ok());
  Arrays arrays(*Gpu());
  const GpuBatch on_gpu(arrays, w.builder, w.states, c.misaligned);
  args.batch = on_gpu.batch;
  args.rotation = arrays.Put(w.rotation);
  args.k = arrays.Put(w.k);
  args.v = arrays.Put(w.v);
  args.key_down = arrays.Put(key_down);
  args.value_down = arrays.Put(value_down);
  DeviceArray& got_k = arrays.Poisoned(on_gpu.batch.num_staged * int8.row_bytes());
  DeviceArray& got_v = arrays.Poisoned(on_gpu.batch.num_staged * int8.row_bytes());
  args.staged_k = got_k.data();
  args.staged_v = got_v.data();
  const absl::Status status = Gpu()->CompressEntries(args);
  ASSERT_TRUE(status.ok()) << status;
  // As MatchesCpu derives it; and a number that lies between two steps may go to the other one.
  const float absolute = static_cast<float>(c.dim) * 0.3f * 0x1p-20f + 4 * 0.3f * 0x1p-7f;
  for (const auto& [got, want] :
       {std::pair(got_k.ToHost(), &want_k), std::pair(got_v.ToHost(), &want_v)}) {
    for (int64_t row = 0; row < w.batch.num_staged; ++row) {
      for (int64_t h = 0; h < c.heads; ++h) {
        const float scale = int8.Scale(want->data(), row, h);
        const float got_scale = int8.Scale(got.data(), row, h);
        ASSERT_NEAR(got_scale * 127, scale * 127, absolute) << row << " " << h;
        for (int64_t i = 0; i < c.width; ++i) {
          ASSERT_NEAR(static_cast<float>(int8.Quantum(got.data(), row, h, i)) * got_scale,
                      static_cast<float>(int8.Quantum(want->data(), row, h, i)) * scale,
                      1.001f * scale + 2 * absolute)
              << row << " " << h << " " << i;
        }
      }
    }
  }
}

// The same tokens, in a batch from which the first are missing.
TEST(CompressEntriesCudaTest, ATokenDoesNotDependOnWhatElseLeaves) {
  RASQ_NEEDS_GPU();
  constexpr int64_t kLeaving = 150, kSkip = 47, kHeads = 2, kDim = 64, kWidth = 32;
  constexpr int64_t kEntryBytes = kHeads * kWidth * 2;
  World w(kHeads, kDim);
  const Elements down(kType, RandomFloats(kHeads * kWidth * kDim, 91, 0.2f));
  // The keys of the tokens that leave in both batches, then their values.
  const auto run = [&](int64_t skip) {
    BatchBuilder builder(kShape);
    ChunkSpec spec = kChunks[1];
    spec.leave_begin += skip;
    builder.Add(spec, nullptr);
    Arrays arrays(*Gpu());
    const GpuBatch on_gpu(arrays, builder, {w.states[1]});
    const std::vector<float> rotation(w.rotation.begin() + skip * kDim,
                                      w.rotation.begin() + kLeaving * kDim);
    DeviceArray& k = arrays.Poisoned(on_gpu.batch.num_staged * kEntryBytes);
    DeviceArray& v = arrays.Poisoned(on_gpu.batch.num_staged * kEntryBytes);
    EXPECT_TRUE(Gpu()
                    ->CompressEntries({.batch = on_gpu.batch,
                                       .shape = kShape,
                                       .element = kType,
                                       .num_kv_heads = kHeads,
                                       .head_dim = kDim,
                                       .compressed_dim = kWidth,
                                       .rotation = arrays.Put(rotation),
                                       .ring_k_offset = 0,
                                       .ring_v_offset = kShape.ring_rows * w.row_bytes,
                                       .k = arrays.Put(w.k),
                                       .v = arrays.Put(w.v),
                                       .key_down = arrays.Put(down),
                                       .value_down = arrays.Put(down),
                                       .staged_k = k.data(),
                                       .staged_v = v.data()})
                    .ok());
    std::vector<std::byte> common;
    for (const DeviceArray* array : {&k, &v}) {
      const std::vector<std::byte> bytes = array->ToHost();
      common.insert(common.end(), bytes.begin() + (kSkip - skip) * kEntryBytes,
                    bytes.begin() + (kLeaving - skip) * kEntryBytes);
    }
    return common;
  };
  EXPECT_EQ(run(0), run(kSkip));
}

TEST(CompressEntriesCudaTest, RefusesOtherWidths) {
  RASQ_NEEDS_GPU();
  CompressEntriesArgs args{.batch = {},
                           .shape = kShape,
                           .element = kType,
                           .num_kv_heads = 1,
                           .head_dim = 10,
                           .compressed_dim = 8};
  EXPECT_EQ(Gpu()->CompressEntries(args).message(), "CompressEntries: head_dim=10");
  args.head_dim = 264;
  EXPECT_EQ(Gpu()->CompressEntries(args).message(), "CompressEntries: head_dim=264");
  args.head_dim = 16;
  args.compressed_dim = 7;
  EXPECT_EQ(Gpu()->CompressEntries(args).message(), "CompressEntries: compressed_dim=7");
}

}  // namespace
}  // namespace rasq
