// What a training run does, as a JSON file says it: phases one after another, each with its
// streams, its losses and what it trains. Lengths are in tokens, so a run can be cut and go on
// anywhere.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/json_reader.h"
#include "train/optimizer.h"

namespace rasq::train {

enum class PolicyMethod { kNone, kReinforce, kPpo };
enum class Trains { kAll, kAdapter, kDecoder };
// What tokens are predicted and memory is searched against: the text and its marked evidence, or
// the decoder itself with full attention (distillation.h).
enum class Teacher { kNone, kFullAttention };

// Factors of the hybrid loss's terms (algorithm.md section 7).
struct LossWeights {
  double task = 1;
  double retrieval = 0.3;
  double compression = 0.1;
  double gate = 0.02;  // of the mean gate
  double keep = 0.05;  // of - log g, mean over evidence
  double budget = 0;   // of the mean budget over the most: what a read entry costs a reward
  double policy = 0;   // of the policy gradient
};

struct Phase {
  std::string name;
  int64_t tokens = 0;                     // how long it lasts, of all replicas together
  int64_t stream_tokens = 0;              // of each stream; a multiple of the segment
  int64_t streams = 0;                    // of a batch, of one replica
  int64_t accumulate = 1;                 // batches to a step
  std::vector<int64_t> capacities = {0};  // one is drawn for each step; 0: unbounded
  // Share of the steps in which the decoder reads everything, without its memory: what it reads
  // under strategies that keep every key.
  double full_attention_share = 0;
  Trains trains = Trains::kAll;
  Teacher teacher = Teacher::kNone;
  int64_t teacher_segments = 4;  // of each stream, into whose retrieval the teacher looks
  LossWeights loss;
  PolicyMethod policy = PolicyMethod::kNone;
  double temperature = 0.5;  // of the policy's exploration
  int64_t ppo_epochs = 3;
  double ppo_clip = 0.2;
  Json mixture;  // of tasks: see data/training_data.h; null: its defaults
};

struct Recipe {
  int64_t seed = 1;
  OptimizerOptions optimizer;
  int64_t warmup_tokens = 0;          // rates grow to full from 0
  int64_t decay_tokens = 0;           // and at the end fall to final_rate
  double final_rate = 0.02;           // of the full rates
  std::vector<float> budget_factors;  // of the budget head that the model gets; empty: as it is
  int32_t summary_slots = 0;          // that the model gets; 0: as it is
  float summary_decay = 0.99f;        // by which they forget
  // How entries are read by clusters, in training and by the model that it makes. Nothing: as the
  // model says.
  std::optional<int32_t> clusters, read_clusters, cluster_min_entries;
  std::vector<Phase> phases;

  int64_t tokens() const;
  // The factor of the rates after so many tokens.
  double RateFactor(int64_t tokens_seen) const;
};

// Errors name `where` and the field.
absl::StatusOr<Recipe> ParseRecipe(absl::string_view json, absl::string_view where);

}  // namespace rasq::train
