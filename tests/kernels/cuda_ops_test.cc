// The frame of the CUDA backend: memory, copies, random weights, recordings.
#include <gtest/gtest.h>

#include <vector>

#include "kernels/random.h"
#include "tests/support/gpu_twin.h"

namespace rasq {
namespace {

using testing::Arrays;
using testing::DeviceArray;
using testing::Gpu;

TEST(CudaOpsTest, CountsAndCopies) {
  RASQ_NEEDS_GPU();
  Ops& ops = *Gpu();
  EXPECT_EQ(ops.device(), "cuda:0");
  EXPECT_EQ(ops.element(), DType::kBfloat16);
  EXPECT_TRUE(ops.can_record());
  const int64_t before = ops.allocated_bytes();
  {
    auto buffer = ops.Allocate(1000), host = ops.AllocateHost(1000), none = ops.Allocate(0);
    ASSERT_TRUE(buffer.ok() && host.ok() && none.ok());
    EXPECT_EQ(reinterpret_cast<uintptr_t>((*buffer)->data()) % 256, 0u);
    EXPECT_EQ(ops.allocated_bytes(), before + 1000);
    EXPECT_GT(ops.free_bytes(), 0);
    std::vector<std::byte> back(1000, std::byte{1});
    ASSERT_TRUE(ops.CopyToHost(back.data(), (*buffer)->data(), 1000).ok());
    for (int i = 0; i < 1000; ++i) {
      ASSERT_EQ(back[i], std::byte{0});
      ASSERT_EQ((*host)->data()[i], std::byte{0});
    }
    std::vector<int32_t> values = {1, 2, 3};
    std::byte* data = (*buffer)->data();
    ASSERT_TRUE(ops.CopyToDevice(data, values.data(), 12).ok());
    values = {7, 8, 9};  // it was read
    ASSERT_TRUE(ops.CopyOnDevice(data + 16, data, 12).ok());
    ASSERT_TRUE(ops.Zero(data, 12).ok());
    int32_t* pinned = reinterpret_cast<int32_t*>((*host)->data());
    ASSERT_TRUE(ops.CopyToHost(pinned, data, 28).ok());
    EXPECT_EQ(std::vector<int32_t>(pinned, pinned + 7),
              (std::vector<int32_t>{0, 0, 0, 0, 1, 2, 3}));
    pinned[0] = 5;
    ASSERT_TRUE(ops.CopyToDevice(data, pinned, 4).ok());
    ASSERT_TRUE(ops.CopyToHost(values.data(), data, 4).ok());
    EXPECT_EQ(values[0], 5);
    EXPECT_EQ(ops.Zero(data, -1).message(), "Zero: bytes=-1");
    EXPECT_EQ(ops.CopyToHost(nullptr, data, 1).message(), "CopyToHost: to=null");
  }
  EXPECT_EQ(ops.allocated_bytes(), before);
}

TEST(CudaOpsTest, ARefusedAllocationIsForgotten) {
  RASQ_NEEDS_GPU();
  Ops& ops = *Gpu();
  const auto huge = ops.Allocate(int64_t{1} << 50);
  EXPECT_EQ(huge.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(huge.status().message(), "Allocate: bytes=1125899906842624");
  // The next launch does not report it.
  DeviceArray y(ops, 64);
  EXPECT_TRUE(ops.FillRandom(y.data(), 32, 1, 1).ok());
}

TEST(CudaOpsTest, ServesBfloat16Alone) {
  RASQ_NEEDS_GPU();
  EXPECT_FALSE(OpenOps({.device = "cuda", .dtype = "float32"}).ok());
  EXPECT_FALSE(OpenOps({.device = "cuda:999"}).ok());
}

TEST(CudaOpsTest, RandomWeightsAreTheSameOnEveryBackend) {
  RASQ_NEEDS_GPU();
  constexpr int64_t kCount = 100001;
  DeviceArray y(*Gpu(), kCount * 2);
  ASSERT_TRUE(Gpu()->FillRandom(y.data(), kCount, /*scale=*/0.3f, /*seed=*/9).ok());
  const auto got = y.ToHostAs<bfloat16>();
  for (int64_t i = 0; i < kCount; ++i) {
    ASSERT_EQ(got[i].bits, ToBfloat16(WeightAt(9, i, 0.3f)).bits) << i;
  }
  EXPECT_EQ(Gpu()->FillRandom(y.data(), 1, -1, 1).message(), "FillRandom: scale=-1");
  EXPECT_EQ(Gpu()->RandomMatrix(1, 0, 1, 1).status().message(), "RandomMatrix: in=0");
}

// A matrix of several upload blocks, seen through products with unit vectors.
TEST(CudaOpsTest, PackedAndRandomMatrices) {
  RASQ_NEEDS_GPU();
  constexpr int64_t kOut = 1100, kIn = 8192, kRows = 4;
  std::vector<float> weight(kOut * kIn);
  for (int64_t i = 0; i < kOut * kIn; ++i) weight[i] = WeightAt(4, i, 1);
  const auto packed = Gpu()->PackMatrix(weight.data(), kOut, kIn);
  const auto random = Gpu()->RandomMatrix(kOut, kIn, /*scale=*/1, /*seed=*/4);
  ASSERT_TRUE(packed.ok() && random.ok());
  const int64_t columns[kRows] = {0, 1, 4097, kIn - 1};
  Elements x(DType::kBfloat16, kRows * kIn);
  for (int64_t t = 0; t < kRows; ++t) x.Set(t * kIn + columns[t], 1);
  for (const Matrix* matrix : {packed->get(), random->get()}) {
    Arrays arrays(*Gpu());
    DeviceArray& y = arrays.Poisoned(kRows * kOut * 4);
    ASSERT_TRUE(Gpu()
                    ->Gemm({.x = arrays.Put(x),
                            .w = matrix,
                            .y = y.data<float>(),
                            .rows = kRows,
                            .x_stride = kIn,
                            .y_stride = kOut,
                            .accumulate = false})
                    .ok());
    const auto got = y.ToHostAs<float>();
    for (int64_t t = 0; t < kRows; ++t) {
      for (int64_t o = 0; o < kOut; ++o) {
        ASSERT_EQ(got[t * kOut + o], ToFloat(ToBfloat16(weight[o * kIn + columns[t]])));
      }
    }
  }
}

TEST(CudaOpsTest, ReplaysWhatWasRecordedWithWhatIsThereThen) {
  RASQ_NEEDS_GPU();
  Ops& ops = *Gpu();
  const auto matrix = ops.RandomMatrix(64, 64, /*scale=*/1, /*seed=*/1);
  ASSERT_TRUE(matrix.ok());
  Arrays arrays(ops);
  const std::vector<float> first = RandomFloats(2 * 128, 1), second = RandomFloats(2 * 128, 2);
  float* gate_up = arrays.Put(first);
  DeviceArray &x = arrays.Poisoned(2 * 64 * 2), &y = arrays.Poisoned(2 * 64 * 4);
  const auto operations = [&] {
    ASSERT_TRUE(ops.Swiglu({.gate_up = gate_up,
                            .y = x.data(),
                            .element = DType::kBfloat16,
                            .rows = 2,
                            .width = 64})
                    .ok());
    ASSERT_TRUE(ops.Gemm({.x = x.data(),
                          .w = matrix->get(),
                          .y = y.data<float>(),
                          .rows = 2,
                          .x_stride = 64,
                          .y_stride = 64,
                          .accumulate = false})
                    .ok());
  };
  operations();
  const std::vector<std::byte> of_first = y.ToHost();
  ASSERT_TRUE(ops.CopyToDevice(gate_up, second.data(), second.size() * 4).ok());
  ASSERT_TRUE(ops.BeginRecording().ok());
  operations();
  const auto recording = ops.EndRecording();
  ASSERT_TRUE(recording.ok()) << recording.status();
  EXPECT_EQ(y.ToHost(), of_first) << "it ran while it was recorded";
  ASSERT_TRUE(ops.Replay(**recording).ok());
  const std::vector<std::byte> of_second = y.ToHost();
  EXPECT_NE(of_second, of_first);
  ASSERT_TRUE(ops.CopyToDevice(gate_up, first.data(), first.size() * 4).ok());
  ASSERT_TRUE(ops.Replay(**recording).ok());
  EXPECT_EQ(y.ToHost(), of_first);
  ASSERT_TRUE(ops.CopyToDevice(gate_up, second.data(), second.size() * 4).ok());
  operations();
  EXPECT_EQ(y.ToHost(), of_second);
  EXPECT_FALSE(ops.EndRecording().ok());  // none has begun
  EXPECT_TRUE(ops.Zero(gate_up, 4).ok());
}

}  // namespace
}  // namespace rasq
