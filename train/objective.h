// The hybrid loss of one batch. Source: algorithm.md section 7.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "train/batch.h"
#include "train/decoder.h"
#include "train/recipe.h"
#include "train/torch.h"

namespace rasq::train {

struct Objective {
  Tensor total;  // carries the gradient; without the policy's term
  // Scalars on the device, without gradient, by name: "task", "retrieval", "recall", "alive",
  // "gate", "keep", "budget", "compression"; with a teacher "attention_read" in place of "recall"
  // and "alive", and "task" and "retrieval" are divergences from it. Under full attention only
  // "full_task" and "full_right", the share of answers that are right.
  std::map<std::string, Tensor> terms;

  // Of the batch's answers; undefined if there are none, or under full attention.
  Tensor answer_log_probability;  // float [rows]: mean over an answer's tokens
  Tensor answer_right;            // bool [rows]: all its tokens are the likeliest
  // If the probe explored.
  Tensor log_probability;  // float [rows]: of everything that was drawn; with gradient
  Tensor mean_budget;      // float [rows]: over the layers, of the most
  std::vector<Retrieval> retrievals;
};

// The probe's rows are the batch's answers, or with a teacher the options' own (DrawSegments); how
// it explores is the options'.
Objective ComputeObjective(const Decoder& decoder, const Batch& batch, const Phase& phase,
                           const ForwardOptions& options);

}  // namespace rasq::train
