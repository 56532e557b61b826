#include <algorithm>
#include <optional>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/eval/memory_metrics.h"
#include "client/eval/report.h"
#include "client/eval/series.h"
#include "client/eval/summary.h"

namespace rasq::client {
namespace {

std::string Number(double value, int decimals) { return absl::StrFormat("%.*f", decimals, value); }
std::string Percent(double share) { return Number(100 * share, 1); }
std::string Percent(const Share& share) { return share.asked == 0 ? "-" : Percent(share.value()); }

// Exact match as people read it: a row a task, a column a length.
Table TaskTable(const std::vector<Series>& list) {
  std::set<int64_t> lengths;
  std::vector<std::pair<const Series*, SummaryCell>> cells;
  for (const Series& series : list) {
    for (SummaryCell& cell : Summarise(series.results)) {
      lengths.insert(cell.length);
      cells.emplace_back(&series, std::move(cell));
    }
  }
  Table table{.name = "tasks",
              .title = "Exact match, % (95 % interval) of questions",
              .columns = {"model", "strategy", "task"}};
  for (const int64_t length : lengths) table.columns.push_back(absl::StrCat(length));
  for (size_t i = 0; i < cells.size();) {
    const auto& [series, first] = cells[i];
    std::vector<std::string> row = {series->file, series->strategy, first.task};
    for (const int64_t length : lengths) {
      const bool here = i < cells.size() && cells[i].first == series &&
                        cells[i].second.task == row[2] && cells[i].second.length == length;
      if (!here) {
        row.emplace_back("-");
        continue;
      }
      const Share& share = cells[i++].second.share;
      const Interval interval = WilsonInterval(share);
      row.push_back(absl::StrFormat("%s (%.0f-%.0f) of %d", Percent(share), 100 * interval.low,
                                    100 * interval.high, share.asked));
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

Table MeasureTable(const std::vector<Series>& list) {
  Table table{.name = "measures",
              .title = "All measures of answers, %",
              .columns = {"model", "strategy", "task", "length", "questions", "exact", "low",
                          "high", "F1", "ROUGE-L", "BLEU", "evidence recall"}};
  for (const Series& series : list) {
    for (const SummaryCell& cell : Summarise(series.results)) {
      const Interval interval = WilsonInterval(cell.share);
      table.rows.push_back(
          {series.file, series.strategy, cell.task, absl::StrCat(cell.length),
           absl::StrCat(cell.share.asked), Percent(cell.share), Percent(interval.low),
           Percent(interval.high), Percent(cell.f1), Percent(cell.rouge_l), Percent(cell.bleu),
           cell.evidence_recall.has_value() ? Percent(*cell.evidence_recall) : "-"});
    }
  }
  return table;
}

Table RetentionTable(const std::vector<Series>& list) {
  Table table{.name = "retention",
              .title = "Information retention: by the age of the newest fact that is needed",
              .columns = {"model", "strategy", "age from", "to", "questions", "exact",
                          "of that within the window"}};
  for (const Series& series : list) {
    Share near;
    for (const QuestionResult& result : series.results.questions) {
      if (!result.distance_tokens.has_value() && result.age_tokens < series.window_tokens) {
        near.Add(result.exact);
      }
    }
    for (const RetentionPoint& point : RetentionCurve(series.results.questions)) {
      table.rows.push_back({series.file, series.strategy, absl::StrCat(point.min_age_tokens),
                            absl::StrCat(point.end_age_tokens - 1), absl::StrCat(point.share.asked),
                            Percent(point.share),
                            near.right == 0 ? "-" : Percent(point.share.value() / near.value())});
    }
  }
  return table;
}

Table TemporalTable(const std::vector<Series>& list) {
  Table table{.name = "temporal",
              .title = "Temporal consistency: of values that changed",
              .columns = {"model", "strategy", "length", "newest asked", "newest right, %",
                          "at a time asked", "at a time right, %"}};
  for (const Series& series : list) {
    std::map<int64_t, std::vector<QuestionResult>> by_length;
    for (const QuestionResult& result : series.results.questions) {
      by_length[result.key.length].push_back(result);
    }
    for (const auto& [length, results] : by_length) {
      const TemporalConsistency consistency = MeasureTemporalConsistency(results);
      if (consistency.now.asked + consistency.then.asked == 0) continue;
      table.rows.push_back({series.file, series.strategy, absl::StrCat(length),
                            absl::StrCat(consistency.now.asked), Percent(consistency.now),
                            absl::StrCat(consistency.then.asked), Percent(consistency.then)});
    }
  }
  return table;
}

Table AdaptationTable(const std::vector<Series>& list) {
  Table table{.name = "adaptation",
              .title = "Adaptation speed: tokens from an update to the first right answer",
              .columns = {"model", "strategy", "updates", "median", "never right", "distance",
                          "asked", "exact"}};
  for (const Series& series : list) {
    const AdaptationSpeed speed = MeasureAdaptationSpeed(series.results.questions);
    for (const DistancePoint& point : AdaptationCurve(series.results.questions)) {
      table.rows.push_back({series.file, series.strategy, absl::StrCat(speed.updates),
                            speed.median_tokens.has_value() ? Number(*speed.median_tokens, 0) : "-",
                            absl::StrCat(speed.never), absl::StrCat(point.distance_tokens),
                            absl::StrCat(point.share.asked), Percent(point.share)});
    }
  }
  return table;
}

Table CostTable(const std::vector<Series>& list) {
  Table table{.name = "cost",
              .title = "Memory, throughput and latency",
              .columns = {"model", "strategy", "length", "streams", "refused", "state bytes",
                          "append tokens/s", "first token ms, median", "p99", "retrieved tokens",
                          "scaling exponent"}};
  for (const Series& series : list) {
    const std::map<int64_t, Cost> costs = series.Costs();
    const double exponent = ScalingExponent(costs);
    for (const auto& [length, cost] : costs) {
      table.rows.push_back(
          {series.file, series.strategy, absl::StrCat(length), absl::StrCat(cost.streams),
           absl::StrCat(cost.refused), absl::StrCat(cost.state_bytes),
           Number(cost.append_tokens_per_second, 0), Number(1000 * cost.first_token_median, 1),
           Number(1000 * cost.first_token_p99, 1), Number(cost.retrieved_tokens, 1),
           exponent == 0 ? "-" : Number(exponent, 3)});
    }
  }
  return table;
}

// Where there is one file alone, nobody needs its name.
void DropModelColumn(Table& table) {
  table.columns.erase(table.columns.begin());
  for (std::vector<std::string>& row : table.rows) row.erase(row.begin());
}

}  // namespace

std::vector<Table> MakeTables(const std::vector<NamedResults>& all) {
  const std::vector<Series> list = SplitSeries(all);
  std::vector<Table> tables = {TaskTable(list),     MeasureTable(list),    RetentionTable(list),
                               TemporalTable(list), AdaptationTable(list), CostTable(list)};
  std::erase_if(tables, [](const Table& table) { return table.rows.empty(); });
  if (all.size() < 2) std::for_each(tables.begin(), tables.end(), DropModelColumn);
  return tables;
}

}  // namespace rasq::client
