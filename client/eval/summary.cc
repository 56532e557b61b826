#include "client/eval/summary.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/eval/answer_metrics.h"

namespace rasq::client {
namespace {

// The list's index of `name`, which is added if it is new.
size_t IndexOf(std::vector<std::string>& names, const std::string& name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found != names.end()) return static_cast<size_t>(found - names.begin());
  names.push_back(name);
  return names.size() - 1;
}

using Answers = std::vector<const QuestionResult*>;

SummaryCell MakeCell(const std::string& strategy, const std::string& task, int64_t length,
                     const Answers& answers) {
  SummaryCell cell{.strategy = strategy, .task = task, .length = length};
  std::vector<std::pair<std::string, std::string>> pairs;
  double recall = 0;
  int64_t with_recall = 0;
  for (const QuestionResult* answer : answers) {
    cell.share.Add(answer->exact);
    cell.f1 += answer->f1;
    cell.rouge_l += RougeL(answer->got, answer->want);
    pairs.emplace_back(answer->got, answer->want);
    recall += answer->evidence_recall.value_or(0);
    with_recall += answer->evidence_recall.has_value() ? 1 : 0;
  }
  cell.f1 /= static_cast<double>(answers.size());
  cell.rouge_l /= static_cast<double>(answers.size());
  cell.bleu = Bleu(pairs);
  if (with_recall > 0) cell.evidence_recall = recall / static_cast<double>(with_recall);
  return cell;
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
  std::map<size_t, std::map<size_t, std::map<int64_t, Answers>>> asked;
  for (const RunHeader& run : results.runs) {
    for (const std::string& strategy : run.strategies) IndexOf(strategies, strategy);
    for (const std::string& task : run.tasks) IndexOf(tasks, task);
  }
  for (const QuestionResult& result : results.questions) {
    if (result.distance_tokens.has_value()) continue;
    const size_t strategy = IndexOf(strategies, result.key.strategy);
    const size_t task = IndexOf(tasks, result.key.task);
    asked[strategy][task][result.key.length].push_back(&result);
  }
  std::vector<SummaryCell> cells;
  for (const auto& [strategy, by_task] : asked) {
    std::map<int64_t, Answers> all;
    for (const auto& [task, by_length] : by_task) {
      for (const auto& [length, answers] : by_length) {
        cells.push_back(MakeCell(strategies[strategy], tasks[task], length, answers));
        all[length].insert(all[length].end(), answers.begin(), answers.end());
      }
    }
    if (by_task.size() < 2) continue;
    for (const auto& [length, answers] : all) {
      cells.push_back(MakeCell(strategies[strategy], kAllTasks, length, answers));
    }
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
