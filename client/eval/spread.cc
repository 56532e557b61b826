#include "client/eval/spread.h"

#include <algorithm>
#include <cmath>

#include "client/tasks/random.h"

namespace rasq::client {
namespace {

constexpr int kBootstrapSamples = 500;

}  // namespace

Interval WilsonInterval(double mean, int64_t count) {
  if (count == 0) return {.low = 0, .high = 1};
  constexpr double kZ = 1.959964;  // of the normal distribution's 97.5 %
  const auto n = static_cast<double>(count);
  const double z2 = kZ * kZ / n;
  const double middle = (mean + z2 / 2) / (1 + z2);
  const double half = kZ * std::sqrt(mean * (1 - mean) / n + z2 / (4 * n)) / (1 + z2);
  return {.low = std::max(0.0, middle - half), .high = std::min(1.0, middle + half)};
}

Mean MeanOf(const std::vector<double>& values) {
  if (values.empty()) return {};
  const auto n = static_cast<double>(values.size());
  double sum = 0, squares = 0;
  for (const double value : values) sum += value;
  const double mean = sum / n;
  for (const double value : values) squares += (value - mean) * (value - mean);
  if (values.size() < 2) return {.value = mean, .error = std::nullopt};
  return {.value = mean, .error = std::sqrt(squares / (n - 1) / n)};
}

Mean BleuOf(const std::vector<BleuCounts>& pairs) {
  BleuCounts all;
  for (const BleuCounts& pair : pairs) all.Add(pair);
  if (pairs.size() < 2) return {.value = all.Bleu(), .error = std::nullopt};
  tasks::Random random(/*seed=*/1);
  double sum = 0, squares = 0;
  for (int i = 0; i < kBootstrapSamples; ++i) {
    BleuCounts sample;
    for (size_t j = 0; j < pairs.size(); ++j) sample.Add(random.Pick(pairs));
    const double bleu = sample.Bleu();
    sum += bleu;
    squares += bleu * bleu;
  }
  const double mean = sum / kBootstrapSamples;
  return {.value = all.Bleu(),
          .error = std::sqrt(std::max(0.0, squares / kBootstrapSamples - mean * mean))};
}

}  // namespace rasq::client
