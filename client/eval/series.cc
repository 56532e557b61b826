#include "client/eval/series.h"

#include <algorithm>
#include <cmath>
#include <tuple>

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

// See Cost::keys_read.
std::optional<double> KeysRead(const Series& series, const QuestionResult& question) {
  const auto full = static_cast<double>(question.position_tokens);
  if (series.strategy == "full" || full == 0) return 1;
  if (series.strategy != "rasq" && series.strategy != "window") return std::nullopt;
  const double read = static_cast<double>(series.window_tokens) + question.retrieved_tokens;
  return std::min(1.0, read / full);
}

}  // namespace

std::map<int64_t, Cost> Series::Costs() const {
  struct Samples {
    std::vector<double> rates, seconds, first_tokens, gaps, retrieved, keys_read;
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
    Samples& sample = samples[stream.key.length];
    sample.rates.push_back(stream.append_tokens_per_second);
    sample.seconds.push_back(stream.append_seconds);
    for (const int64_t gap : stream.token_gaps_us) {
      sample.gaps.push_back(static_cast<double>(gap) * 1e-6);
    }
  }
  for (const QuestionResult& question : results.questions) {
    Samples& sample = samples[question.key.length];
    sample.first_tokens.push_back(question.time_to_first_token_seconds);
    sample.retrieved.push_back(question.retrieved_tokens);
    if (const auto read = KeysRead(*this, question); read.has_value()) {
      sample.keys_read.push_back(*read);
    }
  }
  for (const auto& [length, sample] : samples) {
    Cost& cost = costs[length];
    cost.append_tokens_per_second = Quantile(sample.rates, 0.5);
    cost.append_slowest = Quantile(sample.rates, 0);
    cost.append_fastest = Quantile(sample.rates, 1);
    cost.append_seconds = Quantile(sample.seconds, 0.5);
    cost.first_token_median = Quantile(sample.first_tokens, 0.5);
    cost.first_token_p99 = Quantile(sample.first_tokens, 0.99);
    cost.token_gaps = static_cast<int64_t>(sample.gaps.size());
    cost.gap_median = Quantile(sample.gaps, 0.5);
    cost.gap_p99 = Quantile(sample.gaps, 0.99);
    const double gap = MeanOf(sample.gaps).value;
    cost.generate_tokens_per_second = gap > 0 ? 1 / gap : 0;
    cost.retrieved_tokens = MeanOf(sample.retrieved).value;
    if (!sample.keys_read.empty()) cost.keys_read = MeanOf(sample.keys_read).value;
  }
  return costs;
}

std::vector<Series> SplitSeries(const std::vector<NamedResults>& all) {
  std::vector<Series> list;
  for (const NamedResults& named : all) {
    const size_t first = list.size();
    const auto series_of = [&](const StreamKey& key) -> Results& {
      const std::string method = key.Method();
      const auto found = std::find_if(list.begin() + static_cast<int64_t>(first), list.end(),
                                      [&](const Series& s) { return s.method == method; });
      if (found != list.end()) return found->results;
      list.push_back({.name = named.name.empty() ? method : absl::StrCat(named.name, " ", method),
                      .file = named.name,
                      .method = method,
                      .strategy = key.strategy,
                      .settings = key.settings,
                      .results = {.runs = named.results.runs}});
      return list.back().results;
    };
    for (const RunHeader& run : named.results.runs) {
      for (const std::string& strategy : run.strategies) {
        for (const std::string& settings : run.settings) {
          series_of({.strategy = strategy, .settings = settings});
        }
      }
    }
    for (const StreamResult& stream : named.results.streams) {
      series_of(stream.key).streams.push_back(stream);
    }
    for (const QuestionResult& question : named.results.questions) {
      series_of(question.key).questions.push_back(question);
    }
  }
  for (Series& series : list) {
    if (!series.results.runs.empty()) series.window_tokens = series.results.runs[0].window_tokens;
  }
  return list;
}

const Series* DefaultsOf(const Series& series, const std::vector<Series>& all) {
  for (const Series& other : all) {
    if (other.file == series.file && other.strategy == series.strategy && other.settings.empty()) {
      return &other;
    }
  }
  return nullptr;
}

PairedDifference Compare(const Series& series, const Series& other, int64_t length) {
  // Streams of one task and of several may have questions of the same number.
  using Asked = std::tuple<std::string, int64_t, int64_t, std::string, int64_t>;
  const auto asked = [](const QuestionResult& question) {
    return Asked(question.key.task, question.key.stream, question.index, question.question,
                 question.distance_tokens.value_or(-1));
  };
  std::map<Asked, double> scores;
  for (const QuestionResult& question : other.results.questions) {
    if (question.key.length == length) scores[asked(question)] = question.score;
  }
  std::vector<double> differences;
  for (const QuestionResult& question : series.results.questions) {
    if (question.key.length != length) continue;
    const auto found = scores.find(asked(question));
    if (found != scores.end()) differences.push_back(question.score - found->second);
  }
  return {.questions = static_cast<int64_t>(differences.size()), .difference = MeanOf(differences)};
}

std::optional<double> ScalingExponent(const std::map<int64_t, Cost>& costs) {
  double n = 0, x_sum = 0, y_sum = 0, xx = 0, xy = 0;
  for (const auto& [length, cost] : costs) {
    if (cost.append_seconds <= 0) continue;
    const double x = std::log(static_cast<double>(length)), y = std::log(cost.append_seconds);
    n += 1, x_sum += x, y_sum += y, xx += x * x, xy += x * y;
  }
  const double spread = n * xx - x_sum * x_sum;
  if (n < 2 || spread <= 0) return std::nullopt;
  return (n * xy - x_sum * y_sum) / spread;
}

}  // namespace rasq::client
