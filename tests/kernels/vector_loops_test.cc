#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/vector_loops_cpu.h"
#include "tests/support/tensors.h"

namespace rasq {
namespace {

// Every tail of vectors of 4, 8 and 16, and none.
const int64_t kLengths[] = {0, 1, 2, 3, 5, 8, 15, 16, 17, 31, 64, 65, 130};

TEST(VectorLoopsTest, ConvertRoundsAsToBfloat16) {
  const float kNan = std::numeric_limits<float>::quiet_NaN();
  const float kInf = std::numeric_limits<float>::infinity();
  std::vector<float> x = RandomFloats(61, /*seed=*/1);
  // Ties to even both ways, overflow into infinity, and a NaN whose payload rounding would carry.
  x.insert(x.end(), {0x1.01p0f, 0x1.03p0f, 0x1.fffffep127f, kNan, kInf, -kInf, -0.0f, 1e-40f,
                     std::bit_cast<float>(0x7fffffffu)});
  const auto n = static_cast<int64_t>(x.size());
  std::vector<bfloat16> y(n);
  Convert(x.data(), y.data(), n);
  std::vector<float> back(n);
  Convert(y.data(), back.data(), n);
  for (int64_t i = 0; i < n; ++i) {
    EXPECT_EQ(y[i].bits, ToBfloat16(x[i]).bits) << x[i];
    EXPECT_EQ(std::bit_cast<uint32_t>(back[i]), uint32_t{y[i].bits} << 16) << x[i];
  }
}

TEST(VectorLoopsTest, QuantizeRoundsToNearestEven) {
  // By hand: 63.5 and -62.5 are ties, 200 and NaN are beyond the range.
  const std::vector<float> x = {1, -1,  0.5f, -62.5f / 127,
                                0, 200, -200, std::numeric_limits<float>::quiet_NaN()};
  const auto n = static_cast<int64_t>(x.size());
  EXPECT_EQ(MaxAbs(x.data(), 5), 1);
  std::vector<int8_t> q(n + 1, 99);
  Quantize(x.data(), 127, q.data(), n);
  EXPECT_EQ(q, (std::vector<int8_t>{127, -127, 64, -62, 0, 127, -127, -127, 99}));
  std::vector<float> back(n);
  Dequantize(q.data(), 0.25f, back.data(), n);
  EXPECT_EQ(back, (std::vector<float>{31.75f, -31.75f, 16, -15.5f, 0, 31.75f, -31.75f, -31.75f}));
}

TEST(VectorLoopsTest, QuantizeAtEveryTail) {
  for (const int64_t n : kLengths) {
    const auto x = RandomFloats(n, /*seed=*/4);
    float most = 0;
    for (const float value : x) most = std::max(most, std::abs(value));
    EXPECT_EQ(MaxAbs(x.data(), n), most);
    std::vector<int8_t> q(n + 1, 99);
    Quantize(x.data(), 127 / most, q.data(), n);
    std::vector<float> floats(n + 1, 7);
    std::vector<bfloat16> halves(n + 1, ToBfloat16(7));
    Dequantize(q.data(), 0.3f, floats.data(), n);
    Dequantize(q.data(), 0.3f, halves.data(), n);
    for (int64_t i = 0; i < n; ++i) {
      ASSERT_EQ(q[i], static_cast<int8_t>(std::nearbyint(x[i] * (127 / most)))) << i;
      ASSERT_EQ(floats[i], static_cast<float>(q[i]) * 0.3f) << i;
      ASSERT_EQ(halves[i].bits, ToBfloat16(floats[i]).bits) << i;
    }
    EXPECT_EQ(q[n], 99);
    EXPECT_EQ(floats[n], 7);
    EXPECT_EQ(ToFloat(halves[n]), 7);
  }
}

TEST(VectorLoopsTest, DotAndMapsAtEveryTail) {
  for (const int64_t n : kLengths) {
    const auto a = RandomFloats(n, /*seed=*/2), b = RandomFloats(n, /*seed=*/3);
    double dot = 0;
    for (int64_t i = 0; i < n; ++i) dot += double{a[i]} * b[i];
    // Products below 1: n roundings of sums below n.
    EXPECT_NEAR(Dot(a.data(), b.data(), n), dot, static_cast<double>(n * n) * 0x1p-24 + 1e-12);

    std::vector<float> y = b;
    y.push_back(7);  // a guard: nothing past n is written
    MaxInto(a.data(), y.data(), n);
    for (int64_t i = 0; i < n; ++i) EXPECT_GE(y[i], a[i]);
    Add(a.data(), b.data(), y.data(), n);
    for (int64_t i = 0; i < n; ++i) EXPECT_EQ(y[i], a[i] + b[i]);
    ScaleByWeight(a.data(), 0.5f, b.data(), y.data(), n);
    for (int64_t i = 0; i < n; ++i) EXPECT_EQ(y[i], a[i] * 0.5f * b[i]);
    EXPECT_EQ(y[n], 7);
  }
}

TEST(VectorLoopsTest, RowsAtEveryTail) {
  for (const DType type : {DType::kFloat32, DType::kBfloat16}) {
    for (const int64_t n : kLengths) {
      constexpr int64_t kRows = 5;
      const int64_t stride = n + 3;
      const Elements rows(type, RandomFloats(kRows * stride, /*seed=*/6));
      const auto x = RandomFloats(n, /*seed=*/7), weight = RandomFloats(kRows, /*seed=*/8);
      std::vector<float> dots(kRows), sums(n + 1, 7);
      if (type == DType::kBfloat16) {
        const auto* data = static_cast<const bfloat16*>(rows.data());
        DotRows(data, stride, kRows, x.data(), n, dots.data());
        AddRows(data, stride, kRows, weight.data(), n, sums.data());
      } else {
        const auto* data = static_cast<const float*>(rows.data());
        DotRows(data, stride, kRows, x.data(), n, dots.data());
        AddRows(data, stride, kRows, weight.data(), n, sums.data());
      }
      for (int64_t r = 0; r < kRows; ++r) {
        double want = 0;
        for (int64_t i = 0; i < n; ++i) want += double{rows[r * stride + i]} * x[i];
        EXPECT_NEAR(dots[r], want, static_cast<double>(n * n) * 0x1p-24 + 1e-12) << n << " " << r;
      }
      for (int64_t i = 0; i < n; ++i) {
        double want = 7;
        for (int64_t r = 0; r < kRows; ++r) want += double{rows[r * stride + i]} * weight[r];
        EXPECT_NEAR(sums[i], want, 5 * 12 * 0x1p-24) << n << " " << i;  // five roundings below 12
      }
      EXPECT_EQ(sums[n], 7);
    }
  }
}

TEST(VectorLoopsTest, ExpIsAccurateOverTheWholeRange) {
  std::vector<float> x;
  for (float value = -87; value < 88; value += 0.00371f) x.push_back(value);
  std::vector<float> y(x.size());
  const auto n = static_cast<int64_t>(x.size());
  ExpLogits(x.data(), /*scale=*/1, /*bias=*/nullptr, /*shift=*/0, y.data(), n);
  for (int64_t i = 0; i < n; ++i) {
    const double want = std::exp(double{x[i]});
    ASSERT_NEAR(y[i] / want, 1, 3e-7) << x[i];  // the bound that the source states
  }
}

TEST(VectorLoopsTest, ExpAtTheEnds) {
  const float kInf = std::numeric_limits<float>::infinity();
  const float x[] = {-kInf, -1000, -88, 0, 1000};
  float y[5];
  ExpLogits(x, 1, nullptr, 0, y, 5);
  EXPECT_EQ(y[0], 0);
  EXPECT_EQ(y[1], 0);
  EXPECT_EQ(y[2], 0);
  EXPECT_EQ(y[3], 1);
  EXPECT_TRUE(std::isfinite(y[4]));
}

TEST(VectorLoopsTest, SoftmaxPasses) {
  for (const int64_t n : kLengths) {
    const auto x = RandomFloats(n, /*seed=*/4, /*scale=*/5), bias = RandomFloats(n, /*seed=*/5);
    for (const float* b : {static_cast<const float*>(nullptr), bias.data()}) {
      double most = -std::numeric_limits<double>::infinity();
      for (int64_t i = 0; i < n; ++i) {
        most = std::max(most, x[i] * 0.5 + (b == nullptr ? 0 : b[i]));
      }
      const float got = MaxLogit(x.data(), 0.5f, b, n);
      if (n == 0) {
        EXPECT_EQ(got, -std::numeric_limits<float>::infinity());
      } else {
        EXPECT_NEAR(got, most, 1e-6);
      }
      std::vector<float> y(n + 1, 7);
      std::vector<bfloat16> half(n);
      const float sum = ExpLogits(x.data(), 0.5f, b, got, y.data(), n);
      EXPECT_EQ(ExpLogits(x.data(), 0.5f, b, got, half.data(), n), sum);
      double want_sum = 0;
      for (int64_t i = 0; i < n; ++i) {
        const double want = std::exp(x[i] * 0.5 + (b == nullptr ? 0 : b[i]) - got);
        want_sum += want;
        // Logits are rounded at magnitudes below 8: 2^-22 at most, twice, and that is relative
        // here.
        EXPECT_NEAR(y[i], want, 1e-6 * want);
        EXPECT_EQ(half[i].bits, ToBfloat16(y[i]).bits);
      }
      EXPECT_NEAR(sum, want_sum, 1e-6 * (1 + want_sum));
      EXPECT_EQ(y[n], 7);
    }
  }
}

TEST(VectorLoopsTest, RotateByHandAndBack) {
  // Two pairs, (1, 3) and (2, 4), turned by a quarter and by nothing: (-3, 1) and (2, 4).
  const float x[] = {1, 2, 3, 4};
  const float rotation[] = {0, 1, 1, 0};
  float y[4];
  Rotate(x, rotation, y, 4);
  EXPECT_EQ(y[0], -3);
  EXPECT_EQ(y[1], 2);
  EXPECT_EQ(y[2], 1);
  EXPECT_EQ(y[3], 4);
  RotateBack(y, rotation, y, 4);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(y[i], x[i]);
}

}  // namespace
}  // namespace rasq
