#include "train/training_log.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace rasq::train {

TrainingLog::TrainingLog(const std::string& path, std::vector<std::string> task_names)
    : task_names_(std::move(task_names)) {
  if (!path.empty()) file_ = std::fopen(path.c_str(), "a");
}

TrainingLog::~TrainingLog() {
  if (file_ != nullptr) std::fclose(file_);
}

void TrainingLog::Sum(const std::string& name, const Tensor& value) {
  Mean& mean = means_[name];
  const Tensor plain = value.detach().to(torch::kFloat32);
  mean.sum = mean.sum.defined() ? mean.sum + plain : plain;
  ++mean.count;
}

void TrainingLog::Add(const Objective& objective, const std::vector<int32_t>& task) {
  for (const auto& [name, value] : objective.terms) Sum(name, value);
  if (!objective.answer_right.defined()) return;
  Sum("answer", -objective.answer_log_probability.mean());
  answers_.emplace_back(objective.answer_right.detach(), task);
}

void TrainingLog::AddReward(const Tensor& reward, const Tensor& mean_budget) {
  Sum("reward", reward.mean());
  Sum("explored_budget", mean_budget.mean());
}

void TrainingLog::Write(const Progress& progress, const std::string& phase, double rate_factor,
                        double gradient_norm, double tokens_per_second) {
  nlohmann::ordered_json line = {{"step", progress.steps},
                                 {"tokens", progress.tokens},
                                 {"seconds", progress.seconds},
                                 {"phase", phase},
                                 {"rate", rate_factor},
                                 {"gradient_norm", gradient_norm},
                                 {"tokens_per_second", tokens_per_second},
                                 {"skipped_steps", progress.skipped_steps}};
  std::string text =
      absl::StrFormat("%7d %8.1fM %5.0fs %s %.0fK/s", progress.steps, progress.tokens / 1e6,
                      progress.seconds, phase, tokens_per_second / 1e3);
  for (const auto& [name, mean] : means_) {
    const double value = mean.sum.item<double>() / static_cast<double>(mean.count);
    line["means"][name] = value;
    absl::StrAppendFormat(&text, " %s=%.3f", name, value);
  }
  std::map<int32_t, std::pair<int64_t, int64_t>> counts;  // right, all
  for (const auto& [right, task] : answers_) {
    const Tensor plain = right.to(torch::kCPU);
    for (size_t i = 0; i < task.size(); ++i) {
      auto& [good, all] = counts[task[i]];
      good += plain.data_ptr<bool>()[i];
      ++all;
    }
  }
  for (const auto& [task, count] : counts) {
    const std::string name = static_cast<size_t>(task) < task_names_.size()
                                 ? task_names_[task]
                                 : absl::StrCat("task", task);
    const double share = static_cast<double>(count.first) / static_cast<double>(count.second);
    line["right"][name] = share;
    absl::StrAppendFormat(&text, " %s:%.2f", name, share);
  }
  means_.clear();
  answers_.clear();
  if (file_ != nullptr) {
    std::fprintf(file_, "%s\n", line.dump().c_str());
    std::fflush(file_);
  }
  std::printf("%s\n", text.c_str());
  std::fflush(stdout);
}

}  // namespace rasq::train
