#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <ostream>
#include <vector>

#include "tests/support/gpu_twin.h"

namespace rasq {
namespace {

using testing::Arrays;
using testing::DeviceArray;
using testing::Gpu;

constexpr DType kType = DType::kBfloat16;

struct GemmCase {
  int64_t rows, in, out;
  int64_t x_pad, y_pad;  // strides beyond the widths
  int64_t shift;         // elements that x lies off its alignment
};
void PrintTo(const GemmCase& c, std::ostream* out) {
  *out << c.rows << "x" << c.in << "x" << c.out << " pads " << c.x_pad << " " << c.y_pad
       << " shift " << c.shift;
}

int64_t RangeBegin(int64_t rows) { return rows > 256 ? 257 : rows > 64 ? 65 : rows > 16 ? 17 : 1; }

class GemmCudaTest : public ::testing::TestWithParam<GemmCase> {};

TEST_P(GemmCudaTest, MatchesDoubleAndRowsOfARangeDoNotDependOnTheirNumber) {
  RASQ_NEEDS_GPU();
  const GemmCase c = GetParam();
  const int64_t x_stride = c.in + c.x_pad, y_stride = c.out + c.y_pad;
  const Elements x(kType, RandomFloats(c.rows * x_stride + c.shift, /*seed=*/1));
  const std::vector<float> w = Elements(kType, RandomFloats(c.out * c.in, /*seed=*/2)).ToFloats();
  const auto matrix = Gpu()->PackMatrix(w.data(), c.out, c.in);
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ((*matrix)->bytes(), c.out * c.in * 2);
  Arrays arrays(*Gpu());
  const std::byte* device_x = static_cast<std::byte*>(arrays.Put(x)) + c.shift * 2;
  for (const bool accumulate : {false, true}) {
    const std::vector<float> before = RandomFloats(c.rows * y_stride, /*seed=*/3);
    const auto run = [&](int64_t rows) {
      const DeviceArray& y = arrays.Add(rows * y_stride * 4, before.data());
      const absl::Status status = Gpu()->Gemm({.x = device_x,
                                               .w = matrix->get(),
                                               .y = y.data<float>(),
                                               .rows = rows,
                                               .x_stride = x_stride,
                                               .y_stride = y_stride,
                                               .accumulate = accumulate});
      EXPECT_TRUE(status.ok()) << status;
      return y.ToHostAs<float>();
    };
    const std::vector<float> y = run(c.rows);
    for (int64_t t = 0; t < c.rows; ++t) {
      for (int64_t o = 0; o < y_stride; ++o) {
        if (o >= c.out) {
          ASSERT_EQ(y[t * y_stride + o], before[t * y_stride + o]) << "wrote past the row";
          continue;
        }
        double want = accumulate ? before[t * y_stride + o] : 0;
        for (int64_t i = 0; i < c.in; ++i) {
          want += double{x[c.shift + t * x_stride + i]} * w[o * c.in + i];
        }
        // Products are exact; partial sums stay some sqrt(in) large. A tensor core's sums lose up
        // to two bits more than rounding would.
        const double bound = static_cast<double>(c.in + 1) * std::sqrt(c.in + 1.0) * 0x1p-22;
        ASSERT_NEAR(y[t * y_stride + o], want, bound) << t << " " << o;
      }
    }
    for (int64_t rows = RangeBegin(c.rows); rows < c.rows; rows = rows * 5 / 4 + 1) {
      const std::vector<float> some = run(rows);
      ASSERT_EQ(std::memcmp(some.data(), y.data(), rows * y_stride * 4), 0)
          << "rows " << rows << " accumulate " << accumulate;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, GemmCudaTest,
    ::testing::Values(GemmCase{1, 1, 1, 0, 0, 0}, GemmCase{7, 3, 5, 0, 0, 0},
                      GemmCase{7, 33, 100, 3, 1, 0}, GemmCase{16, 512, 640, 0, 0, 0},
                      GemmCase{40, 64, 300, 0, 0, 1}, GemmCase{64, 1024, 384, 8, 4, 0},
                      GemmCase{130, 384, 257, 6, 5, 4}, GemmCase{256, 256, 256, 0, 0, 0},
                      GemmCase{300, 128, 192, 0, 0, 0}, GemmCase{500, 40, 64, 0, 0, 2}));

TEST(GemmCudaTest, BatchInvariantRowsDoNotDependOnTheirNumber) {
  RASQ_NEEDS_GPU();
  const auto ops = OpenOps({.device = "cuda", .dtype = "bfloat16", .batch_invariant = true});
  ASSERT_TRUE(ops.ok()) << ops.status();
  constexpr int64_t kRows = 300, kIn = 1024, kOut = 640;
  const auto matrix = (*ops)->RandomMatrix(kOut, kIn, /*scale=*/1, /*seed=*/1);
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  Arrays arrays(**ops);
  const void* x = arrays.Put(Elements(kType, RandomFloats(kRows * kIn, /*seed=*/2)));
  const auto run = [&](int64_t rows) {
    const DeviceArray& y = arrays.Poisoned(rows * kOut * 4);
    const absl::Status status = (*ops)->Gemm({.x = x,
                                              .w = matrix->get(),
                                              .y = y.data<float>(),
                                              .rows = rows,
                                              .x_stride = kIn,
                                              .y_stride = kOut,
                                              .accumulate = false});
    EXPECT_TRUE(status.ok()) << status;
    return y.ToHost();
  };
  const std::vector<std::byte> all = run(kRows);
  for (const int64_t rows : {1, 2, 7, 16, 17, 64, 65, 200, 257}) {
    const std::vector<std::byte> some = run(rows);
    EXPECT_EQ(std::memcmp(some.data(), all.data(), some.size()), 0) << rows;
  }
}

TEST(GemmCudaTest, RefusesAnotherBackendsMatrix) {
  RASQ_NEEDS_GPU();
  const std::vector<float> w(6, 1);
  const auto matrix = PackMatrixCpu(w.data(), 2, 3, DType::kFloat32);
  ASSERT_TRUE(matrix.ok());
  const GemmArgs args{.x = nullptr,
                      .w = matrix->get(),
                      .y = nullptr,
                      .rows = 0,
                      .x_stride = 3,
                      .y_stride = 2,
                      .accumulate = false};
  EXPECT_EQ(Gpu()->Gemm(args).message(), "Gemm: w is of another backend");
}

}  // namespace
}  // namespace rasq
