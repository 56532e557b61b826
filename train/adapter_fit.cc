#include "train/adapter_fit.h"

#include <algorithm>
#include <cmath>
#include <tuple>

namespace rasq::train {
namespace {

// Of the mean square of a row's elements: hidden states of language models have directions some
// thousand times weaker than the mean one, and nothing but rounding below that.
constexpr double kRidge = 1e-5;
constexpr double kNegligible = 1e-9;  // singular values below this share of the largest are noise
constexpr double kLeastGate = 0.02;

Tensor Wide(const Tensor& x) { return x.detach().to(torch::kFloat64); }

// The symmetric root of a matrix with eigenvalues >= 0.
Tensor Root(const Tensor& moment) {
  const auto [values, vectors] = at::linalg_eigh(moment);
  return torch::matmul(vectors * values.clamp_min(0).sqrt(), vectors.t());
}

}  // namespace

Directions LongestDirections(const Tensor& moment, int64_t rank) {
  const auto [ascending, vectors] = at::linalg_eigh(Wide(moment));
  const Tensor values = ascending.clamp_min(0);
  const int64_t width = values.size(-1);
  return {vectors.narrow(-1, width - rank, rank).flip({-1}).transpose(-2, -1).contiguous(),
          values.narrow(-1, width - rank, rank).sum(-1) / values.sum(-1).clamp_min(1e-300)};
}

Tensor LeastSquares(const Tensor& x, const Tensor& y) {
  const Tensor rows = Wide(x);
  Tensor gram = torch::matmul(rows.t(), rows);
  gram.diagonal().add_(gram.diagonal().mean() * kRidge);
  return std::get<0>(at::linalg_solve_ex(gram, torch::matmul(rows.t(), Wide(y)))).t();
}

IndexFit FitIndex(const Tensor& hidden, const Tensor& query, const Tensor& key, int64_t rank) {
  const Tensor q = Wide(query);
  const Tensor k = Wide(key) - Wide(key).mean(0, true);
  const auto count = static_cast<double>(q.size(0));
  const Tensor of_queries = Root(torch::matmul(q.t(), q) / count);
  const Tensor of_keys = Root(torch::matmul(k.t(), k) / count);
  const auto [u, values, vt] =
      at::linalg_svd(torch::matmul(of_queries, of_keys), /*full_matrices=*/false);
  const int64_t used = std::min(rank, values.size(0));
  const Tensor first = values.narrow(0, 0, used);
  const Tensor weight =
      torch::where(first > values[0] * kNegligible, first.rsqrt(), torch::zeros_like(first));
  const auto project = [&](const Tensor& directions, const Tensor& root, const Tensor& rows) {
    const Tensor form = torch::matmul(directions * weight.unsqueeze(1), root);
    const Tensor fitted = LeastSquares(hidden, torch::matmul(rows, form.t()));
    const Tensor sized =
        fitted * (std::sqrt(static_cast<double>(used)) / fitted.norm().clamp_min(1e-300));
    return torch::constant_pad_nd(sized, {0, 0, 0, rank - used});
  };
  return {project(vt.narrow(0, 0, used), of_keys, q),
          project(u.t().narrow(0, 0, used), of_queries, k),
          (first.square().sum() / values.square().sum().clamp_min(1e-300)).item<double>()};
}

GateFit FitGate(const Tensor& hidden, const Tensor& received) {
  const Tensor rows = Wide(hidden);
  const Tensor open = Wide(received).clamp(kLeastGate, 1 - kLeastGate).unsqueeze(1);
  const Tensor odds = (open / (1 - open)).log();
  const Tensor mean_row = rows.mean(0, true), mean_odds = odds.mean(0);
  const Tensor weight = LeastSquares(rows - mean_row, odds - mean_odds);
  return {weight, mean_odds - torch::matmul(mean_row, weight.t()).squeeze(0)};
}

}  // namespace rasq::train
