// A run on disk: the model that it makes, in the layout that the engine serves, and what it needs
// to go on as if it had never stopped.
//   config.json model.safetensors rasq_config.json rasq.safetensors tokenizer*.json   bfloat16
//   training.safetensors  float32 parameters and the optimizer's state
//   training.json         how far it came
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "train/decoder.h"
#include "train/torch.h"

namespace rasq::train {

// How far a run came. Everything else that decides how it goes on is the recipe and the weights.
struct Progress {
  int64_t tokens = 0;  // trained on, by all replicas
  int64_t steps = 0;
  int64_t streams = 0;                 // numbers of the streams that were used up
  int64_t skipped_steps = 0;           // whose gradient was not finite
  double seconds = 0;                  // of training, over all runs
  std::map<int32_t, double> baseline;  // RewardBaseline's
};

struct TrainingState {
  Progress progress;
  std::map<std::string, Tensor> parameters;  // float32
  std::map<std::string, Tensor> optimizer;   // Optimizer::State; empty if it starts anew
};

// Writes the state, and then the model. `source` is the directory that configs and tokenizer are
// copied from. kUnavailable names a path.
absl::Status SaveTraining(const std::string& directory, const std::string& source,
                          const Decoder& decoder, const std::map<std::string, Tensor>& optimizer,
                          const Progress& progress);

// kNotFound if `directory` holds no run; kInvalidArgument names a file that is damaged or of
// another model.
absl::StatusOr<TrainingState> LoadTraining(const std::string& directory);

// Copies the values into the decoder's parameters; kInvalidArgument names one that is missing or of
// another shape.
absl::Status SetParameters(const std::map<std::string, Tensor>& values, const Decoder& decoder);

// model.safetensors and rasq.safetensors, rounded to bfloat16.
absl::Status WriteModel(const std::string& directory, const Decoder& decoder);

}  // namespace rasq::train
