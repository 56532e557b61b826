#include "client/eval/summary.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace rasq::client {
namespace {

// The list's index of `name`, which is added if it is new.
size_t IndexOf(std::vector<std::string>& names, const std::string& name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found != names.end()) return static_cast<size_t>(found - names.begin());
  names.push_back(name);
  return names.size() - 1;
}

std::string AdaptationText(const Results& results) {
  const AdaptationSpeed speed = MeasureAdaptationSpeed(results.questions);
  if (speed.updates == 0) return "";
  return absl::StrFormat(
      "adaptation: a new value is answered %s (median of %d updates, %d never)\n",
      speed.median_tokens.has_value() ? absl::StrFormat("after %.0f tokens", *speed.median_tokens)
                                      : "by fewer than half",
      speed.updates, speed.never);
}

}  // namespace

std::vector<SummaryCell> Summarise(const Results& results) {
  std::vector<std::string> strategies, tasks;
  std::map<size_t, std::map<size_t, std::map<int64_t, Share>>> shares;
  for (const QuestionResult& result : results.questions) {
    if (result.distance_tokens.has_value()) continue;
    const size_t strategy = IndexOf(strategies, result.key.strategy);
    const size_t task = IndexOf(tasks, result.key.task);
    shares[strategy][task][result.key.length].Add(result.exact);
  }
  std::vector<SummaryCell> cells;
  for (const auto& [strategy, by_task] : shares) {
    std::map<int64_t, Share> all;
    const auto add = [&, &strategy = strategy](const std::string& task,
                                               const std::map<int64_t, Share>& by_length) {
      for (const auto& [length, share] : by_length) {
        cells.push_back(
            {.strategy = strategies[strategy], .task = task, .length = length, .share = share});
      }
    };
    for (const auto& [task, by_length] : by_task) {
      add(tasks[task], by_length);
      for (const auto& [length, share] : by_length) {
        all[length].right += share.right;
        all[length].asked += share.asked;
      }
    }
    if (by_task.size() > 1) add(kAllTasks, all);
  }
  return cells;
}

std::string SummaryTable(const Results& results) {
  const std::vector<SummaryCell> cells = Summarise(results);
  std::set<int64_t> lengths;
  for (const SummaryCell& cell : cells) lengths.insert(cell.length);
  std::string table;
  if (!cells.empty()) {
    absl::StrAppendFormat(&table, "%-10s %-16s", "strategy", "task");
    for (const int64_t length : lengths) absl::StrAppendFormat(&table, " %14d", length);
    table += "\n";
  }
  for (size_t i = 0; i < cells.size();) {
    const std::string &strategy = cells[i].strategy, &task = cells[i].task;
    absl::StrAppendFormat(&table, "%-10s %-16s", strategy, task);
    for (const int64_t length : lengths) {
      const bool here = i < cells.size() && cells[i].strategy == strategy &&
                        cells[i].task == task && cells[i].length == length;
      absl::StrAppendFormat(&table, " %14s",
                            here ? absl::StrFormat("%.1f %% of %d", 100 * cells[i].share.value(),
                                                   cells[i].share.asked)
                                 : "-");
      i += here ? 1 : 0;
    }
    table += "\n";
  }
  return table + AdaptationText(results);
}

}  // namespace rasq::client
