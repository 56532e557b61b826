#include "kernels/ops.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "tests/support/tensors.h"

namespace rasq {
namespace {

TEST(OpsTest, CpuCountsWhatIsAllocated) {
  auto made = OpenOps({.device = "cpu", .threads = 2, .dtype = "float32"});
  ASSERT_TRUE(made.ok()) << made.status();
  Ops& ops = **made;
  EXPECT_EQ(ops.device(), "cpu");
  EXPECT_EQ(ops.element(), DType::kFloat32);
  EXPECT_EQ(ops.allocated_bytes(), 0);
  {
    auto buffer = ops.Allocate(1000);
    ASSERT_TRUE(buffer.ok());
    std::byte* data = (*buffer)->data();
    EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % 256, 0u);
    for (int i = 0; i < 1000; ++i) ASSERT_EQ(data[i], std::byte{0});
    EXPECT_EQ(ops.allocated_bytes(), 1000);

    const std::vector<float> w = RandomFloats(70 * 30, 1);
    auto matrix = ops.PackMatrix(w.data(), 70, 30);
    ASSERT_TRUE(matrix.ok());
    const int64_t with_matrix = ops.allocated_bytes();
    EXPECT_EQ(with_matrix, 1000 + (*matrix)->bytes());
    const std::vector<float> x = RandomFloats(100 * 30, 2);
    std::vector<float> y(100 * 70);
    ASSERT_TRUE(ops.Gemm({.x = x.data(),
                          .w = matrix->get(),
                          .y = y.data(),
                          .rows = 100,
                          .x_stride = 30,
                          .y_stride = 70,
                          .accumulate = false})
                    .ok());
    EXPECT_EQ(ops.allocated_bytes(), with_matrix);

    const int32_t values[] = {1, 2, 3};
    int32_t back[3] = {};
    ASSERT_TRUE(ops.CopyToDevice(data, values, 12).ok());
    ASSERT_TRUE(ops.CopyOnDevice(data + 16, data, 12).ok());
    ASSERT_TRUE(ops.Zero(data, 12).ok());
    ASSERT_TRUE(ops.CopyToHost(back, data + 16, 12).ok());
    EXPECT_EQ(back[2], 3);
    EXPECT_EQ(data[0], std::byte{0});
    EXPECT_EQ(ops.Zero(data, -1).message(), "Zero: bytes=-1");
    EXPECT_EQ(ops.CopyToHost(nullptr, data, 1).message(), "CopyToHost: to=null");
  }
  EXPECT_EQ(ops.allocated_bytes(), 0);
}

TEST(OpsTest, HostMemoryIsNotCounted) {
  auto ops = OpenOps({.device = "cpu"});
  ASSERT_TRUE(ops.ok());
  auto buffer = (*ops)->AllocateHost(1000);
  ASSERT_TRUE(buffer.ok());
  EXPECT_EQ((*buffer)->bytes(), 1000);
  EXPECT_EQ(reinterpret_cast<uintptr_t>((*buffer)->data()) % 256, 0u);
  for (int i = 0; i < 1000; ++i) ASSERT_EQ((*buffer)->data()[i], std::byte{0});
  EXPECT_EQ((*ops)->allocated_bytes(), 0);
  EXPECT_GT((*ops)->free_bytes(), 0);
  EXPECT_EQ((*ops)->AllocateHost(-1).status().message(), "AllocateHost: bytes=-1");
}

TEST(OpsTest, RandomWeightsAreUniformAndOfTheSeedAlone) {
  constexpr int64_t kOut = 50, kIn = 64, kCount = kOut * kIn;
  std::vector<float> first;
  for (const int threads : {1, 3}) {
    auto made = OpenOps({.device = "cpu", .threads = threads, .dtype = "float32"});
    ASSERT_TRUE(made.ok()) << made.status();
    Ops& ops = **made;
    std::vector<float> x(kCount), other(kCount), y(kOut);
    ASSERT_TRUE(ops.FillRandom(x.data(), kCount, /*scale=*/0.5f, /*seed=*/7).ok());
    ASSERT_TRUE(ops.FillRandom(other.data(), kCount, /*scale=*/0.5f, /*seed=*/8).ok());
    double mean = 0, square = 0, product = 0;
    for (int64_t i = 0; i < kCount; ++i) {
      ASSERT_GE(x[i], -0.5f);
      ASSERT_LT(x[i], 0.5f);
      mean += x[i] / double{kCount};
      square += double{x[i]} * x[i] / kCount;
      product += double{x[i]} * other[i] / kCount;
    }
    // Five standard deviations of the means: 1/sqrt(12), 1/sqrt(180) and 1/12, over sqrt(3200).
    EXPECT_NEAR(mean, 0, 0.026);
    EXPECT_NEAR(square, 1.0 / 12, 0.0066);
    EXPECT_NEAR(product, 0, 0.0074);
    if (first.empty()) first = x;
    EXPECT_EQ(x, first);
    // A matrix has the same numbers: the first column shows.
    auto matrix = ops.RandomMatrix(kOut, kIn, /*scale=*/0.5f, /*seed=*/7);
    ASSERT_TRUE(matrix.ok()) << matrix.status();
    std::vector<float> unit(kIn);
    unit[0] = 1;
    ASSERT_TRUE(ops.Gemm({.x = unit.data(),
                          .w = matrix->get(),
                          .y = y.data(),
                          .rows = 1,
                          .x_stride = kIn,
                          .y_stride = kOut,
                          .accumulate = false})
                    .ok());
    for (int64_t o = 0; o < kOut; ++o) EXPECT_EQ(y[o], x[o * kIn]);
    EXPECT_EQ(ops.RandomMatrix(0, 1, 1, 1).status().message(), "RandomMatrix: out=0");
    EXPECT_EQ(ops.FillRandom(x.data(), -1, 1, 1).message(), "FillRandom: count=-1");
    EXPECT_EQ(ops.FillRandom(x.data(), 1, -1, 1).message(), "FillRandom: scale=-1");
  }
}

TEST(OpsTest, RefusesWhatThereIsNot) {
  auto ops = OpenOps({.device = "cpu"});
  ASSERT_TRUE(ops.ok());
  const auto huge = (*ops)->Allocate(int64_t{1} << 60);
  EXPECT_EQ(huge.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(huge.status().message(), "Allocate: bytes=1152921504606846976");
  EXPECT_EQ((*ops)->Allocate(-1).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(OpsTest, OptionsAreChecked) {
  EXPECT_EQ(OpenOps({.device = "tpu"}).status().message(), "OpsOptions: device=tpu");
  EXPECT_EQ(OpenOps({.device = "cuda:x"}).status().message(), "OpsOptions: device=cuda:x");
  EXPECT_EQ(OpenOps({.device = "cuda:-1"}).status().message(), "OpsOptions: device=cuda:-1");
  EXPECT_EQ(OpenOps({.device = "cpu", .dtype = "int4"}).status().message(),
            "OpsOptions: dtype=int4");
  EXPECT_EQ(OpenOps({.device = "cpu", .threads = -1}).status().message(), "OpsOptions: threads=-1");
}

TEST(OpsTest, AutoAlwaysFindsADevice) {
  auto ops = OpenOps({.device = "auto"});
  ASSERT_TRUE(ops.ok()) << ops.status();
  EXPECT_FALSE((*ops)->device().empty());
}

TEST(OpsTest, AMissingModuleSaysWhatWasTried) {
  auto ops = OpenOps({.device = "cuda:0"});
  if (ops.ok()) GTEST_SKIP() << "there is a GPU";
  EXPECT_EQ(ops.status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace rasq
