#include "client/eval/report.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "client/eval/memory_metrics.h"
#include "client/eval/series.h"
#include "client/eval/summary.h"

namespace rasq::client {
namespace {

// A picture a series: exact match of its tasks over the length.
std::vector<Plot> TaskPlots(const std::vector<Series>& list) {
  std::vector<Plot> plots;
  for (const Series& series : list) {
    Plot plot{.name = absl::StrCat("tasks-", absl::StrReplaceAll(series.name, {{" ", "-"}})),
              .title = absl::StrCat("Questions at the end of a stream, ", series.name),
              .x_label = "tokens of the stream",
              .y_label = "exact match, %",
              .percent = true};
    for (const SummaryCell& cell : Summarise(series.results)) {
      if (plot.curves.empty() || plot.curves.back().name != cell.task) {
        plot.curves.push_back({.name = cell.task});
      }
      plot.curves.back().points.emplace_back(cell.length, 100 * cell.share.value());
    }
    plots.push_back(std::move(plot));
  }
  return plots;
}

// A curve a series; `points` gives it.
template <typename Points>
Plot CurveForEach(const std::vector<Series>& list, Plot plot, Points points) {
  for (const Series& series : list) {
    Curve curve{.name = series.name, .points = points(series)};
    if (!curve.points.empty()) plot.curves.push_back(std::move(curve));
  }
  return plot;
}

using PointList = std::vector<std::pair<double, double>>;

PointList AllTasks(const Series& series) {
  std::map<int64_t, Share> by_length;
  for (const QuestionResult& result : series.results.questions) {
    if (!result.distance_tokens.has_value()) by_length[result.key.length].Add(result.exact);
  }
  PointList points;
  for (const auto& [length, share] : by_length) points.emplace_back(length, 100 * share.value());
  return points;
}
PointList Retention(const Series& series) {
  PointList points;
  for (const RetentionPoint& point : RetentionCurve(series.results.questions)) {
    points.emplace_back(point.end_age_tokens, 100 * point.share.value());
  }
  return points;
}
PointList Adaptation(const Series& series) {
  PointList points;
  for (const DistancePoint& point : AdaptationCurve(series.results.questions)) {
    // Right behind the update stands at 16: a logarithm has no 0.
    points.emplace_back(std::max<int64_t>(16, point.distance_tokens), 100 * point.share.value());
  }
  return points;
}
template <typename Get>
auto OfCost(Get get) {
  return [get](const Series& series) {
    PointList points;
    for (const auto& [length, cost] : series.Costs()) {
      if (cost.refused < cost.streams) points.emplace_back(length, get(cost));
    }
    return points;
  };
}

bool HasCurve(const Plot& plot) {
  return std::any_of(plot.curves.begin(), plot.curves.end(),
                     [](const Curve& curve) { return curve.points.size() > 1; });
}

}  // namespace

std::vector<Plot> MakePlots(const std::vector<NamedResults>& all) {
  const std::vector<Series> list = SplitSeries(all);
  std::vector<Plot> plots = TaskPlots(list);
  if (list.size() > 1) {
    plots.push_back(CurveForEach(list,
                                 {.name = "strategies",
                                  .title = "Questions of all tasks at the end of a stream",
                                  .x_label = "tokens of the stream",
                                  .y_label = "exact match, %",
                                  .percent = true},
                                 AllTasks));
  }
  plots.push_back(CurveForEach(list,
                               {.name = "retention",
                                .title = "Information retention",
                                .x_label = "age of the fact in tokens, up to",
                                .y_label = "exact match, %",
                                .percent = true},
                               Retention));
  plots.push_back(CurveForEach(list,
                               {.name = "adaptation",
                                .title = "Answers behind an update",
                                .x_label = "tokens since the update (16: none)",
                                .y_label = "exact match, %",
                                .percent = true},
                               Adaptation));
  plots.push_back(
      CurveForEach(list,
                   {.name = "memory",
                    .title = "State of a session",
                    .x_label = "tokens of the stream",
                    .y_label = "bytes"},
                   OfCost([](const Cost& cost) { return static_cast<double>(cost.state_bytes); })));
  plots.push_back(
      CurveForEach(list,
                   {.name = "throughput",
                    .title = "Appending",
                    .x_label = "tokens of the stream",
                    .y_label = "tokens/s of a stream"},
                   OfCost([](const Cost& cost) { return cost.append_tokens_per_second; })));
  plots.push_back(
      CurveForEach(list,
                   {.name = "latency",
                    .title = "Time to the first token of an answer, median",
                    .x_label = "tokens of the stream",
                    .y_label = "ms"},
                   OfCost([](const Cost& cost) { return 1000 * cost.first_token_median; })));
  std::erase_if(plots, [](const Plot& plot) { return !HasCurve(plot); });
  return plots;
}

std::string MakeMarkdown(const std::vector<NamedResults>& all, const std::vector<Table>& tables,
                         const std::vector<Plot>& plots) {
  std::string text = "# Evaluation\n\n";
  for (const NamedResults& named : all) {
    if (named.results.runs.empty()) continue;
    const RunHeader& run = named.results.runs.back();
    absl::StrAppendFormat(
        &text,
        "- %s%s, fingerprint %s, server %s on %s in %s; memory of %d entries and a window of %d "
        "tokens, %d bytes a session; %s split, seed %d, up to %d facts and %d questions a stream, "
        "%d streams at once; text: %s; stories: %s\n",
        named.name.empty() ? "" : absl::StrCat(named.name, ": "), run.model, run.fingerprint,
        run.server_version, run.device, run.dtype, run.capacity_tokens, run.window_tokens,
        run.state_bytes, run.split, run.seed, run.facts, run.questions, run.parallel, run.text,
        run.babi.empty() ? "simulated" : run.babi);
  }
  for (const Table& table : tables) absl::StrAppend(&text, "\n", ToMarkdown(table));
  for (const Plot& plot : plots) {
    absl::StrAppend(&text, "\n![", plot.title, "](", plot.name, ".svg)\n");
  }
  return text;
}

}  // namespace rasq::client
