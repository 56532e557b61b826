// The tiny model of tests/testdata with a budget head beside its adapter: a checkpoint of its own,
// since the head was trained for no model yet.
#pragma once

#include <string>
#include <vector>

#include "tests/support/tensors.h"
#include "tests/support/tiny_checkpoint.h"

namespace rasq::testing {

class TinyWithBudgetHead : public TinyCheckpoint {
 public:
  // Random heads, of weights so large that segments differ in what they choose.
  explicit TinyWithBudgetHead(const std::vector<float>& factors)
      : TinyCheckpoint({{"budget_factors", factors}}, Heads(factors)) {}

 private:
  static Tensors Heads(const std::vector<float>& factors) {
    constexpr int64_t kDim = 16;  // its retrieval_dim
    const auto num_factors = static_cast<int64_t>(factors.size());
    Tensors heads;
    for (const int layer : {1, 2}) {  // its retrieval layers
      const std::string head = "layers." + std::to_string(layer) + ".retriever.budget.";
      heads[head + "weight"] = {{num_factors, kDim}, RandomFloats(num_factors * kDim, layer, 20)};
      heads[head + "bias"] = {{num_factors}, RandomFloats(num_factors, 10 + layer)};
    }
    return heads;
  }
};

}  // namespace rasq::testing
