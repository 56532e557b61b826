// Log-probabilities of tokens on the GPU against the CPU's.
#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/gpu_twin.h"

namespace rasq::testing {
namespace {

std::vector<float> RunOn(Ops& ops, const std::vector<float>& logits,
                         const std::vector<int32_t>& token) {
  Arrays arrays(ops);
  const auto rows = static_cast<int64_t>(token.size());
  DeviceArray& logprob = arrays.Poisoned(rows * 4);
  const absl::Status status =
      ops.TokenLogprobs({.logits = arrays.Put(logits),
                         .token = arrays.Put(token),
                         .rows = rows,
                         .vocab = static_cast<int64_t>(logits.size()) / rows,
                         .logprob = logprob.data<float>()});
  EXPECT_TRUE(status.ok()) << status;
  return logprob.ToHostAs<float>();
}

struct Shape {
  int64_t rows, vocab;
};
void PrintTo(const Shape& shape, std::ostream* os) { *os << shape.rows << "x" << shape.vocab; }

class TokenLogprobsCudaTest : public ::testing::TestWithParam<Shape> {};
// Less than a warp, less than a block, several turns, a large vocabulary.
INSTANTIATE_TEST_SUITE_P(All, TokenLogprobsCudaTest,
                         ::testing::Values(Shape{1, 1}, Shape{3, 31}, Shape{2, 511},
                                           Shape{64, 8192}, Shape{5, 151936}));

TEST_P(TokenLogprobsCudaTest, MatchesCpu) {
  RASQ_NEEDS_GPU();
  if (Cpu() == nullptr) GTEST_SKIP() << "no bfloat16 on this processor";
  const auto [rows, vocab] = GetParam();
  std::vector<float> logits = RandomFloats(rows * vocab, /*seed=*/1, /*scale=*/8);
  std::vector<int32_t> token(rows);
  for (int64_t t = 0; t < rows; ++t) token[t] = static_cast<int32_t>(t * 7919 % vocab);
  if (vocab > 2) logits[0] = std::numeric_limits<float>::quiet_NaN();  // never, and asked for
  const std::vector<float> want = RunOn(*Cpu(), logits, token);
  const std::vector<float> got = RunOn(*Gpu(), logits, token);
  for (int64_t t = 0; t < rows; ++t) {
    if (std::isinf(want[t])) {
      EXPECT_EQ(got[t], want[t]) << t;
    } else {
      // Both round differences and logarithms of at most 32 once or twice; the sums' errors are
      // relative, and a logarithm makes them absolute: some 1e-6.
      EXPECT_NEAR(got[t], want[t], 2e-5) << t;
    }
  }
}

TEST(TokenLogprobsCudaRowTest, ARowDoesNotDependOnTheOthers) {
  RASQ_NEEDS_GPU();
  constexpr int64_t kVocab = 4099;
  const std::vector<float> logits = RandomFloats(9 * kVocab, /*seed=*/2);
  const std::vector<float> all = RunOn(*Gpu(), logits, {0, 1, 2, 3, 4, 5, 6, 7, 8});
  const std::vector<float> alone =
      RunOn(*Gpu(), {logits.begin() + 6 * kVocab, logits.begin() + 7 * kVocab}, {6});
  EXPECT_EQ(alone[0], all[6]);
}

TEST(TokenLogprobsCudaRowTest, ARowWithoutAFiniteLogit) {
  RASQ_NEEDS_GPU();
  const std::vector<float> got =
      RunOn(*Gpu(), std::vector<float>(300, std::numeric_limits<float>::infinity()), {7});
  EXPECT_EQ(got[0], -std::numeric_limits<float>::infinity());
}

}  // namespace
}  // namespace rasq::testing
