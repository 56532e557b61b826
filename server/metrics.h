// What /metrics shows of the server: histograms filled by the engines' threads and by calls as they
// end, and the engine's gauges and counters, read when the page is. Names carry the prefix `rasq_`;
// no label holds a session id. Histogram edges are those of vLLM, so that its dashboards compare.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/types.h"
#include "prometheus/collectable.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/registry.h"

namespace rasq {

class EngineGroup;

// Any thread may call any method.
class Metrics : public EngineObserver {
 public:
  Metrics();

  void OnStep(StepKind kind, absl::Duration time, int32_t tokens) override;
  void OnFirstToken(absl::Duration since_call) override;
  void OnNextToken(absl::Duration since_last) override;
  void OnAbsorbed(absl::Duration since_accepted) override;
  void OnRetrieval(int32_t budget_tokens, int32_t read_tokens) override;

  // As health checks are answered; false from the start.
  void SetServing(bool serving) { serving_.Set(serving ? 1 : 0); }
  // So many tokens of an append were scored, and its call is told.
  void OnScored(int64_t tokens) { scored_tokens_.Increment(static_cast<double>(tokens)); }
  // A call has ended; those that were refused are also counted by reason.
  void OnCallEnd(absl::string_view method, absl::StatusCode code, absl::Duration duration);

  std::shared_ptr<prometheus::Collectable> registry() const { return registry_; }

 private:
  std::shared_ptr<prometheus::Registry> registry_;
  prometheus::Gauge& serving_;
  prometheus::Counter& scored_tokens_;
  prometheus::Histogram& time_to_first_token_;
  prometheus::Histogram& inter_token_latency_;
  prometheus::Histogram& append_lag_;
  prometheus::Histogram& batch_tokens_;
  prometheus::Histogram& retrieved_tokens_;
  prometheus::Histogram& retrieval_budget_;
  std::array<prometheus::Histogram*, 3> step_duration_;  // by StepKind
  prometheus::Family<prometheus::Histogram>& request_duration_;
  prometheus::Family<prometheus::Counter>& rejected_;
};

// The page's part that EngineGroup::Stats() and model() fill. `engine` is borrowed and must
// outlive every Collect.
class EngineCollector : public prometheus::Collectable {
 public:
  explicit EngineCollector(const EngineGroup& engine) : engine_(engine) {}
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const EngineGroup& engine_;
};

// As EngineCollector shows them; apart, so that tests need no engine.
std::vector<prometheus::MetricFamily> CollectStats(const EngineStats& stats,
                                                   const ModelInfo& model);

}  // namespace rasq
