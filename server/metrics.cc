#include "server/metrics.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/engine_group.h"
#include "google/protobuf/descriptor.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "server/grpc_status.h"

namespace rasq {
namespace {

using prometheus::ClientMetric;
using prometheus::Histogram;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Edges = Histogram::BucketBoundaries;

// The edges of vLLM's vllm:time_to_first_token_seconds, vllm:time_per_output_token_seconds and
// vllm:iteration_tokens_total. The first also serve steps, lags and calls, which it has none for
// that begin at a millisecond.
const Edges& SecondsEdges() {
  static const Edges edges = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
                              1,     2.5,   5,    7.5,  10,   20,   40,   80,  160,  640, 2560};
  return edges;
}
const Edges& TokenSecondsEdges() {
  static const Edges edges = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5,
                              0.75, 1,     2.5,  5,     7.5, 10,   20,  40,  80};
  return edges;
}
const Edges& TokensEdges() {
  static const Edges edges = {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};
  return edges;
}

prometheus::Family<Histogram>& AddFamily(prometheus::Registry& registry, const char* name,
                                         const char* help) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry);
}

Histogram& AddHistogram(prometheus::Registry& registry, const char* name, const char* help,
                        const Edges& edges) {
  return AddFamily(registry, name, help).Add({}, edges);
}

MetricFamily Single(MetricType type, const char* name, const char* help, double value) {
  MetricFamily family{.name = name, .help = help, .type = type, .metric = {ClientMetric()}};
  (type == MetricType::Counter ? family.metric[0].counter.value : family.metric[0].gauge.value) =
      value;
  return family;
}
MetricFamily Gauge(const char* name, const char* help, double value) {
  return Single(MetricType::Gauge, name, help, value);
}
MetricFamily Counter(const char* name, const char* help, double value) {
  return Single(MetricType::Counter, name, help, value);
}

ClientMetric Labelled(std::vector<ClientMetric::Label> labels, double value) {
  ClientMetric metric;
  metric.label = std::move(labels);
  metric.gauge.value = value;
  return metric;
}

}  // namespace

Metrics::Metrics()
    : registry_(std::make_shared<prometheus::Registry>()),
      time_to_first_token_(AddHistogram(*registry_, "rasq_time_to_first_token_seconds",
                                        "From a Generate call to its first token.",
                                        SecondsEdges())),
      inter_token_latency_(AddHistogram(*registry_, "rasq_inter_token_latency_seconds",
                                        "Between a generation's tokens.", TokenSecondsEdges())),
      append_lag_(AddHistogram(*registry_, "rasq_append_lag_seconds",
                               "From accepting an append to having absorbed it.", SecondsEdges())),
      batch_tokens_(
          AddHistogram(*registry_, "rasq_batch_tokens", "Tokens of one step.", TokensEdges())),
      retrieved_tokens_(AddHistogram(*registry_, "rasq_retrieved_tokens",
                                     "Buffer entries that one retrieval read.", TokensEdges())),
      retrieval_budget_(AddHistogram(*registry_, "rasq_retrieval_budget_tokens",
                                     "Buffer entries that one retrieval was allowed to read.",
                                     TokensEdges())),
      request_duration_(AddFamily(*registry_, "rasq_request_duration_seconds",
                                  "From a call's start to its status, by method and code.")),
      rejected_(prometheus::BuildCounter()
                    .Name("rasq_requests_rejected_total")
                    .Help("Calls that were refused, by the ErrorInfo's reason.")
                    .Register(*registry_)) {
  auto& steps = AddFamily(*registry_, "rasq_step_duration_seconds", "Time of one step, by kind.");
  step_duration_ = {&steps.Add({{"kind", "append"}}, SecondsEdges()),
                    &steps.Add({{"kind", "decode"}}, SecondsEdges()),
                    &steps.Add({{"kind", "mixed"}}, SecondsEdges())};
  // Series that stand from the start let an alert's rate() see the first event.
  for (const char* name : {"rasq.v1.SessionService", "rasq.v1.ModelService"}) {
    const auto* service =
        google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(name);
    for (int i = 0; service != nullptr && i < service->method_count(); ++i) {
      request_duration_.Add({{"method", service->method(i)->name()}, {"code", "OK"}},
                            SecondsEdges());
    }
  }
  for (const absl::StatusCode code :
       {absl::StatusCode::kResourceExhausted, absl::StatusCode::kInvalidArgument,
        absl::StatusCode::kNotFound, absl::StatusCode::kAborted}) {
    rejected_.Add({{"reason", std::string(ReasonOf(code))}});
  }
}

