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
