#include "client/eval/summary.h"

#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "client/eval/answer_metrics.h"
#include "client/eval/memory_metrics.h"
#include "client/eval/perplexity.h"

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

SummaryCell MakeCell(const std::string& method, const std::string& task, int64_t length,
                     const Answers& answers) {
  std::vector<double> score, exact, f1, rouge_l, babilong, recall;
  std::vector<BleuCounts> bleu;
  for (const QuestionResult* answer : answers) {
    score.push_back(answer->score);
    exact.push_back(answer->exact ? 1 : 0);
    f1.push_back(answer->f1);
    rouge_l.push_back(RougeL(answer->got, answer->want));
    bleu.push_back(CountForBleu(answer->got, answer->want));
    if (answer->babilong.has_value()) babilong.push_back(*answer->babilong);
    if (answer->evidence_recall.has_value()) recall.push_back(*answer->evidence_recall);
  }
  SummaryCell cell{.method = method,
                   .task = task,
                   .length = length,
                   .questions = static_cast<int64_t>(answers.size()),
                   .score = MeanOf(score),
                   .exact = MeanOf(exact),
                   .f1 = MeanOf(f1),
                   .rouge_l = MeanOf(rouge_l),
                   .bleu = BleuOf(bleu)};
  if (!babilong.empty()) cell.babilong = MeanOf(babilong);
  if (!recall.empty()) cell.evidence_recall = MeanOf(recall);
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

std::string PerplexityText(const Results& results) {
  std::string text;
  for (const PerplexityCell& cell : MeasurePerplexity(results.streams)) {
    absl::StrAppendFormat(&text, "perplexity: %s at %d tokens: %.3f (%.3f to %.3f of %d streams)\n",
                          cell.method, cell.length, cell.perplexity, cell.lowest, cell.highest,
                          cell.streams);
  }
  return text;
}

std::string RefusalText(const Results& results) {
  int64_t refused = 0;
  std::string reason;  // the first one's
  for (const StreamResult& stream : results.streams) {
    if (stream.refused.empty()) continue;
    if (++refused == 1) reason = absl::StrCat(stream.key.Method(), ": ", stream.refused);
  }
  if (refused == 0) return "";
  return absl::StrCat("streams that were refused: ", refused, " (", reason, ")\n");
}

}  // namespace

std::vector<SummaryCell> Summarise(const Results& results) {
  std::vector<std::string> methods, tasks;
  std::map<size_t, std::map<size_t, std::map<int64_t, Answers>>> asked;
  for (const RunHeader& run : results.runs) {
    for (const std::string& strategy : run.strategies) {
      for (const std::string& settings : run.settings) {
        IndexOf(methods, StreamKey{.strategy = strategy, .settings = settings}.Method());
      }
    }
    for (const std::string& shared : run.tasks) {
      for (const std::string& task : std::vector<std::string>(absl::StrSplit(shared, '+'))) {
        IndexOf(tasks, task);
      }
    }
  }
  for (const QuestionResult& result : results.questions) {
    if (result.distance_tokens.has_value()) continue;
    const size_t method = IndexOf(methods, result.key.Method());
    const size_t task = IndexOf(tasks, result.key.task);
    asked[method][task][result.key.length].push_back(&result);
  }
  std::vector<SummaryCell> cells;
  for (const auto& [method, by_task] : asked) {
    std::map<int64_t, Answers> all;
    for (const auto& [task, by_length] : by_task) {
      for (const auto& [length, answers] : by_length) {
        cells.push_back(MakeCell(methods[method], tasks[task], length, answers));
        all[length].insert(all[length].end(), answers.begin(), answers.end());
      }
    }
    if (by_task.size() < 2) continue;
    for (const auto& [length, answers] : all) {
      cells.push_back(MakeCell(methods[method], kAllTasks, length, answers));
    }
  }
  return cells;
}

std::string SummaryTable(const Results& results) {
  const std::vector<SummaryCell> cells = Summarise(results);
  std::set<int64_t> lengths;
  int width = 10;
  for (const SummaryCell& cell : cells) {
    lengths.insert(cell.length);
    width = std::max(width, static_cast<int>(cell.method.size()));
  }
  std::string table;
  if (!cells.empty()) {
    absl::StrAppendFormat(&table, "%-*s %-16s", width, "strategy", "task");
    for (const int64_t length : lengths) absl::StrAppendFormat(&table, " %14d", length);
    table += "\n";
  }
  for (size_t i = 0; i < cells.size();) {
    const std::string &method = cells[i].method, &task = cells[i].task;
    absl::StrAppendFormat(&table, "%-*s %-16s", width, method, task);
    for (const int64_t length : lengths) {
      const bool here = i < cells.size() && cells[i].method == method && cells[i].task == task &&
                        cells[i].length == length;
      absl::StrAppendFormat(
          &table, " %14s",
          here ? absl::StrFormat("%.1f %% of %d", 100 * cells[i].score.value, cells[i].questions)
               : "-");
      i += here ? 1 : 0;
    }
    table += "\n";
  }
  return table + PerplexityText(results) + AdaptationText(results) + RefusalText(results);
}

}  // namespace rasq::client
