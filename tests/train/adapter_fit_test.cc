// The adapter's closed forms against what they must be least or equal to.
#include "train/adapter_fit.h"

#include "gtest/gtest.h"

namespace rasq::train {
namespace {

// Rows whose directions differ in length, as hidden states' do.
Tensor Rows(int64_t count, int64_t width, uint64_t seed) {
  torch::manual_seed(seed);
  const Tensor mixed = torch::randn({width, width}, torch::kFloat64) *
                       torch::linspace(2, 0.1, width, torch::kFloat64).unsqueeze(1);
  return torch::matmul(torch::randn({count, width}, torch::kFloat64), mixed) + 0.5;
}

double Correlation(const Tensor& a, const Tensor& b) {
  const Tensor x = a - a.mean(), y = b - b.mean();
  return ((x * y).sum() / (x.norm() * y.norm())).item<double>();
}

TEST(AdapterFitTest, DirectionsLoseTheTailOfTheSingularValues) {
  const Tensor rows = Rows(200, 12, 1);
  const Directions found = LongestDirections(torch::matmul(rows.t(), rows), 5);
  const Tensor down = found.down;
  EXPECT_TRUE(torch::allclose(torch::matmul(down, down.t()), torch::eye(5, torch::kFloat64)));
  const Tensor lost = rows - torch::matmul(torch::matmul(rows, down.t()), down);
  const Tensor squares = at::linalg_svdvals(rows).square();
  const double tail = squares.narrow(0, 5, 7).sum().item<double>();
  EXPECT_NEAR(lost.square().sum().item<double>(), tail, 1e-9 * squares[0].item<double>());
  EXPECT_NEAR(found.kept.item<double>(), 1 - tail / squares.sum().item<double>(), 1e-9);
}

TEST(AdapterFitTest, LeastSquaresFindsTheMap) {
  const Tensor x = Rows(100, 8, 2);
  const Tensor map = torch::randn({3, 8}, torch::kFloat64);
  EXPECT_TRUE(torch::allclose(LeastSquares(x, torch::matmul(x, map.t())), map, 1e-2, 1e-2));
}

class IndexFitTest : public ::testing::TestWithParam<int64_t> {};

// All pairs of rows: the correlation of the index's products with the logits is the best that a
// form of that rank has, which FitIndex says beforehand.
TEST_P(IndexFitTest, KeepsAsMuchOfTheLogitsAsItsRankCan) {
  const int64_t rank = GetParam();
  const Tensor hidden = Rows(400, 16, 3);
  const Tensor query = torch::matmul(hidden, torch::randn({16, 8}, torch::kFloat64));
  const Tensor key = torch::matmul(hidden, torch::randn({16, 8}, torch::kFloat64));
  const IndexFit fit = FitIndex(hidden, query, key + 3, rank);  // what all keys share is nothing
  ASSERT_EQ(fit.query_proj.sizes(), (std::vector<int64_t>{rank, 16}));
  ASSERT_EQ(fit.key_proj.sizes(), (std::vector<int64_t>{rank, 16}));
  const Tensor logits = torch::matmul(query, (key - key.mean(0, true)).t());
  const Tensor ours = torch::matmul(torch::matmul(hidden, fit.query_proj.t()),
                                    torch::matmul(hidden, fit.key_proj.t()).t());
  const double cosine = ((logits * ours).sum() / (logits.norm() * ours.norm())).item<double>();
  // Centring by a linear form of rows without a constant is nearly, not quite, what it should be.
  EXPECT_NEAR(cosine * cosine, fit.kept, 0.02);
  EXPECT_NEAR(fit.kept, 1, rank >= 8 ? 1e-9 : 0.5);
  EXPECT_EQ(fit.kept < 0.999, rank < 8);
}

INSTANTIATE_TEST_SUITE_P(Ranks, IndexFitTest, ::testing::Values(2, 4, 8, 12),
                         ::testing::PrintToStringParamName());

TEST(AdapterFitTest, GateIsOpenForWhatIsReadAndShutForWhatIsNot) {
  const Tensor hidden = Rows(2000, 6, 4);
  const Tensor direction = torch::randn({6, 1}, torch::kFloat64) / 4;
  const Tensor odds = torch::matmul(hidden, direction).squeeze(1) - 0.5;
  const GateFit exact = FitGate(hidden, odds.clamp(-3, 3).sigmoid());
  const Tensor got = torch::matmul(hidden, exact.weight.t()).squeeze(1) + exact.bias;
  EXPECT_GT(Correlation(got, odds), 0.98);
  // Three times the mean's attention opens no wider than the mean's.
  const GateFit even = FitGate(hidden, torch::full({2000}, 3.0));
  EXPECT_LT(even.weight.abs().max().item<double>(), 1e-6);
  EXPECT_GT(even.bias.sigmoid().item<double>(), 0.97);
}

}  // namespace
}  // namespace rasq::train
