#include "client/eval/memory_metrics.h"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

namespace rasq::client {

std::vector<RetentionPoint> RetentionCurve(const std::vector<QuestionResult>& results) {
  constexpr int64_t kFirstEnd = 512;  // tokens
  std::map<int64_t, Share> by_end;
  for (const QuestionResult& result : results) {
    if (result.distance_tokens.has_value()) continue;
    int64_t end = kFirstEnd;
    while (result.age_tokens >= end) end *= 2;
    by_end[end].Add(result.right());
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
    if (result.kind == "now" && result.replaced_values > 0) consistency.now.Add(result.right());
    if (result.kind == "then") consistency.then.Add(result.right());
  }
  return consistency;
}

std::vector<DistancePoint> AdaptationCurve(const std::vector<QuestionResult>& results) {
  std::map<int64_t, Share> by_distance;
  for (const QuestionResult& result : results) {
    if (result.distance_tokens.has_value())
      by_distance[*result.distance_tokens].Add(result.right());
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
    if (result.right()) first = std::min(first, static_cast<double>(*result.distance_tokens));
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
