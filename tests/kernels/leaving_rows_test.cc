// What happens to the rows of tokens that leave the window: staging, rings, commits, sinks, and
// compression.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/compress_entries.h"
#include "kernels/copy_rows.h"
#include "kernels/rotary.h"
#include "tests/support/entry_format.h"
#include "tests/support/stream_batches.h"
#include "tests/support/tensors.h"

namespace rasq {
namespace {

constexpr DType kTypes[] = {DType::kFloat32, DType::kBfloat16};

constexpr StreamShape kShape = {.window_rows = 5,
                                .segment_rows = 3,
                                .sink_rows = 2,
                                .capacity = 4,
                                .max_selected = 2,
                                .memory_span = 2,
                                .ring_rows = 8};

// Rows of one int64_t that say which token they belong to.
TEST(CopyRowsTest, StagesFromRingAndChunkAndWritesTheRing) {
  // A chunk of 12 rows is longer than the ring; the segments at 13, 16, 19, 22 let 5..16 leave.
  std::vector<int64_t> ring(8), other_ring(8);
  BatchBuilder builder(kShape);
  builder.Add({.first_position = 0, .segment_rows = {2}},
              reinterpret_cast<std::byte*>(other_ring.data()));
  builder.Add(
      {.first_position = 11, .segment_rows = {2, 3, 3, 3, 1}, .first_start = 10, .leave_begin = 5},
      reinterpret_cast<std::byte*>(ring.data()));
  const StreamBatch batch = builder.Batch();
  ASSERT_EQ(batch.num_staged, 12);
  for (int64_t p = 3; p < 11; ++p) ring[p % 8] = p;
  std::vector<int64_t> rows = {0, 1};
  for (int64_t p = 11; p < 23; ++p) rows.push_back(p);
  std::vector<int64_t> staged(12, -1);
  ThreadPool pool(2);
  StageRowsArgs stage{.batch = batch,
                      .shape = kShape,
                      .ring_offset = 0,
                      .chunk = rows.data(),
                      .staged = staged.data(),
                      .row_bytes = 8};
  ASSERT_TRUE(StageRowsCpu(stage, pool).ok());
  for (int64_t i = 0; i < 12; ++i) EXPECT_EQ(staged[i], 5 + i);

  WriteRingArgs write{
      .batch = batch, .ring_offset = 0, .ring_rows = 8, .chunk = rows.data(), .row_bytes = 8};
  ASSERT_TRUE(WriteRingCpu(write, pool).ok());
  for (int64_t p = 15; p < 23; ++p) EXPECT_EQ(ring[p % 8], p);
  EXPECT_EQ(other_ring, (std::vector<int64_t>{0, 1, 0, 0, 0, 0, 0, 0}));
  // A ring of its own length, as the retriever's queries have.
  std::fill(ring.begin(), ring.end(), -1);
  write.ring_rows = 3;
  ASSERT_TRUE(WriteRingCpu(write, pool).ok());
  EXPECT_EQ(ring, (std::vector<int64_t>{21, 22, 20, -1, -1, -1, -1, -1}));

  std::vector<int32_t> slot(12, -1);
  slot[3] = 0;
  slot[11] = 2;
  std::fill(ring.begin(), ring.end(), -1);
  CommitRowsArgs commit{.batch = batch,
                        .entries_offset = 8,
                        .staged = staged.data(),
                        .slot = slot.data(),
                        .row_bytes = 8};
  ASSERT_TRUE(CommitRowsCpu(commit, pool).ok());
  EXPECT_EQ(ring, (std::vector<int64_t>{-1, 8, -1, 16, -1, -1, -1, -1}));

  stage.row_bytes = 0;
  EXPECT_EQ(StageRowsCpu(stage, pool).message(), "StageRows: row_bytes=0");
  write.ring_rows = 0;
  EXPECT_EQ(WriteRingCpu(write, pool).message(), "WriteRing: ring_rows=0");
  commit.slot = nullptr;
  EXPECT_EQ(CommitRowsCpu(commit, pool).message(), "CommitRows: slot=null");
}

TEST(KeepSinksTest, UnrotatesByHand) {
  // Token 1 leaves, its key (-4, 3) rotated by a quarter turn: it was (3, 4). Token 2 is no sink.
  for (const DType type : kTypes) {
    const int64_t size = SizeOf(type);
    std::vector<std::byte> state((8 * 2 * 2 + 2 * 2 * 2) * size);
    BatchBuilder builder(kShape);
    builder.Add({.first_position = 8, .segment_rows = {1}, .leave_begin = 1}, state.data());
    const float k[] = {-4, 3, 5, 6}, v[] = {7, 8, 9, 10};
    for (int i = 0; i < 4; ++i) {
      Elements::Store(type, state.data(), 2 + i, k[i]);
      Elements::Store(type, state.data(), 16 + 2 + i, v[i]);
    }
    const std::vector<float> rotation = {0, 1, 1, 0};
    const Elements own(type, 2);
    ThreadPool pool(1);
    const KeepSinksArgs args{.batch = builder.Batch(),
                             .shape = kShape,
                             .element = type,
                             .num_kv_heads = 1,
                             .head_dim = 2,
                             .rotation = rotation.data(),
                             .ring_k_offset = 0,
                             .ring_v_offset = 16 * size,
                             .k = own.data(),
                             .v = own.data(),
                             .sink_k_offset = 32 * size,
                             .sink_v_offset = 36 * size};
    ASSERT_TRUE(KeepSinksCpu(args, pool).ok());
    const float want[] = {0, 0, 3, 4, 0, 0, 7, 8};
    for (int i = 0; i < 8; ++i) EXPECT_EQ(Elements::Load(type, state.data(), 32 + i), want[i]);
  }
}

struct CompressWorld {
  CompressWorld(DType type, int32_t heads, int32_t dim, int32_t width, const ChunkSpec& spec,
                int64_t skip = 0)
      : builder(kLong), out_k(type, 0), out_v(type, 0) {
    const int64_t row = int64_t{heads} * dim;
    state.resize(2 * kLong.ring_rows * row * SizeOf(type));
    builder.Add(spec, state.data());
    builder.chunks()[0].leave_begin += skip;
    batch = builder.Batch();
    const auto token = [&](int64_t position, int kind) {
      return RandomFloats(row, position * 2 + kind);
    };
    for (int64_t p = std::max<int64_t>(0, spec.first_position - kLong.ring_rows);
         p < spec.first_position; ++p) {
      for (int kind = 0; kind < 2; ++kind) {
        const auto x = token(p, kind);
        for (int64_t i = 0; i < row; ++i) {
          Elements::Store(type, state.data(),
                          (kind * kLong.ring_rows + p % kLong.ring_rows) * row + i, x[i]);
        }
      }
    }
    std::vector<float> ks, vs;
    for (int64_t r = 0; r < batch.num_rows; ++r) {
      const auto k_row = token(spec.first_position + r, 0),
                 v_row = token(spec.first_position + r, 1);
      ks.insert(ks.end(), k_row.begin(), k_row.end());
      vs.insert(vs.end(), v_row.begin(), v_row.end());
    }
    k = Elements(type, ks);
    v = Elements(type, vs);
    for (int64_t p = builder.chunks()[0].leave_begin; p < builder.chunks()[0].leave_end; ++p) {
      for (int32_t i = 0; i < dim; ++i) {
        const double angle = static_cast<double>(p) * std::pow(0.3, i % (dim / 2));
        rotation.push_back(static_cast<float>(i < dim / 2 ? std::cos(angle) : std::sin(angle)));
      }
    }
    key_down = Elements(type, RandomFloats(row * width, 91, 0.2f));
    value_down = Elements(type, RandomFloats(row * width, 92, 0.2f));
    out_k = out_v = Elements(type, batch.num_staged * int64_t{heads} * width);
    args = {.batch = batch,
            .shape = kLong,
            .element = type,
            .num_kv_heads = heads,
            .head_dim = dim,
            .compressed_dim = width,
            .rotation = rotation.data(),
            .ring_k_offset = 0,
            .ring_v_offset = kLong.ring_rows * row * SizeOf(type),
            .k = k.data(),
            .v = v.data(),
            .key_down = key_down.data(),
            .value_down = value_down.data(),
            .staged_k = out_k.data(),
            .staged_v = out_v.data()};
  }
  static constexpr StreamShape kLong = {.window_rows = 90,
                                        .segment_rows = 50,
                                        .sink_rows = 0,
                                        .capacity = 4,
                                        .max_selected = 2,
                                        .memory_span = 2,
                                        .ring_rows = 140};
  BatchBuilder builder;
  StreamBatch batch;
  std::vector<std::byte> state;
  Elements k, v, key_down, value_down, out_k, out_v;
  std::vector<float> rotation;
  CompressEntriesArgs args;
};

TEST(CompressEntriesTest, MatchesDouble) {
  for (const DType type : kTypes) {
    constexpr int kHeads = 2, kDim = 10, kWidth = 7;
    // 150 tokens leave, the last ten of them from the chunk itself.
    CompressWorld w(type, kHeads, kDim, kWidth,
                    {.first_position = 200, .segment_rows = {50, 50, 10}, .leave_begin = 60});
    ASSERT_EQ(w.batch.num_staged, 150);
    ThreadPool pool(2);
    ASSERT_TRUE(CompressEntriesCpu(w.args, pool).ok());
    for (int64_t i = 0; i < 150; ++i) {
      for (int h = 0; h < kHeads; ++h) {
        double key[kDim], value[kDim];
        for (int d = 0; d < kDim; ++d) {
          const int64_t p = 60 + i;
          const int64_t at = h * kDim + d;
          const auto load = [&](const Elements& own, int64_t ring, int64_t element) {
            return p < 200 ? Elements::Load(type, w.state.data(),
                                            (ring * 140 + p % 140) * kHeads * kDim + element)
                           : own[(p - 200) * kHeads * kDim + element];
          };
          const int64_t mate = d < kDim / 2 ? at + kDim / 2 : at - kDim / 2;
          const double c = w.rotation[i * kDim + d % (kDim / 2)];
          const double s = w.rotation[i * kDim + kDim / 2 + d % (kDim / 2)];
          const double x = load(w.k, 0, at), y = load(w.k, 0, mate);
          key[d] = d < kDim / 2 ? x * c + y * s : x * c - y * s;
          value[d] = load(w.v, 1, at);
        }
        for (int e = 0; e < kWidth; ++e) {
          double want_k = 0, want_v = 0, size = 0;
          for (int d = 0; d < kDim; ++d) {
            const int64_t at = (h * kWidth + e) * kDim + d;
            want_k += key[d] * w.key_down[at];
            want_v += value[d] * w.value_down[at];
            size += std::abs(key[d] * w.key_down[at]) + std::abs(value[d] * w.value_down[at]);
          }
          // Key, weight and result are rounded once each; float32 has some ten more roundings.
          const double bound = size * (type == DType::kBfloat16 ? 3 : 16) * Rounding(type);
          const int64_t out = (i * kHeads + h) * kWidth + e;
          ASSERT_NEAR(w.out_k[out], want_k, bound) << i << " " << h << " " << e;
          ASSERT_NEAR(w.out_v[out], want_v, bound) << i << " " << h << " " << e;
        }
      }
    }
  }
}

TEST(CompressEntriesTest, ATokenDoesNotDependOnWhatElseLeaves) {
  for (const DType type : kTypes) {
    const ChunkSpec spec{.first_position = 200, .segment_rows = {50, 50, 10}, .leave_begin = 60};
    CompressWorld all(type, 2, 16, 8, spec), some(type, 2, 16, 8, spec, /*skip=*/47);
    ThreadPool pool(2);
    ASSERT_TRUE(CompressEntriesCpu(all.args, pool).ok());
    ASSERT_TRUE(CompressEntriesCpu(some.args, pool).ok());
    const int64_t row_bytes = 2 * 8 * SizeOf(type), rows = 150 - 47;
    EXPECT_EQ(std::memcmp(all.out_k.bytes().data() + 47 * row_bytes, some.out_k.bytes().data(),
                          rows * row_bytes),
              0);
    EXPECT_EQ(std::memcmp(all.out_v.bytes().data() + 47 * row_bytes, some.out_v.bytes().data(),
                          rows * row_bytes),
              0);
  }
}

// In int8 an entry is the vector, as float32 has it, rounded by its own largest number.
TEST(CompressEntriesTest, Int8IsTheRoundedVector) {
  for (const DType type : kTypes) {
    // 7 and 20: a scale that stands unaligned in its row, and one that does not.
    for (const int width : {7, 10}) {
      constexpr int kHeads = 2, kDim = 10;
      const ChunkSpec spec{.first_position = 200, .segment_rows = {50, 50, 10}, .leave_begin = 60};
      CompressWorld exact(type, kHeads, kDim, width, spec),
          rounded(type, kHeads, kDim, width, spec);
      const EntryFormat int8{EntryType::kInt8, type, kHeads, width};
      std::vector<std::byte> k(150 * int8.row_bytes()), v = k;
      rounded.args.entry_type = EntryType::kInt8;
      rounded.args.staged_k = k.data();
      rounded.args.staged_v = v.data();
      ThreadPool pool(2);
      ASSERT_TRUE(CompressEntriesCpu(exact.args, pool).ok());
      ASSERT_TRUE(CompressEntriesCpu(rounded.args, pool).ok());
      if (type == DType::kFloat32) {
        EXPECT_EQ(k, int8.Rows(exact.out_k.ToFloats()));
        EXPECT_EQ(v, int8.Rows(exact.out_v.ToFloats()));
        continue;
      }
      // The elements are rounded from what int8 is made of: half a step, and 2^-9 of the element.
      for (int64_t i = 0; i < 150 * kHeads * width; ++i) {
        const int64_t row = i / (kHeads * width), head = i / width % kHeads;
        const float want = exact.out_k[i];
        ASSERT_NEAR(static_cast<float>(int8.Quantum(k.data(), row, head, i % width)) *
                        int8.Scale(k.data(), row, head),
                    want, 0.5001f * int8.Scale(k.data(), row, head) + std::abs(want) * 0x1p-8f);
      }
    }
  }
}

TEST(CompressEntriesTest, ArgumentErrors) {
  CompressWorld w(DType::kFloat32, 2, 16, 8,
                  {.first_position = 200, .segment_rows = {50}, .leave_begin = 60});
  CompressEntriesArgs args = w.args;
  args.compressed_dim = 17;
  EXPECT_EQ(ValidateCompressEntries(args).message(), "CompressEntries: compressed_dim=17");
  args = w.args;
  args.staged_v = nullptr;
  EXPECT_EQ(ValidateCompressEntries(args).message(), "CompressEntries: staged_v=null");
}

}  // namespace
}  // namespace rasq
