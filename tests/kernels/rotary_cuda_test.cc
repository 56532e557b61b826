#include <gtest/gtest.h>

#include <cmath>
#include <ostream>
#include <vector>

#include "tests/support/gpu_batches.h"

namespace rasq {
namespace {

using testing::Arrays;
using testing::DeviceArray;
using testing::Gpu;
using testing::GpuBatch;

constexpr DType kType = DType::kBfloat16;

TEST(RotationTableCudaTest, MatchesCpu) {
  RASQ_NEEDS_GPU();
  for (const int32_t sinks : {0, 2}) {
    const StreamShape shape{.window_rows = 8,
                            .segment_rows = 4,
                            .sink_rows = sinks,
                            .capacity = 5,
                            .max_selected = 3,
                            .memory_span = 3,
                            .ring_rows = 12};
    const testing::States states = testing::RandomStates(/*num_chunks=*/4, /*bytes=*/1);
    BatchBuilder builder(shape);
    std::byte state[1];
    builder.Add({.first_position = 1000000006,
                 .segment_rows = {2, 4},
                 .first_start = 1000000004,
                 .leave_begin = 999999996},
                state);
    builder.Add({.first_position = 0, .segment_rows = {1}}, state);
    builder.Add({.first_position = 20, .segment_rows = {4, 4, 4, 1}, .leave_begin = 9}, state);
    builder.Add({.first_position = 40000000000, .segment_rows = {1}, .leave_begin = 39999999991},
                state);
    const StreamBatch batch = builder.Batch();
    for (const int32_t dim : {2, 6, 128}) {
      std::vector<double> inv_freq(dim / 2);
      for (int32_t i = 0; i < dim / 2; ++i) inv_freq[i] = std::pow(10000.0, -2.0 * i / dim);
      std::vector<float> row(batch.num_rows * dim), memory(batch.num_segments * dim),
          sink(batch.num_segments * sinks * dim), staged(batch.num_staged * dim);
      RotationTableArgs args{.batch = batch,
                             .shape = shape,
                             .inv_freq = inv_freq.data(),
                             .head_dim = dim,
                             .row = row.data(),
                             .memory = memory.data(),
                             .sink = sink.data(),
                             .staged = staged.data()};
      ThreadPool pool(1);
      ASSERT_TRUE(RotationTableCpu(args, pool).ok());
      Arrays arrays(*Gpu());
      const GpuBatch on_gpu(arrays, builder, states);
      args.batch = on_gpu.batch;
      args.inv_freq = arrays.Put(inv_freq);
      // Rows of padding stay as they are.
      DeviceArray& got_row = arrays.Poisoned(args.batch.num_rows * dim * 4);
      DeviceArray& got_memory = arrays.Poisoned(args.batch.num_segments * dim * 4);
      DeviceArray& got_sink = arrays.Poisoned(args.batch.num_segments * sinks * dim * 4);
      DeviceArray& got_staged = arrays.Poisoned(args.batch.num_staged * dim * 4);
      args.row = got_row.data<float>();
      args.memory = got_memory.data<float>();
      args.sink = got_sink.data<float>();
      args.staged = got_staged.data<float>();
      ASSERT_TRUE(Gpu()->RotationTable(args).ok());
      // The sines are good to a rounding of double, the angles up to 4e10 are the same: at most the
      // rounding to float differs.
      testing::ExpectNear(got_row.ToHostAs<float>(), row, 0x1p-23, 1e-15);
      testing::ExpectNear(got_memory.ToHostAs<float>(), memory, 0x1p-23, 1e-15);
      testing::ExpectNear(got_sink.ToHostAs<float>(), sink, 0x1p-23, 1e-15);
      testing::ExpectNear(got_staged.ToHostAs<float>(), staged, 0x1p-23, 1e-15);
    }
  }
}

struct RotaryCase {
  int32_t heads, kv_heads, dim;
  bool bias, q_norm, k_norm;
  int64_t shift;  // elements that qkv lies off its alignment
};
void PrintTo(const RotaryCase& c, std::ostream* out) {
  *out << c.heads << "+" << c.kv_heads << " heads of " << c.dim << " bias " << c.bias << " norms "
       << c.q_norm << c.k_norm << " shift " << c.shift;
}

class RotaryCudaTest : public ::testing::TestWithParam<RotaryCase> {};

TEST_P(RotaryCudaTest, MatchesCpu) {
  RASQ_NEEDS_GPU();
  const RotaryCase c = GetParam();
  const int64_t rows = 19, width = int64_t{c.heads + 2 * c.kv_heads} * c.dim;
  const auto qkv = RandomFloats(rows * width + c.shift, /*seed=*/1);
  const auto bias = RandomFloats(width, /*seed=*/2), q_norm = RandomFloats(c.dim, /*seed=*/3),
             k_norm = RandomFloats(c.dim, /*seed=*/4);
  std::vector<float> rotation(rows * c.dim);
  for (int64_t i = 0; i < rows * c.dim; ++i) {
    const double angle = static_cast<double>(i / c.dim * c.dim + i % (c.dim / 2));
    rotation[i] = static_cast<float>(i % c.dim < c.dim / 2 ? std::cos(angle) : std::sin(angle));
  }
  const int64_t num_q = rows * c.heads * c.dim, num_kv = rows * c.kv_heads * c.dim;
  Elements q(kType, num_q), k(kType, num_kv), v(kType, num_kv);
  RotaryArgs args{.qkv = qkv.data() + c.shift,
                  .bias = c.bias ? bias.data() : nullptr,
                  .q_norm = c.q_norm ? q_norm.data() : nullptr,
                  .k_norm = c.k_norm ? k_norm.data() : nullptr,
                  .rotation = rotation.data(),
                  .q = q.data(),
                  .k = k.data(),
                  .v = v.data(),
                  .element = kType,
                  .rows = rows,
                  .num_heads = c.heads,
                  .num_kv_heads = c.kv_heads,
                  .head_dim = c.dim,
                  .epsilon = 1e-6f};
  ThreadPool pool(1);
  ASSERT_TRUE(RotaryCpu(args, pool).ok());
  Arrays arrays(*Gpu());
  args.qkv = arrays.Put(qkv) + c.shift;
  args.bias = c.bias ? arrays.Put(bias) : nullptr;
  args.q_norm = c.q_norm ? arrays.Put(q_norm) : nullptr;
  args.k_norm = c.k_norm ? arrays.Put(k_norm) : nullptr;
  args.rotation = arrays.Put(rotation);
  DeviceArray &got_q = arrays.Poisoned(num_q * 2), &got_k = arrays.Poisoned(num_kv * 2),
              &got_v = arrays.Poisoned(num_kv * 2);
  args.q = got_q.data();
  args.k = got_k.data();
  args.v = got_v.data();
  ASSERT_TRUE(Gpu()->Rotary(args).ok());
  // The two products of a rotation may cancel: each is below 16, and good to some roundings of it.
  testing::ExpectBfloat16Near(got_q, q, 16 * 0x1p-20);
  testing::ExpectBfloat16Near(got_k, k, 16 * 0x1p-20);
  testing::ExpectBfloat16Near(got_v, v);
}

INSTANTIATE_TEST_SUITE_P(Shapes, RotaryCudaTest,
                         ::testing::Values(RotaryCase{32, 8, 128, false, false, false, 0},
                                           RotaryCase{4, 2, 128, true, true, true, 0},
                                           RotaryCase{3, 3, 64, true, false, true, 0},
                                           RotaryCase{5, 1, 256, false, true, false, 0},
                                           RotaryCase{6, 2, 24, true, true, true, 0},
                                           RotaryCase{7, 7, 8, true, true, false, 0},
                                           RotaryCase{4, 2, 128, true, true, true, 1},
                                           RotaryCase{6, 2, 20, true, true, true, 0},
                                           RotaryCase{2, 1, 2, true, false, false, 0},
                                           RotaryCase{3, 1, 264, true, true, true, 0}));

}  // namespace
}  // namespace rasq
