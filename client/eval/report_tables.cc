#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/eval/cost_tables.h"
#include "client/eval/memory_metrics.h"
#include "client/eval/perplexity.h"
#include "client/eval/report.h"
#include "client/eval/series.h"
#include "client/eval/summary.h"

namespace rasq::client {
namespace {

// Asked, right and the interval's ends.
void AppendShare(const Share& share, std::vector<std::string>& row) {
  const Interval interval = WilsonInterval(share.value(), share.asked);
  const bool some = share.asked > 0;
  row.push_back(absl::StrCat(share.asked));
  row.push_back(some ? Percent(share.value()) : "-");
  row.push_back(some ? Percent(interval.low) : "-");
  row.push_back(some ? Percent(interval.high) : "-");
}

// Scores as people read them: a row a task, a column a length.
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
              .title = "Right answers, % (95 % interval) of questions",
              .columns = {"model", "strategy", "task"}};
  for (const int64_t length : lengths) table.columns.push_back(absl::StrCat(length));
  for (size_t i = 0; i < cells.size();) {
    const auto& [series, first] = cells[i];
    std::vector<std::string> row = {series->file, series->method, first.task};
    for (const int64_t length : lengths) {
      const bool here = i < cells.size() && cells[i].first == series &&
                        cells[i].second.task == row[2] && cells[i].second.length == length;
      if (!here) {
        row.emplace_back("-");
        continue;
      }
      const SummaryCell& cell = cells[i++].second;
      const Interval interval = WilsonInterval(cell.score.value, cell.questions);
      row.push_back(absl::StrFormat("%s (%.0f-%.0f) of %d", Percent(cell.score.value),
                                    100 * interval.low, 100 * interval.high, cell.questions));
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

// Each measure has its standard error behind it.
Table MeasureTable(const std::vector<Series>& list) {
  Table table{.name = "measures",
              .title = "All measures of answers, % and standard errors (SE)",
              .columns = {"model", "strategy", "task", "length", "questions", "score", "low",
                          "high", "exact", "SE", "F1", "F1 SE", "ROUGE-L", "ROUGE SE", "BLEU",
                          "BLEU SE", "BABILong", "evidence recall", "recall SE"}};
  for (const Series& series : list) {
    for (const SummaryCell& cell : Summarise(series.results)) {
      const Interval interval = WilsonInterval(cell.score.value, cell.questions);
      std::vector<std::string> row = {series.file,
                                      series.method,
                                      cell.task,
                                      absl::StrCat(cell.length),
                                      absl::StrCat(cell.questions),
                                      Percent(cell.score.value),
                                      Percent(interval.low),
                                      Percent(interval.high)};
      for (const Mean& mean : {cell.exact, cell.f1, cell.rouge_l, cell.bleu}) {
        row.push_back(Percent(mean.value));
        row.push_back(Percent(mean.error));
      }
      row.push_back(cell.babilong.has_value() ? Percent(cell.babilong->value) : "-");
      const bool recall = cell.evidence_recall.has_value();
      row.push_back(recall ? Percent(cell.evidence_recall->value) : "-");
      row.push_back(recall ? Percent(cell.evidence_recall->error) : "-");
      table.rows.push_back(std::move(row));
    }
  }
  return table;
}

// What an ablation or a sweep changes. Positive differences are better than the defaults.
Table SettingsTable(const std::vector<Series>& list) {
  Table table{
      .name = "settings",
      .title = "Settings against the same strategy's defaults, question by question, points",
      .columns = {"model", "strategy", "settings", "length", "questions", "score", "difference",
                  "SE"}};
  for (const Series& series : list) {
    const Series* defaults = DefaultsOf(series, list);
    if (series.settings.empty() || defaults == nullptr) continue;
    std::map<int64_t, std::vector<double>> scores;  // by length
    for (const QuestionResult& question : series.results.questions) {
      scores[question.key.length].push_back(question.score);
    }
    for (const auto& [length, values] : scores) {
      const PairedDifference paired = Compare(series, *defaults, length);
      if (paired.questions == 0) continue;
      table.rows.push_back({series.file, series.strategy, series.settings, absl::StrCat(length),
                            absl::StrCat(paired.questions), Percent(MeanOf(values).value),
                            Percent(paired.difference.value), Percent(paired.difference.error)});
    }
  }
  return table;
}

Table RetentionTable(const std::vector<Series>& list) {
  Table table{.name = "retention",
              .title = "Information retention, %: by the age of the newest fact that is needed",
              .columns = {"model", "strategy", "age from", "to", "questions", "right", "low",
                          "high", "of that within the window"}};
  for (const Series& series : list) {
    Share near;
    for (const QuestionResult& result : series.results.questions) {
      if (!result.distance_tokens.has_value() && result.age_tokens < series.window_tokens) {
        near.Add(result.right());
      }
    }
    for (const RetentionPoint& point : RetentionCurve(series.results.questions)) {
      std::vector<std::string> row = {series.file, series.method,
                                      absl::StrCat(point.min_age_tokens),
                                      absl::StrCat(point.end_age_tokens - 1)};
      AppendShare(point.share, row);
      row.push_back(near.right == 0 ? "-" : Percent(point.share.value() / near.value()));
      table.rows.push_back(std::move(row));
    }
  }
  return table;
}

Table TemporalTable(const std::vector<Series>& list) {
  Table table{.name = "temporal",
              .title = "Temporal consistency, %: of values that changed",
              .columns = {"model", "strategy", "length", "newest asked", "right", "low", "high",
                          "at a time asked", "then right", "then low", "then high"}};
  for (const Series& series : list) {
    std::map<int64_t, std::vector<QuestionResult>> by_length;
    for (const QuestionResult& result : series.results.questions) {
      by_length[result.key.length].push_back(result);
    }
    for (const auto& [length, results] : by_length) {
      const TemporalConsistency consistency = MeasureTemporalConsistency(results);
      if (consistency.now.asked + consistency.then.asked == 0) continue;
      std::vector<std::string> row = {series.file, series.method, absl::StrCat(length)};
      AppendShare(consistency.now, row);
      AppendShare(consistency.then, row);
      table.rows.push_back(std::move(row));
    }
  }
  return table;
}

Table AdaptationTable(const std::vector<Series>& list) {
  Table table{.name = "adaptation",
              .title = "Adaptation speed: tokens from an update to the first right answer",
              .columns = {"model", "strategy", "updates", "median", "never right", "distance",
                          "asked", "right, %", "low", "high"}};
  for (const Series& series : list) {
    const AdaptationSpeed speed = MeasureAdaptationSpeed(series.results.questions);
    for (const DistancePoint& point : AdaptationCurve(series.results.questions)) {
      std::vector<std::string> row = {
          series.file,
          series.method,
          absl::StrCat(speed.updates),
          speed.median_tokens.has_value() ? Number(*speed.median_tokens, 0) : "-",
          absl::StrCat(speed.never),
          absl::StrCat(point.distance_tokens)};
      AppendShare(point.share, row);
      table.rows.push_back(std::move(row));
    }
  }
  return table;
}

// The loss is what standard errors are of; a stream's perplexity is exp of its own.
Table PerplexityTable(const std::vector<Series>& list) {
  Table table{.name = "perplexity",
              .title =
                  "Perplexity of held-out text: of the last quarter of a stream, at least "
                  "1,024 tokens of it",
              .columns = {"model", "strategy", "length", "streams", "tokens scored", "perplexity",
                          "of the best stream", "of the worst", "nats a token", "SE"}};
  for (const Series& series : list) {
    for (const PerplexityCell& cell : MeasurePerplexity(series.results.streams)) {
      table.rows.push_back({series.file, series.method, absl::StrCat(cell.length),
                            absl::StrCat(cell.streams), absl::StrCat(cell.tokens),
                            Number(cell.perplexity, 3), Number(cell.lowest, 3),
                            Number(cell.highest, 3), Number(cell.loss.value, 4),
                            cell.loss.error.has_value() ? Number(*cell.loss.error, 4) : "-"});
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
  std::vector<Table> tables = {TaskTable(list),       MeasureTable(list),  SettingsTable(list),
                               RetentionTable(list),  TemporalTable(list), AdaptationTable(list),
                               PerplexityTable(list), CostTable(list),     LatencyTable(list),
                               RefusedTable(list)};
  std::erase_if(tables, [](const Table& table) { return table.rows.empty(); });
  if (all.size() < 2) std::for_each(tables.begin(), tables.end(), DropModelColumn);
  return tables;
}

}  // namespace rasq::client
