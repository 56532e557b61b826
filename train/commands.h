// What the `rasq-train` program can be asked to do.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "train/init_adapter.h"

namespace rasq::train {

struct TrainingFlags {
  std::string model, output, recipe, data;
  std::string device, dtype;
  absl::Duration time_limit, save_interval;
  int32_t loader_threads;
  int64_t log_steps;
  // init and convert: a new adapter, and its retrieval layers as they were given.
  AdapterShape adapter;
  std::vector<std::string> retrieval_layers;
  int64_t calibration_tokens;
  int32_t vocab;  // tokenizer
};

// Errors name the flag or the file. `stop`: ends training early, and saves.
absl::Status RunCommand(absl::string_view command, const TrainingFlags& flags,
                        const std::atomic<bool>& stop);

}  // namespace rasq::train
