// The operations on single rows on the GPU: embed, RMS norm, SwiGLU.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/support/gpu_batches.h"

namespace rasq {
namespace {

using testing::Arrays;
using testing::DeviceArray;
using testing::Gpu;

constexpr DType kType = DType::kBfloat16;

TEST(EmbedCudaTest, MatchesCpu) {
  RASQ_NEEDS_GPU();
  const std::vector<int32_t> ids = {2, -1, 0, 6, 6};
  const int64_t rows = ids.size(), vocab = 7;
  for (const int64_t hidden : {1, 3, 8, 1000, 4096}) {
    for (const int64_t shift : {0, 1}) {  // elements that the table lies off its alignment
      const Elements table(kType, RandomFloats(vocab * hidden + shift, /*seed=*/1));
      std::vector<float> want(rows * hidden, testing::Poison());
      EmbedArgs args{.table = table.bytes().data() + shift * 2,
                     .element = kType,
                     .token_id = ids.data(),
                     .y = want.data(),
                     .rows = rows,
                     .hidden = hidden,
                     .vocab = vocab};
      ThreadPool pool(1);
      ASSERT_TRUE(EmbedCpu(args, pool).ok());
      Arrays arrays(*Gpu());
      args.table = static_cast<std::byte*>(arrays.Put(table)) + shift * 2;
      args.token_id = arrays.Put(ids);
      DeviceArray& y = arrays.Poisoned(rows * hidden * 4);
      args.y = y.data<float>();
      ASSERT_TRUE(Gpu()->Embed(args).ok());
      testing::ExpectNear(y.ToHostAs<float>(), want, 0, 0);
    }
  }
}

TEST(RmsNormCudaTest, MatchesCpuAndRowsDoNotDependOnEachOther) {
  RASQ_NEEDS_GPU();
  ThreadPool pool(2);
  // Each number of elements a thread, vectors and none (by width, stride, or alignment).
  for (const int64_t hidden : {1, 31, 1024, 1028, 2050, 4096, 4097, 8192, 8196, 8198, 65536}) {
    for (const int64_t pad : {0, 3, 4}) {
      for (const bool gather : {false, true}) {
        const int64_t rows = 6, stride = hidden + pad;
        const auto x = RandomFloats(rows * stride, /*seed=*/1, /*scale=*/3);
        const auto weight = RandomFloats(hidden, /*seed=*/2);
        const std::vector<int32_t> row = {5, 0, 0, 3, 1, 2};
        Elements want(kType, rows * hidden);
        RmsNormArgs args{.x = x.data(),
                         .row = gather ? row.data() : nullptr,
                         .weight = weight.data(),
                         .y = want.data(),
                         .element = kType,
                         .rows = rows,
                         .hidden = hidden,
                         .x_stride = stride,
                         .epsilon = 1e-5f};
        ASSERT_TRUE(RmsNormCpu(args, pool).ok());
        Arrays arrays(*Gpu());
        const float* device_x = arrays.Put(x);
        args.x = device_x;
        args.row = gather ? arrays.Put(row) : nullptr;
        args.weight = arrays.Put(weight);
        DeviceArray& y = arrays.Poisoned(rows * hidden * 2);
        args.y = y.data();
        ASSERT_TRUE(Gpu()->RmsNorm(args).ok());
        testing::ExpectBfloat16Near(y, want);
        if (gather) continue;
        const std::vector<std::byte> all = y.ToHost();
        for (int64_t t = 0; t < rows; ++t) {
          DeviceArray& one = arrays.Poisoned(hidden * 2);
          args.rows = 1;
          args.x = device_x + t * stride;
          args.y = one.data();
          ASSERT_TRUE(Gpu()->RmsNorm(args).ok());
          ASSERT_EQ(std::memcmp(one.ToHost().data(), all.data() + t * hidden * 2, hidden * 2), 0)
              << hidden << " " << pad << " " << t;
        }
      }
    }
  }
}

TEST(SwigluCudaTest, MatchesCpu) {
  RASQ_NEEDS_GPU();
  ThreadPool pool(2);
  struct Shape {
    int64_t rows, width;
  };
  // The last has more rows than a grid is high.
  for (const Shape shape : {Shape{3, 1}, {5, 7}, {37, 1024}, {2, 1028}, {3, 14336}, {70000, 4}}) {
    auto x = RandomFloats(shape.rows * 2 * shape.width, /*seed=*/3, /*scale=*/8);
    x[0] = 200;
    x[2 * shape.width] = -200;
    Elements want(kType, shape.rows * shape.width);
    SwigluArgs args{.gate_up = x.data(),
                    .y = want.data(),
                    .element = kType,
                    .rows = shape.rows,
                    .width = shape.width};
    ASSERT_TRUE(SwigluCpu(args, pool).ok());
    Arrays arrays(*Gpu());
    args.gate_up = arrays.Put(x);
    DeviceArray& y = arrays.Poisoned(shape.rows * shape.width * 2);
    args.y = y.data();
    ASSERT_TRUE(Gpu()->Swiglu(args).ok());
    // Far out, the CPU gives zero where a subnormal number is exact.
    testing::ExpectBfloat16Near(y, want, /*absolute=*/1e-30);
  }
}

TEST(RowsCudaTest, ServesBfloat16Alone) {
  RASQ_NEEDS_GPU();
  const SwigluArgs args{
      .gate_up = nullptr, .y = nullptr, .element = DType::kFloat32, .rows = 0, .width = 1};
  EXPECT_EQ(Gpu()->Swiglu(args).code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(Gpu()->Swiglu(args).message(), "Swiglu: element=float32");
}

}  // namespace
}  // namespace rasq
