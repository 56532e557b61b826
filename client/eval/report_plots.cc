#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/eval/memory_metrics.h"
#include "client/eval/report.h"
#include "client/eval/series.h"
#include "client/eval/settings.h"
#include "client/eval/summary.h"

namespace rasq::client {
namespace {

// Of a picture.
std::string FileName(absl::string_view name) {
  return absl::StrReplaceAll(name, {{" ", "-"}, {"/", "-"}, {"=", "-"}});
}

// A picture a series: scores of its tasks over the length.
std::vector<Plot> TaskPlots(const std::vector<Series>& list) {
  std::vector<Plot> plots;
  for (const Series& series : list) {
    Plot plot{.name = FileName(absl::StrCat("tasks ", series.name)),
              .title = absl::StrCat("Questions at the end of a stream, ", series.name),
              .x_label = "tokens of the stream",
              .y_label = "right, %",
              .percent = true};
    for (const SummaryCell& cell : Summarise(series.results)) {
      if (plot.curves.empty() || plot.curves.back().name != cell.task) {
        plot.curves.push_back({.name = cell.task});
      }
      plot.curves.back().points.emplace_back(cell.length, 100 * cell.score.value);
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

// The mean score of all questions at streams' ends, by length.
std::map<int64_t, double> MeanScores(const Series& series) {
  std::map<int64_t, std::vector<double>> scores;
  for (const QuestionResult& result : series.results.questions) {
    if (!result.distance_tokens.has_value()) scores[result.key.length].push_back(result.score);
  }
  std::map<int64_t, double> means;
  for (const auto& [length, values] : scores) means[length] = MeanOf(values).value;
  return means;
}
PointList AllTasks(const Series& series) {
  PointList points;
  for (const auto& [length, mean] : MeanScores(series)) points.emplace_back(length, 100 * mean);
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
      if (cost.refused == cost.streams) continue;
      if (const std::optional<double> y = get(cost); y.has_value()) points.emplace_back(length, *y);
    }
    return points;
  };
}

// A picture a strategy: its defaults and its ablations, over the length.
std::vector<Plot> AblationPlots(const std::vector<Series>& list) {
  std::map<std::string, Plot> plots;
  for (const Series& series : list) {
    std::string name;
    double value;
    if (series.settings.empty() || ParseSweep(series.settings, &name, &value)) continue;
    const Series* defaults = DefaultsOf(series, list);
    const std::string of =
        series.file.empty() ? series.strategy : absl::StrCat(series.file, " ", series.strategy);
    Plot& plot = plots[of];
    if (plot.curves.empty()) {
      plot = {.name = FileName(absl::StrCat("ablation ", of)),
              .title = absl::StrCat("Ablations of ", of),
              .x_label = "tokens of the stream",
              .y_label = "right, %",
              .percent = true};
      if (defaults != nullptr) plot.curves.push_back({"defaults", AllTasks(*defaults)});
    }
    plot.curves.push_back({series.settings, AllTasks(series)});
  }
  std::vector<Plot> pictures;
  pictures.reserve(plots.size());
  for (auto& [unused, plot] : plots) pictures.push_back(std::move(plot));
  return pictures;
}

// A picture a swept setting: over its values, a curve a strategy and length.
std::vector<Plot> SweepPlots(const std::vector<Series>& list) {
  std::map<std::string, std::map<std::string, std::map<double, double>>> sweeps;
  for (const Series& series : list) {
    std::string name;
    double value;
    if (!ParseSweep(series.settings, &name, &value) || value <= 0) continue;  // no logarithm
    const std::string of = series.file.empty() ? "" : absl::StrCat(series.file, " ");
    for (const auto& [length, mean] : MeanScores(series)) {
      const std::string curve = absl::StrCat(of, series.strategy, ", ", length, " tokens");
      sweeps[name][curve][value] = 100 * mean;
    }
  }
  std::vector<Plot> plots;
  for (const auto& [name, curves] : sweeps) {
    Plot plot{.name = FileName(absl::StrCat("sweep ", name)),
              .title = absl::StrCat("Questions at the end of a stream, by ", name),
              .x_label = name,
              .y_label = "right, %",
              .percent = true};
    for (const auto& [curve, points] : curves) {
      plot.curves.push_back({curve, PointList(points.begin(), points.end())});
    }
    plots.push_back(std::move(plot));
  }
  return plots;
}

// Strategies as they are: of settings there are pictures of their own.
std::vector<Series> Defaults(const std::vector<Series>& list) {
  std::vector<Series> defaults;
  for (const Series& series : list) {
    if (series.settings.empty()) defaults.push_back(series);
  }
  return defaults;
}

// With the exponent in the legend.
Plot ScalingPlot(const std::vector<Series>& list) {
  Plot plot{.name = "scaling",
            .title = "Time of a whole stream",
            .x_label = "tokens of the stream",
            .y_label = "seconds, median",
            .log_y = true};
  for (const Series& series : list) {
    const std::map<int64_t, Cost> costs = series.Costs();
    const std::optional<double> exponent = ScalingExponent(costs);
    if (!exponent.has_value()) continue;
    Curve curve{.name = absl::StrCat(series.name, ", exponent ", Number(*exponent, 2))};
    for (const auto& [length, cost] : costs) {
      if (cost.append_seconds > 0) curve.points.emplace_back(length, cost.append_seconds);
    }
    plot.curves.push_back(std::move(curve));
  }
  return plot;
}

bool HasCurve(const Plot& plot) {
  return std::any_of(plot.curves.begin(), plot.curves.end(),
                     [](const Curve& curve) { return curve.points.size() > 1; });
}

}  // namespace

std::vector<Plot> MakePlots(const std::vector<NamedResults>& all) {
  const std::vector<Series> everything = SplitSeries(all), list = Defaults(everything);
  std::vector<Plot> plots = TaskPlots(list);
  if (list.size() > 1) {
    plots.push_back(CurveForEach(list,
                                 {.name = "strategies",
                                  .title = "Questions of all tasks at the end of a stream",
                                  .x_label = "tokens of the stream",
                                  .y_label = "right, %",
                                  .percent = true},
                                 AllTasks));
  }
  plots.push_back(CurveForEach(list,
                               {.name = "retention",
                                .title = "Information retention",
                                .x_label = "age of the fact in tokens, up to",
                                .y_label = "right, %",
                                .percent = true},
                               Retention));
  plots.push_back(CurveForEach(list,
                               {.name = "adaptation",
                                .title = "Answers behind an update",
                                .x_label = "tokens since the update (16: none)",
                                .y_label = "right, %",
                                .percent = true},
                               Adaptation));
  const auto add_cost = [&](Plot plot, auto get) {
    plot.x_label = "tokens of the stream";
    plots.push_back(CurveForEach(list, std::move(plot), OfCost(get)));
  };
  using Value = std::optional<double>;
  add_cost({.name = "memory", .title = "State of a session", .y_label = "bytes", .log_y = true},
           [](const Cost& cost) -> Value { return static_cast<double>(cost.state_bytes); });
  add_cost({.name = "throughput", .title = "Appending", .y_label = "tokens/s of a stream, median"},
           [](const Cost& cost) -> Value { return cost.append_tokens_per_second; });
  add_cost(
      {.name = "latency", .title = "Time to the first token of an answer, median", .y_label = "ms"},
      [](const Cost& cost) -> Value { return 1000 * cost.first_token_median; });
  add_cost(
      {.name = "token-gaps",
       .title = "Time between tokens of a generation, 99th percentile",
       .y_label = "ms"},
      [](const Cost& cost) { return cost.token_gaps == 0 ? Value() : Value(1000 * cost.gap_p99); });
  add_cost({.name = "token-efficiency",
            .title = "Keys that attention reads for an answer",
            .y_label = "% of what full attention reads",
            .percent = true},
           [](const Cost& cost) {
             return cost.keys_read.has_value() ? Value(100 * *cost.keys_read) : Value();
           });
  plots.push_back(ScalingPlot(list));
  for (Plot& plot : AblationPlots(everything)) plots.push_back(std::move(plot));
  for (Plot& plot : SweepPlots(everything)) plots.push_back(std::move(plot));
  std::erase_if(plots, [](const Plot& plot) { return !HasCurve(plot); });
  return plots;
}

}  // namespace rasq::client
