#include "client/eval/perplexity.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace rasq::client {

int64_t ScoredShare(int64_t length_tokens) {
  constexpr int64_t kLeast = 1024;
  return std::min(length_tokens, std::max(kLeast, length_tokens / 4));
}

std::vector<PerplexityCell> MeasurePerplexity(const std::vector<StreamResult>& streams) {
  std::vector<std::string> methods;
  std::map<size_t, std::map<int64_t, std::vector<const StreamResult*>>> scored;
  for (const StreamResult& stream : streams) {
    if (stream.scored_tokens.value_or(0) == 0 || !stream.logprob_sum.has_value()) continue;
    const std::string method = stream.key.Method();
    const auto found = std::find(methods.begin(), methods.end(), method);
    const auto index = static_cast<size_t>(found - methods.begin());
    if (found == methods.end()) methods.push_back(method);
    scored[index][stream.key.length].push_back(&stream);
  }
  std::vector<PerplexityCell> cells;
  for (const auto& [method, by_length] : scored) {
    for (const auto& [length, results] : by_length) {
      PerplexityCell cell{.method = methods[method],
                          .length = length,
                          .streams = static_cast<int64_t>(results.size())};
      std::vector<double> losses;
      for (const StreamResult* result : results) {
        cell.tokens += *result->scored_tokens;
        losses.push_back(-*result->logprob_sum / static_cast<double>(*result->scored_tokens));
      }
      const auto [least, most] = std::minmax_element(losses.begin(), losses.end());
      cell.lowest = std::exp(*least);
      cell.highest = std::exp(*most);
      cell.loss = MeanOf(losses);
      cell.perplexity = std::exp(cell.loss.value);
      cells.push_back(std::move(cell));
    }
  }
  return cells;
}

}  // namespace rasq::client
