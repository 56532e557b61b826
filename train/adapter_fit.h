// The linear algebra behind an adapter that no training made: each part is the closed-form best for
// vectors that the decoder gave on calibration text. All in float64, on the arguments' device.
// Source: algorithm.md section 8.
#pragma once

#include <cstdint>

#include "train/torch.h"

namespace rasq::train {

// The directions along which rows x of the second moment sum x x^T are longest: their first right
// singular vectors. Projecting onto them loses as little of sum ||x||^2 as `rank` dimensions can,
// namely the tail of the squared singular values (Eckart and Young 1936).
struct Directions {
  Tensor down;  // [..., rank, width], orthonormal rows, float64
  Tensor kept;  // [...]: the share of sum ||x||^2 that they hold
};
// moment: [..., width, width].
Directions LongestDirections(const Tensor& moment, int64_t rank);

// The W [out, in] of least sum ||y - W x||^2 over rows x [n, in] and y [n, out], with a ridge so
// small that it matters only in directions which the rows x hardly have.
Tensor LeastSquares(const Tensor& x, const Tensor& y);

// W_q, W_c [rank, hidden] such that <W_q x, W_c x'> is the attention logit of a query at hidden
// state x and a key at x', as well as a form of that rank can say it. With q(x) and k(x') the sums
// over the heads' logits are <q, k> = x^T (sum_h W_Qh^T W_Kg(h)) x'. A softmax over keys ignores
// what all keys share, so the error to be least is
//   E_x,x' [ (<q(x), k(x') - E k> - <W_q x, W_c x'>)^2 ],
// with x and x' drawn from the calibration text. With A = E q q^T, D = cov k and the singular
// values A^1/2 D^1/2 = U S V^T that is the first `rank` of them:
//   F_q = S^-1/2 V^T D^1/2 on q,   F_c = S^-1/2 U^T A^1/2 on k.
// Where q and k are not linear in x (biases, norms of heads), W_q and W_c are the least squares.
// Both are scaled to the size of orthonormal rows: only directions of W x count in the index.
struct IndexFit {
  Tensor query_proj, key_proj;  // [rank, hidden]; rows beyond the logits' rank are 0
  double kept;                  // the share of E <q, k - E k>^2 that is left
};
// hidden: [n, hidden width]. query, key: [n, width].
IndexFit FitIndex(const Tensor& hidden, const Tensor& query, const Tensor& key, int64_t rank);

// log g = log sigmoid(w h + b) nearest to the log of the attention that tokens received, as a
// multiple of the mean token's [n]. From the mean up a gate is open: it also dims an entry when it
// is read, so that of a token of average interest must cost it nothing. Least squares on log odds,
// which keep between 0.02 and 0.98.
struct GateFit {
  Tensor weight;  // [1, hidden]
  Tensor bias;    // [1]
};
GateFit FitGate(const Tensor& hidden, const Tensor& received);

}  // namespace rasq::train
