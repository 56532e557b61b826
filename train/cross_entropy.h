// The loss of predicting tokens, and its gradient, without ever holding the logits of all tokens:
// rows go through the output matrix in blocks, and each block's gradient is taken at once.
#pragma once

#include "train/torch.h"

namespace rasq::train {

struct TokenLosses {
  Tensor mean;   // float scalar: sum of weight * loss over sum of weights; carries the gradient
  Tensor each;   // float [rows]: -log p(target)
  Tensor right;  // bool [rows]: the target has the largest logit
};

// hidden: [rows, width], in the compute type. head: float [vocab, width]. target: int64 [rows].
// weight: float [rows], >= 0; rows of weight 0 cost nothing but their place.
TokenLosses CrossEntropy(const Tensor& hidden, const Tensor& head, const Tensor& target,
                         const Tensor& weight);

}  // namespace rasq::train
