// The operations on single rows: embed, RMS norm, SwiGLU.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/embed.h"
#include "kernels/rms_norm.h"
#include "kernels/swiglu.h"
#include "tests/support/tensors.h"

namespace rasq {
namespace {

constexpr DType kTypes[] = {DType::kFloat32, DType::kBfloat16};

TEST(EmbedTest, TakesRowsAndLeavesThoseWithoutToken) {
  ThreadPool pool(2);
  for (const DType type : kTypes) {
    const Elements table(type, {1, 2, 3, 4, 5, 6});  // three tokens of two
    const std::vector<int32_t> ids = {2, -1, 0};
    std::vector<float> y(6, 9);
    EmbedArgs args{.table = table.data(),
                   .element = type,
                   .token_id = ids.data(),
                   .y = y.data(),
                   .rows = 3,
                   .hidden = 2,
                   .vocab = 3};
    ASSERT_TRUE(EmbedCpu(args, pool).ok());
    EXPECT_EQ(y, (std::vector<float>{5, 6, 9, 9, 1, 2}));
  }
}

TEST(EmbedTest, ArgumentErrors) {
  ThreadPool pool(1);
  const std::vector<float> table(4);
  std::vector<int32_t> ids = {0, 2};
  std::vector<float> y(4);
  EmbedArgs args{.table = table.data(),
                 .element = DType::kFloat32,
                 .token_id = ids.data(),
                 .y = y.data(),
                 .rows = 2,
                 .hidden = 2,
                 .vocab = 2};
  EXPECT_EQ(EmbedCpu(args, pool).message(), "Embed: token_id[1]=2 with vocab=2");
  ids[1] = -2;
  EXPECT_EQ(EmbedCpu(args, pool).message(), "Embed: token_id[1]=-2 with vocab=2");
  args.hidden = 0;
  EXPECT_EQ(ValidateEmbed(args).message(), "Embed: hidden=0");
}

TEST(RmsNormTest, ByHand) {
  // Row (3, 4): mean of squares 12.5; with epsilon 12.5 the root is 5: (0.6, 0.8) times (1, 2).
  // Row (0, 5): the same mean: (0, 1) times (1, 2). They are asked for in reverse.
  ThreadPool pool(2);
  const std::vector<float> x = {3, 4, -1, 0, 5, -1}, weight = {1, 2};
  const std::vector<int32_t> row = {1, 0};
  for (const DType type : kTypes) {
    Elements y(type, 4);
    RmsNormArgs args{.x = x.data(),
                     .row = row.data(),
                     .weight = weight.data(),
                     .y = y.data(),
                     .element = type,
                     .rows = 2,
                     .hidden = 2,
                     .x_stride = 3,
                     .epsilon = 12.5f};
    ASSERT_TRUE(RmsNormCpu(args, pool).ok());
    const float want[] = {0, 2, 0.6f, 1.6f};
    for (int i = 0; i < 4; ++i) EXPECT_NEAR(y[i], want[i], 4 * Rounding(type) * want[i]) << i;
  }
}

TEST(RmsNormTest, OddShapesMatchDouble) {
  ThreadPool pool(2);
  for (const DType type : kTypes) {
    for (const int64_t hidden : {1, 31, 257, 4096}) {
      const int64_t rows = 9, stride = hidden + 3;
      const auto x = RandomFloats(rows * stride, /*seed=*/1), w = RandomFloats(hidden, /*seed=*/2);
      Elements y(type, rows * hidden);
      RmsNormArgs args{.x = x.data(),
                       .row = nullptr,
                       .weight = w.data(),
                       .y = y.data(),
                       .element = type,
                       .rows = rows,
                       .hidden = hidden,
                       .x_stride = stride,
                       .epsilon = 1e-6f};
      ASSERT_TRUE(RmsNormCpu(args, pool).ok());
      for (int64_t t = 0; t < rows; ++t) {
        double sum = 0;
        for (int64_t i = 0; i < hidden; ++i) sum += double{x[t * stride + i]} * x[t * stride + i];
        const double scale = 1 / std::sqrt(sum / hidden + 1e-6);
        for (int64_t i = 0; i < hidden; ++i) {
          const double want = x[t * stride + i] * scale * w[i];
          // The sum of up to 4096 squares in 16 or more lanes: 2^-16; then four roundings.
          EXPECT_NEAR(y[t * hidden + i], want, std::abs(want) * (0x1p-15 + Rounding(type)));
        }
      }
    }
  }
}

TEST(RmsNormTest, ArgumentErrors) {
  float x = 1;
  const RmsNormArgs good{.x = &x,
                         .row = nullptr,
                         .weight = &x,
                         .y = &x,
                         .element = DType::kFloat32,
                         .rows = 1,
                         .hidden = 1,
                         .x_stride = 1,
                         .epsilon = 1e-6f};
  RmsNormArgs args = good;
  args.epsilon = 0;
  EXPECT_EQ(ValidateRmsNorm(args).message(), "RmsNorm: epsilon=0");
  args = good;
  args.hidden = 65537;
  EXPECT_EQ(ValidateRmsNorm(args).message(), "RmsNorm: hidden=65537");
  args = good;
  args.x_stride = 0;
  EXPECT_EQ(ValidateRmsNorm(args).message(), "RmsNorm: x_stride=0");
  ThreadPool pool(1);
  const int32_t row = -1;
  args = good;
  args.row = &row;
  EXPECT_EQ(RmsNormCpu(args, pool).message(), "RmsNorm: row[0]=-1");
}

TEST(SwigluTest, ByHandAndFarOut) {
  // silu(0) = 0; silu(ln 3) = ln 3 * 3/4; far out silu(x) is x or 0.
  ThreadPool pool(2);
  const std::vector<float> gate_up = {0, 1.09861229f, 200, -200, 5, 2, 3, 4};
  for (const DType type : kTypes) {
    Elements y(type, 4);
    SwigluArgs args{
        .gate_up = gate_up.data(), .y = y.data(), .element = type, .rows = 1, .width = 4};
    ASSERT_TRUE(SwigluCpu(args, pool).ok());
    EXPECT_EQ(y[0], 0);
    EXPECT_NEAR(y[1], 1.09861229f * 0.75f * 2, 4 * Rounding(type));
    EXPECT_EQ(y[2], 600);
    EXPECT_NEAR(y[3], 0, 1e-30);
  }
}

TEST(SwigluTest, OddShapesMatchDouble) {
  ThreadPool pool(2);
  for (const DType type : kTypes) {
    for (const int64_t width : {1, 7, 33, 1024}) {
      const int64_t rows = 40;
      const auto x = RandomFloats(rows * 2 * width, /*seed=*/3, /*scale=*/8);
      Elements y(type, rows * width);
      SwigluArgs args{
          .gate_up = x.data(), .y = y.data(), .element = type, .rows = rows, .width = width};
      ASSERT_TRUE(SwigluCpu(args, pool).ok());
      for (int64_t t = 0; t < rows; ++t) {
        for (int64_t i = 0; i < width; ++i) {
          const double g = x[t * 2 * width + i], u = x[t * 2 * width + width + i];
          const double want = g / (1 + std::exp(-g)) * u;
          // exp within 3e-7, four more roundings, and the store.
          EXPECT_NEAR(y[t * width + i], want, std::abs(want) * (6e-7 + Rounding(type)));
        }
      }
    }
  }
}

TEST(SwigluTest, ArgumentErrors) {
  SwigluArgs args{
      .gate_up = nullptr, .y = nullptr, .element = DType::kFloat32, .rows = 1, .width = 1};
  EXPECT_EQ(ValidateSwiglu(args).message(), "Swiglu: gate_up=null");
  args.width = 0;
  EXPECT_EQ(ValidateSwiglu(args).message(), "Swiglu: width=0");
  args.rows = -1;
  EXPECT_EQ(ValidateSwiglu(args).message(), "Swiglu: rows=-1");
}

}  // namespace
}  // namespace rasq
