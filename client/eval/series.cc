#include "client/eval/series.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace rasq::client {
namespace {

// The smallest value that `share` of all are not above.
double Quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double rank = std::ceil(share * static_cast<double>(values.size()));
  return values[static_cast<size_t>(std::max(1.0, rank)) - 1];
}

}  // namespace

std::map<int64_t, Cost> Series::Costs() const {
  struct Samples {
    std::vector<double> rates, seconds, first_tokens;
    double retrieved = 0;
  };
  std::map<int64_t, Cost> costs;
  std::map<int64_t, Samples> samples;
  for (const StreamResult& stream : results.streams) {
    Cost& cost = costs[stream.key.length];
    ++cost.streams;
    cost.state_bytes = std::max(cost.state_bytes, stream.state_bytes);
    if (!stream.refused.empty()) {
      ++cost.refused;
      continue;
    }
    samples[stream.key.length].rates.push_back(stream.append_tokens_per_second);
    samples[stream.key.length].seconds.push_back(stream.append_seconds);
  }
  for (const QuestionResult& question : results.questions) {
    Samples& sample = samples[question.key.length];
    sample.first_tokens.push_back(question.time_to_first_token_seconds);
    sample.retrieved += question.retrieved_tokens;
  }
  for (const auto& [length, sample] : samples) {
    Cost& cost = costs[length];
    cost.append_tokens_per_second = Quantile(sample.rates, 0.5);
    cost.append_seconds = Quantile(sample.seconds, 0.5);
    cost.first_token_median = Quantile(sample.first_tokens, 0.5);
    cost.first_token_p99 = Quantile(sample.first_tokens, 0.99);
    if (!sample.first_tokens.empty()) {
      cost.retrieved_tokens = sample.retrieved / static_cast<double>(sample.first_tokens.size());
    }
  }
  return costs;
}

std::vector<Series> SplitSeries(const std::vector<NamedResults>& all) {
  std::vector<Series> list;
  for (const NamedResults& named : all) {
    const size_t first = list.size();
    const auto series_of = [&](const std::string& strategy) -> Results& {
      const auto found = std::find_if(list.begin() + static_cast<int64_t>(first), list.end(),
                                      [&](const Series& s) { return s.strategy == strategy; });
      if (found != list.end()) return found->results;
      list.push_back(
          {.name = named.name.empty() ? strategy : absl::StrCat(named.name, " ", strategy),
           .file = named.name,
           .strategy = strategy,
           .results = {.runs = named.results.runs}});
      return list.back().results;
    };
    for (const RunHeader& run : named.results.runs) {
      for (const std::string& strategy : run.strategies) series_of(strategy);
    }
    for (const StreamResult& stream : named.results.streams) {
      series_of(stream.key.strategy).streams.push_back(stream);
    }
    for (const QuestionResult& question : named.results.questions) {
      series_of(question.key.strategy).questions.push_back(question);
    }
  }
  for (Series& series : list) {
    if (!series.results.runs.empty()) series.window_tokens = series.results.runs[0].window_tokens;
  }
  return list;
}

double ScalingExponent(const std::map<int64_t, Cost>& costs) {
  double n = 0, x_sum = 0, y_sum = 0, xx = 0, xy = 0;
  for (const auto& [length, cost] : costs) {
    if (cost.append_seconds <= 0) continue;
    const double x = std::log(static_cast<double>(length)), y = std::log(cost.append_seconds);
    n += 1, x_sum += x, y_sum += y, xx += x * x, xy += x * y;
  }
  const double spread = n * xx - x_sum * x_sum;
  return n < 2 || spread <= 0 ? 0 : (n * xy - x_sum * y_sum) / spread;
}

}  // namespace rasq::client
