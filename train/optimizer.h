// Muon for matrices and AdamW for everything else, with one state for each as a flat or stacked
// tensor. Sources: Jordan et al. 2024, "Muon" (orthogonalised momentum by five Newton-Schulz
// iterations); Loshchilov and Hutter 2019, arXiv:1711.05101.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "train/decoder.h"
#include "train/torch.h"

namespace rasq::train {

struct OptimizerOptions {
  double matrix_rate = 0.02;  // Muon's
  double momentum = 0.95;
  double matrix_decay = 0.01;  // of the rate
  double rate = 3e-3;          // AdamW's
  double beta1 = 0.9, beta2 = 0.95;
  double decay = 0;     // AdamW's, of the rate
  double max_norm = 1;  // AdamW's gradients are scaled down to it; 0: not
};

class Optimizer {
 public:
  // Borrows the parameters' storage: it moves them in place. Those that need no gradient stay.
  Optimizer(const Parameters& parameters, const OptimizerOptions& options);

  // The gradients of all that is trained, in one flat float tensor, zero where there is none; and
  // the same back, after it was averaged over replicas.
  Tensor FlatGradient() const;
  // A step against that gradient, with both rates times `factor`. Returns its norm; a gradient
  // that is not finite moves nothing.
  double Step(const Tensor& flat_gradient, double factor);
  void ClearGradients();

  // What a resumed run needs: "momentum.NAME", "adam.mean", "adam.square", "adam.steps".
  std::map<std::string, Tensor> State() const;
  void SetState(const std::map<std::string, Tensor>& state);

 private:
  struct Stack {
    std::vector<size_t> member;  // indices into trained_, of one shape
    Tensor momentum;             // [members, rows, columns]
  };
  struct Trained {
    std::string name;
    Tensor parameter;
    int64_t offset;  // in the flat gradient
  };
  Tensor Slice(const Tensor& flat, const Trained& trained) const;
  void StepMatrices(const Tensor& gradient, double factor);
  void StepOthers(const Tensor& gradient, double factor);

  const OptimizerOptions options_;
  std::vector<Trained> trained_;
  int64_t size_ = 0;
  std::vector<Stack> stacks_;
  std::vector<size_t> others_;
  Tensor adam_mean_, adam_square_;  // flat, of the others
  int64_t adam_steps_ = 0;
};

// The nearest matrices with orthonormal rows or columns to [matrices, rows, columns], roughly.
Tensor Orthogonalise(const Tensor& matrices);

}  // namespace rasq::train
