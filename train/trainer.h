// Runs a recipe: streams in, steps of the optimizer, a checkpoint out. One thread a device.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "train/data/stream_layout.h"
#include "train/decoder.h"
#include "train/recipe.h"
#include "train/torch.h"
#include "train/training_state.h"

namespace rasq::train {

// Stream number i, of the phase's length and mixture. Called by many threads.
using StreamSource = std::function<TrainingStream(int64_t)>;
using StreamFactory = std::function<absl::StatusOr<StreamSource>(const Phase&)>;

struct TrainerOptions {
  std::string source;  // directory of the configs and the tokenizer
  std::string output;  // directory that the run is written to; with its log, log.jsonl
  std::vector<torch::Device> devices;
  torch::ScalarType compute = torch::kFloat32;
  absl::Duration time_limit = absl::InfiniteDuration();  // then it stops as if it were asked to
  absl::Duration save_interval = absl::Minutes(10);
  int32_t loader_threads = 2;  // of each device
  int64_t log_steps = 50;
  std::vector<std::string> task_names;
};

// Trains from `state` on until the recipe ends, the time is up, or `stop` is true, and saves.
// Returns how far it came. The same state, recipe and number of devices give the same run; on the
// processor to the last bit.
absl::StatusOr<Progress> Train(const TrainerOptions& options, const Recipe& recipe,
                               const Decoder& initial, const TrainingState& state,
                               const StreamFactory& streams, const std::atomic<bool>& stop);

}  // namespace rasq::train
