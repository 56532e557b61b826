#include "kernels/gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <ostream>
#include <vector>

#include "tests/support/tensors.h"

namespace rasq {
namespace {

struct GemmCase {
  DType type;
  int64_t rows, in, out;
  int64_t x_pad, y_pad;  // strides beyond the widths
};
void PrintTo(const GemmCase& c, std::ostream* out) {
  *out << Name(c.type) << " " << c.rows << "x" << c.in << "x" << c.out << " pads " << c.x_pad << " "
       << c.y_pad;
}

bool Supported(DType type) { return type == DType::kFloat32 || CpuHasBfloat16(); }

TEST(GemmTest, ByHand) {
  // [1 2 3; 0 1 -1] times the rows [1 0 2], [-1 1 1]: 1+6, -1+2+3; -2, 1-1.
  const std::vector<float> w = {1, 0, 2, -1, 1, 1};
  ThreadPool pool(2);
  for (const DType type : {DType::kFloat32, DType::kBfloat16}) {
    if (!Supported(type)) continue;
    const Elements x(type, {1, 2, 3, 0, 1, -1});
    const auto matrix = PackMatrixCpu(w.data(), /*out=*/2, /*in=*/3, type);
    ASSERT_TRUE(matrix.ok()) << matrix.status();
    EXPECT_GE((*matrix)->bytes(), 6 * SizeOf(type));
    std::vector<float> y = {100, 100, 100, 100};
    GemmArgs args{.x = x.data(),
                  .w = matrix->get(),
                  .y = y.data(),
                  .rows = 2,
                  .x_stride = 3,
                  .y_stride = 2,
                  .accumulate = false};
    ASSERT_TRUE(GemmCpu(args, pool).ok());
    EXPECT_EQ(y, (std::vector<float>{7, 4, -2, 0}));
    args.accumulate = true;
    ASSERT_TRUE(GemmCpu(args, pool).ok());
    EXPECT_EQ(y, (std::vector<float>{14, 8, -4, 0}));
  }
}

class GemmShapeTest : public testing::TestWithParam<GemmCase> {};

TEST_P(GemmShapeTest, MatchesDoubleAndRowsDoNotDependOnEachOther) {
  const GemmCase c = GetParam();
  if (!Supported(c.type)) GTEST_SKIP() << "no bfloat16 products here";
  ThreadPool pool(2);
  const int64_t x_stride = c.in + c.x_pad, y_stride = c.out + c.y_pad;
  const Elements x(c.type, RandomFloats(c.rows * x_stride, /*seed=*/1));
  const std::vector<float> w = Elements(c.type, RandomFloats(c.out * c.in, /*seed=*/2)).ToFloats();
  const auto matrix = PackMatrixCpu(w.data(), c.out, c.in, c.type);
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  for (const bool accumulate : {false, true}) {
    const std::vector<float> before = RandomFloats(c.rows * y_stride, /*seed=*/3);
    std::vector<float> y = before;
    GemmArgs args{.x = x.data(),
                  .w = matrix->get(),
                  .y = y.data(),
                  .rows = c.rows,
                  .x_stride = x_stride,
                  .y_stride = y_stride,
                  .accumulate = accumulate};
    ASSERT_TRUE(GemmCpu(args, pool).ok());
    for (int64_t t = 0; t < c.rows; ++t) {
      for (int64_t o = 0; o < y_stride; ++o) {
        if (o >= c.out) {
          ASSERT_EQ(y[t * y_stride + o], before[t * y_stride + o]) << "wrote past the row";
          continue;
        }
        double want = accumulate ? before[t * y_stride + o] : 0;
        for (int64_t i = 0; i < c.in; ++i) want += double{x[t * x_stride + i]} * w[o * c.in + i];
        // Factors below 1, so partial sums stay below in: in roundings of that at most.
        const double bound = static_cast<double>(c.in + 1) * std::sqrt(c.in + 1.0) * 0x1p-24;
        ASSERT_NEAR(y[t * y_stride + o], want, bound) << t << " " << o;
      }
    }
    // Each row by itself, and in the company of others before it: the same bits.
    for (int64_t rows = 1; rows < c.rows; rows = rows * 2 + 1) {
      for (int64_t first = 0; first + rows <= c.rows; first += rows) {
        std::vector<float> some(before.begin() + first * y_stride,
                                before.begin() + (first + rows) * y_stride);
        args.x = x.bytes().data() + first * x_stride * SizeOf(c.type);
        args.y = some.data();
        args.rows = rows;
        ASSERT_TRUE(GemmCpu(args, pool).ok());
        ASSERT_EQ(std::memcmp(some.data(), y.data() + first * y_stride, some.size() * 4), 0)
            << "rows " << first << " +" << rows << " accumulate " << accumulate;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, GemmShapeTest,
                         testing::Values(GemmCase{DType::kFloat32, 1, 1, 1, 0, 0},
                                         GemmCase{DType::kFloat32, 7, 33, 100, 3, 1},
                                         GemmCase{DType::kFloat32, 70, 64, 300, 0, 0},
                                         GemmCase{DType::kFloat32, 130, 384, 257, 0, 5},
                                         GemmCase{DType::kBfloat16, 1, 1, 1, 0, 0},
                                         GemmCase{DType::kBfloat16, 7, 33, 100, 3, 1},
                                         GemmCase{DType::kBfloat16, 65, 1024, 384, 0, 0},
                                         GemmCase{DType::kBfloat16, 130, 384, 640, 6, 5}));

TEST(GemmTest, ArgumentErrors) {
  const std::vector<float> w(6, 1);
  const auto matrix = PackMatrixCpu(w.data(), 2, 3, DType::kFloat32);
  ASSERT_TRUE(matrix.ok());
  std::vector<float> x(6), y(4);
  const GemmArgs good{.x = x.data(),
                      .w = matrix->get(),
                      .y = y.data(),
                      .rows = 2,
                      .x_stride = 3,
                      .y_stride = 2,
                      .accumulate = false};
  EXPECT_TRUE(ValidateGemm(good).ok());
  const auto message = [&](auto change) {
    GemmArgs args = good;
    change(args);
    const absl::Status status = ValidateGemm(args);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_EQ(message([](GemmArgs& a) { a.rows = -1; }), "Gemm: rows=-1");
  EXPECT_EQ(message([](GemmArgs& a) { a.x_stride = 2; }), "Gemm: x_stride=2");
  EXPECT_EQ(message([](GemmArgs& a) { a.y_stride = 1; }), "Gemm: y_stride=1");
  EXPECT_EQ(message([](GemmArgs& a) { a.w = nullptr; }), "Gemm: w=null");
  EXPECT_EQ(message([](GemmArgs& a) { a.x = nullptr; }), "Gemm: x=null");
  EXPECT_EQ(PackMatrixCpu(w.data(), 0, 3, DType::kFloat32).status().message(), "PackMatrix: out=0");
  if (!CpuHasBfloat16()) {
    EXPECT_EQ(PackMatrixCpu(w.data(), 2, 3, DType::kBfloat16).status().code(),
              absl::StatusCode::kUnimplemented);
  }
}

}  // namespace
}  // namespace rasq
