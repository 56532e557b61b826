// What a run says of itself: a JSON object a line in a file, and a line on the terminal.
#pragma once

#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "train/objective.h"
#include "train/training_state.h"

namespace rasq::train {

// Sums what steps report, on the device, and writes it now and then.
class TrainingLog {
 public:
  // Appends to the file; an empty path: only the terminal. `task_names` by task id.
  TrainingLog(const std::string& path, std::vector<std::string> task_names);
  ~TrainingLog();
  TrainingLog(const TrainingLog&) = delete;
  TrainingLog& operator=(const TrainingLog&) = delete;

  void Add(const Objective& objective, const std::vector<int32_t>& task);
  void AddReward(const Tensor& reward, const Tensor& mean_budget);
  // Writes the means since the last line. `tokens_per_second` of all replicas since then.
  void Write(const Progress& progress, const std::string& phase, double rate_factor,
             double gradient_norm, double tokens_per_second);

 private:
  struct Mean {
    Tensor sum;
    int64_t count = 0;
  };
  void Sum(const std::string& name, const Tensor& value);

  std::FILE* file_ = nullptr;
  const std::vector<std::string> task_names_;
  std::map<std::string, Mean> means_;
  std::vector<std::pair<Tensor, std::vector<int32_t>>> answers_;  // right or not, and of which task
};

}  // namespace rasq::train
