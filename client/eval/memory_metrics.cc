#include "client/eval/memory_metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

namespace rasq::client {

Interval WilsonInterval(const Share& share) {
  if (share.asked == 0) return {.low = 0, .high = 1};
  constexpr double kZ = 1.959964;  // of the normal distribution's 97.5 %
  const auto n = static_cast<double>(share.asked);
  const double p = share.value(), z2 = kZ * kZ / n;
  const double middle = (p + z2 / 2) / (1 + z2);
  const double half = kZ * std::sqrt(p * (1 - p) / n + z2 / (4 * n)) / (1 + z2);
  return {.low = std::max(0.0, middle - half), .high = std::min(1.0, middle + half)};
}

std::vector<RetentionPoint> RetentionCurve(const std::vector<QuestionResult>& results) {
  constexpr int64_t kFirstEnd = 512;  // tokens
  std::map<int64_t, Share> by_end;
  for (const QuestionResult& result : results) {
    if (result.distance_tokens.has_value()) continue;
    int64_t end = kFirstEnd;
    while (result.age_tokens >= end) end *= 2;
    by_end[end].Add(result.exact);
  }
  std::vector<RetentionPoint> curve;
  for (const auto& [end, share] : by_end) {
    curve.push_back(
        {.min_age_tokens = end == kFirstEnd ? 0 : end / 2, .end_age_tokens = end, .share = share});
  }
  return curve;
}

TemporalConsistency MeasureTemporalConsistency(const std::vector<QuestionResult>& results) {
  TemporalConsistency consistency;
  for (const QuestionResult& result : results) {
    if (result.distance_tokens.has_value()) continue;  // these measure adaptation
    if (result.kind == "now" && result.replaced_values > 0) consistency.now.Add(result.exact);
    if (result.kind == "then") consistency.then.Add(result.exact);
  }
  return consistency;
}

std::vector<DistancePoint> AdaptationCurve(const std::vector<QuestionResult>& results) {
  std::map<int64_t, Share> by_distance;
  for (const QuestionResult& result : results) {
    if (result.distance_tokens.has_value()) by_distance[*result.distance_tokens].Add(result.exact);
  }
  std::vector<DistancePoint> curve;
  for (const auto& [distance, share] : by_distance) curve.push_back({distance, share});
  return curve;
}

AdaptationSpeed MeasureAdaptationSpeed(const std::vector<QuestionResult>& results) {
  constexpr double kNever = std::numeric_limits<double>::infinity();
  std::map<std::pair<StreamKey, int64_t>, double> first_right;  // by update
  for (const QuestionResult& result : results) {
    if (!result.distance_tokens.has_value()) continue;
    double& first = first_right.try_emplace({result.key, result.index}, kNever).first->second;
    if (result.exact) first = std::min(first, static_cast<double>(*result.distance_tokens));
  }
  std::vector<double> distances;
  AdaptationSpeed speed;
  for (const auto& [unused, distance] : first_right) {
    distances.push_back(distance);
    speed.never += distance == kNever ? 1 : 0;
  }
  speed.updates = static_cast<int64_t>(distances.size());
  if (distances.empty()) return speed;
  std::sort(distances.begin(), distances.end());
  const double median =
      (distances[(distances.size() - 1) / 2] + distances[distances.size() / 2]) / 2;
  if (median != kNever) speed.median_tokens = median;
  return speed;
}

}  // namespace rasq::client
