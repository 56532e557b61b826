// What the answers of an evaluation say about memory.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "client/eval/results.h"

namespace rasq::client {

struct Share {
  int64_t right = 0;
  int64_t asked = 0;
  void Add(bool is_right) {
    right += is_right ? 1 : 0;
    ++asked;
  }
  double value() const { return asked == 0 ? 0 : static_cast<double>(right) / asked; }
};

// Information retention: how many questions are answered right, by the age of the newest fact that
// they need. The first point holds ages below 512 tokens, each next one twice as high ages; points
// without a question are left out, and what was asked along the stream.
struct RetentionPoint {
  int64_t min_age_tokens, end_age_tokens;
  Share share;
};
std::vector<RetentionPoint> RetentionCurve(const std::vector<QuestionResult>& results);

// Temporal consistency of values that changed: questions for the newest value, and for the value at
// a time.
struct TemporalConsistency {
  Share now, then;
};
TemporalConsistency MeasureTemporalConsistency(const std::vector<QuestionResult>& results);

// Adaptation speed, of questions asked along the stream: how many tokens after an update its value
// is answered right for the first time.
struct AdaptationSpeed {
  int64_t updates = 0;
  int64_t never = 0;                    // answered right at no distance
  std::optional<double> median_tokens;  // none: there are no updates, or most are never right
};
// How many questions are answered right at each distance, ascending.
struct DistancePoint {
  int64_t distance_tokens;
  Share share;
};
std::vector<DistancePoint> AdaptationCurve(const std::vector<QuestionResult>& results);
AdaptationSpeed MeasureAdaptationSpeed(const std::vector<QuestionResult>& results);

}  // namespace rasq::client
