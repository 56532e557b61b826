// How sure figures are: over the questions that were asked, or the streams that were run.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "client/eval/answer_metrics.h"

namespace rasq::client {

// Within which the true share lies with 95 %: Wilson's interval (Wilson 1927) of `mean` over
// `count` questions. Of scores between 0 and 1 that are not all-or-nothing it is too wide, never
// too narrow: no others vary more. {0, 1} if nothing was asked.
struct Interval {
  double low, high;
};
Interval WilsonInterval(double mean, int64_t count);

// A mean and its standard error (the sample's deviation over the root of its size), which one
// value alone does not have.
struct Mean {
  double value = 0;
  std::optional<double> error;
};
Mean MeanOf(const std::vector<double>& values);

// Corpus BLEU, and the standard deviation of it over bootstrap samples of the pairs (Efron 1979):
// BLEU is no mean. The same for the same pairs.
Mean BleuOf(const std::vector<BleuCounts>& pairs);

}  // namespace rasq::client