void Metrics::OnStep(StepKind kind, absl::Duration time, int32_t tokens) {
  step_duration_[static_cast<size_t>(kind)]->Observe(absl::ToDoubleSeconds(time));
  batch_tokens_.Observe(tokens);
}

void Metrics::OnFirstToken(absl::Duration since_call) {
  time_to_first_token_.Observe(absl::ToDoubleSeconds(since_call));
}

void Metrics::OnNextToken(absl::Duration since_last) {
  inter_token_latency_.Observe(absl::ToDoubleSeconds(since_last));
}

void Metrics::OnAbsorbed(absl::Duration since_accepted) {
  append_lag_.Observe(absl::ToDoubleSeconds(since_accepted));
}

void Metrics::OnRetrieval(int32_t budget_tokens, int32_t read_tokens) {
  retrieval_budget_.Observe(budget_tokens);
  retrieved_tokens_.Observe(read_tokens);
}

void Metrics::OnCallEnd(absl::string_view method, absl::StatusCode code, absl::Duration duration) {
  request_duration_
      .Add({{"method", std::string(method)}, {"code", absl::StatusCodeToString(code)}},
           SecondsEdges())
      .Observe(absl::ToDoubleSeconds(duration));
  const bool refused = code != absl::StatusCode::kOk && code != absl::StatusCode::kCancelled &&
                       code != absl::StatusCode::kDeadlineExceeded;
  if (refused) rejected_.Add({{"reason", std::string(ReasonOf(code))}}).Increment();
}

std::vector<MetricFamily> EngineCollector::Collect() const {
  return CollectStats(engine_.Stats(), engine_.model());
}

std::vector<MetricFamily> CollectStats(const EngineStats& stats, const ModelInfo& model) {
  std::vector<MetricFamily> families = {
      Gauge("rasq_sessions_open", "Sessions that exist.", stats.sessions_open),
      Gauge("rasq_sessions_active", "Sessions with work in flight.", stats.sessions_active),
      Gauge("rasq_session_slots_total", "States allocated on the device.", stats.slots_total),
      Gauge("rasq_session_slots_used", "States that a session holds.", stats.slots_used),
      Gauge("rasq_session_state_bytes", "Device memory of one state.",
            static_cast<double>(model.session_state_bytes)),
      Gauge("rasq_append_backlog_tokens", "Accepted and not absorbed, of all sessions.",
            static_cast<double>(stats.backlog_tokens)),
      Gauge("rasq_generations_running", "Generations on the device.", stats.generations_running),
      Gauge("rasq_generations_queued", "Generations that wait for a place.",
            stats.generations_queued),
      Counter("rasq_appended_tokens_total", "Tokens absorbed into sessions.",
              static_cast<double>(stats.appended_tokens)),
      Counter("rasq_generated_tokens_total", "Tokens generated.",
              static_cast<double>(stats.generated_tokens)),
      Counter("rasq_buffer_replacements_total", "Entries that fell out of a session's buffer.",
              static_cast<double>(stats.buffer_replacements))};

  families.push_back(
      {.name = "rasq_device_memory_bytes",
       .help = "Device memory held, by what for.",
       .type = MetricType::Gauge,
       .metric = {Labelled({{"kind", "weights"}}, static_cast<double>(stats.weight_bytes)),
                  Labelled({{"kind", "sessions"}}, static_cast<double>(stats.session_bytes)),
                  Labelled({{"kind", "workspace"}}, static_cast<double>(stats.workspace_bytes))}});
  families.push_back({.name = "rasq_build_info",
                      .help = "Always 1; the server's version is its label.",
                      .type = MetricType::Gauge,
                      .metric = {Labelled({{"version", RASQ_VERSION}}, 1)}});
  families.push_back({.name = "rasq_model_info",
                      .help = "Always 1; what is served, and on what, are its labels.",
                      .type = MetricType::Gauge,
                      .metric = {Labelled({{"name", model.name},
                                           {"architecture", model.architecture},
                                           {"fingerprint", model.fingerprint},
                                           {"device", model.device},
                                           {"dtype", model.dtype}},
                                          1)}});
  return families;
}

}  // namespace rasq
