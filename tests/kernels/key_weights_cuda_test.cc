#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/key_weights.h"
#include "tests/support/attention_world.h"
#include "tests/support/gpu_twin.h"
#include "tests/support/key_weights_cases.h"

namespace rasq {
namespace {

using testing::Arrays;
using testing::DeviceArray;
using testing::Gpu;

class KeyWeightsCudaTest : public ::testing::TestWithParam<KeyWeightsCase> {};

TEST_P(KeyWeightsCudaTest, MatchesDouble) {
  RASQ_NEEDS_GPU();
  const AttentionCase& c = GetParam().attention;
  AttentionWorld world(c, c.chunks, StreamNumbers(c.chunks.size()));
  ThreadPool pool(2);
  ASSERT_TRUE(StreamAttentionCpu(world.Args(), pool).ok());  // for its lse
  const KeyWeightsArgs want = KeyWeightsArgsOf(GetParam(), world);
  Arrays arrays(*Gpu());
  KeyWeightsArgs args = want;
  args.attention = world.ArgsOn(arrays).args;
  args.attention.lse = arrays.Put(world.lse());
  const int64_t size =
      int64_t{args.attention.batch.num_segments} * c.kv_heads * KeyColumns(args.attention.shape);
  DeviceArray& out = arrays.Poisoned(size * static_cast<int64_t>(sizeof(float)));
  args.out = out.data<float>();
  absl::Status status = Gpu()->KeyWeights(args);
  ASSERT_TRUE(status.ok()) << status;
  const std::vector<float> first = out.ToHostAs<float>();
  ExpectKeyWeights(want, first, /*first=*/0);
  // Once more, on top: to the bit twice as much, since sums are always in the same order.
  args.accumulate = true;
  status = Gpu()->KeyWeights(args);
  ASSERT_TRUE(status.ok()) << status;
  const std::vector<float> twice = out.ToHostAs<float>();
  for (size_t i = 0; i < twice.size(); ++i) ASSERT_EQ(twice[i], 2 * first[i]) << i;
}

// Tiles of both widths, and a head narrower than its tile.
std::vector<KeyWeightsCase> Cases() {
  std::vector<KeyWeightsCase> cases;
  for (const int32_t head_dim : {64, 80, 128}) {
    for (const KeyWeightsCase& c : KeyWeightsCases(DType::kBfloat16, head_dim)) cases.push_back(c);
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Shapes, KeyWeightsCudaTest, ::testing::ValuesIn(Cases()));

TEST(KeyWeightsCudaErrorsTest, WidthsThatRowsCannotBeReadIn) {
  RASQ_NEEDS_GPU();
  const KeyWeightsCase c = KeyWeightsCases(DType::kBfloat16, 10)[0];
  AttentionWorld world(c.attention, c.attention.chunks, StreamNumbers(c.attention.chunks.size()));
  KeyWeightsArgs args = KeyWeightsArgsOf(c, world);
  std::vector<float> out(1);
  args.out = out.data();
  EXPECT_EQ(Gpu()->KeyWeights(args).message(), "KeyWeights: head_dim=10");
  args.attention.element = DType::kFloat32;
  EXPECT_EQ(Gpu()->KeyWeights(args).code(), absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace rasq
