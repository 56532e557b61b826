#include "client/eval/cost_tables.h"

#include <map>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"

namespace rasq::client {

Table CostTable(const std::vector<Series>& list) {
  Table table{
      .name = "cost",
      .title = "Memory, throughput and token efficiency",
      .columns = {"model", "strategy", "length", "streams", "refused", "state bytes",
                  "append tokens/s, median", "slowest", "fastest", "generate tokens/s",
                  "retrieved tokens", "keys read, % of full attention", "scaling exponent"}};
  for (const Series& series : list) {
    const std::map<int64_t, Cost> costs = series.Costs();
    const std::optional<double> exponent = ScalingExponent(costs);
    for (const auto& [length, cost] : costs) {
      table.rows.push_back(
          {series.file, series.method, absl::StrCat(length), absl::StrCat(cost.streams),
           absl::StrCat(cost.refused), absl::StrCat(cost.state_bytes),
           Number(cost.append_tokens_per_second, 0), Number(cost.append_slowest, 0),
           Number(cost.append_fastest, 0), Number(cost.generate_tokens_per_second, 0),
           Number(cost.retrieved_tokens, 1), Percent(cost.keys_read),
           exponent.has_value() ? Number(*exponent, 3) : "-"});
    }
  }
  return table;
}

Table LatencyTable(const std::vector<Series>& list) {
  Table table{.name = "latency",
              .title = "Latency, ms",
              .columns = {"model", "strategy", "length", "first token, median", "p99",
                          "tokens timed", "between tokens, median", "of these p99"}};
  for (const Series& series : list) {
    for (const auto& [length, cost] : series.Costs()) {
      if (cost.refused == cost.streams) continue;
      const bool timed = cost.token_gaps > 0;
      table.rows.push_back({series.file, series.method, absl::StrCat(length),
                            Number(1000 * cost.first_token_median, 1),
                            Number(1000 * cost.first_token_p99, 1), absl::StrCat(cost.token_gaps),
                            timed ? Number(1000 * cost.gap_median, 2) : "-",
                            timed ? Number(1000 * cost.gap_p99, 2) : "-"});
    }
  }
  return table;
}

// The first reason for each length.
Table RefusedTable(const std::vector<Series>& list) {
  Table table{.name = "refused",
              .title = "What the server did not take",
              .columns = {"model", "strategy", "length", "streams", "why"}};
  for (const Series& series : list) {
    std::map<int64_t, std::string> reasons;
    for (const StreamResult& stream : series.results.streams) {
      if (!stream.refused.empty()) reasons.emplace(stream.key.length, stream.refused);
    }
    const std::map<int64_t, Cost> costs = series.Costs();
    for (const auto& [length, reason] : reasons) {
      table.rows.push_back({series.file, series.method, absl::StrCat(length),
                            absl::StrCat(costs.at(length).refused), reason});
    }
  }
  return table;
}

}  // namespace rasq::client
