#include "server/metrics.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/engine_group.h"
#include "google/protobuf/descriptor.h"
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

// What the client gave up is none.
bool IsRefusal(absl::StatusCode code) {
  return code != absl::StatusCode::kOk && code != absl::StatusCode::kCancelled &&
         code != absl::StatusCode::kDeadlineExceeded;
}

using Labels = std::vector<ClientMetric::Label>;

// A family of one metric for each set of labels.
MetricFamily Labelled(MetricType type, const char* name, const char* help,
                      std::vector<std::pair<Labels, double>> values) {
  MetricFamily family{.name = name, .help = help, .type = type};
  for (auto& [labels, value] : values) {
    ClientMetric& metric = family.metric.emplace_back();
    metric.label = std::move(labels);
    (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
  }
  return family;
}
template <typename T>
MetricFamily Gauge(const char* name, const char* help, T value) {
  return Labelled(MetricType::Gauge, name, help, {{{}, static_cast<double>(value)}});
}
MetricFamily Counter(const char* name, const char* help, int64_t value) {
  return Labelled(MetricType::Counter, name, help, {{{}, static_cast<double>(value)}});
}

}  // namespace

Metrics::Metrics()
    : registry_(std::make_shared<prometheus::Registry>()),
      serving_(prometheus::BuildGauge()
                   .Name("rasq_serving")
                   .Help("1 if health checks say SERVING; 0 at start and while it drains.")
                   .Register(*registry_)
                   .Add({})),
      scored_tokens_(prometheus::BuildCounter()
                         .Name("rasq_scored_tokens_total")
                         .Help("Appended tokens that were scored, as their calls asked for.")
                         .Register(*registry_)
                         .Add({})),
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
  for (int code = 1; code <= static_cast<int>(absl::StatusCode::kUnauthenticated); ++code) {
    if (IsRefusal(static_cast<absl::StatusCode>(code))) {
      rejected_.Add({{"reason", std::string(ReasonOf(static_cast<absl::StatusCode>(code)))}});
    }
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
  if (IsRefusal(code)) rejected_.Add({{"reason", std::string(ReasonOf(code))}}).Increment();
}

std::vector<MetricFamily> EngineCollector::Collect() const {
  return CollectStats(engine_.Stats(), engine_.model());
}

std::vector<MetricFamily> CollectStats(const EngineStats& stats, const ModelInfo& model) {
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  return {
      Gauge("rasq_sessions_open", "Sessions that exist.", stats.sessions_open),
      Gauge("rasq_sessions_active", "Sessions with work in flight.", stats.sessions_active),
      Labelled(MetricType::Gauge, "rasq_sessions_parked", "Sessions off the device, by where.",
               {{{{"place", "host"}}, number(stats.sessions_parked_host)},
                {{{"place", "disk"}}, number(stats.sessions_parked_disk)}}),
      Gauge("rasq_session_slots_total", "States allocated on the device.", stats.slots_total),
      Gauge("rasq_session_slots_used", "States that a session holds.", stats.slots_used),
      Gauge("rasq_session_state_bytes", "Device memory of one state.", model.session_state_bytes),
      Gauge("rasq_append_backlog_tokens", "Accepted and not absorbed, of all sessions.",
            stats.backlog_tokens),
      Gauge("rasq_append_backlog_limit_tokens", "Backlog past which appends are refused.",
            stats.backlog_limit_tokens),
      Gauge("rasq_generations_running", "Generations on the device.", stats.generations_running),
      Gauge("rasq_generations_queued", "Generations that wait for a place.",
            stats.generations_queued),
      Counter("rasq_appended_tokens_total", "Tokens absorbed into sessions.",
              stats.appended_tokens),
      Counter("rasq_generated_tokens_total", "Tokens generated.", stats.generated_tokens),
      Counter("rasq_buffer_replacements_total", "Entries that fell out of a session's buffer.",
              stats.buffer_replacements),
      Counter("rasq_parks_total", "Sessions that left the device.", stats.parks),
      Counter("rasq_unparks_total", "Sessions that came back to the device.", stats.unparks),
      Labelled(MetricType::Counter, "rasq_snapshots_total", "Snapshots of sessions, by outcome.",
               {{{{"outcome", "ok"}}, number(stats.snapshots_written)},
                {{{"outcome", "failed"}}, number(stats.snapshots_failed)}}),
      Counter("rasq_log_entries_total", "Appends written to the durable log.", stats.log_entries),
      Counter("rasq_log_syncs_total", "Syncs of the durable log to disk.", stats.log_syncs),
      Labelled(MetricType::Gauge, "rasq_device_memory_bytes", "Device memory held, by what for.",
               {{{{"kind", "weights"}}, number(stats.weight_bytes)},
                {{{"kind", "sessions"}}, number(stats.session_bytes)},
                {{{"kind", "workspace"}}, number(stats.workspace_bytes)}}),
      Labelled(MetricType::Gauge, "rasq_build_info", "Always 1; the server's version is its label.",
               {{{{"version", RASQ_VERSION}}, 1}}),
      Labelled(MetricType::Gauge, "rasq_model_info",
               "Always 1; what is served, and on what, are its labels.",
               {{{{"name", model.name},
                  {"architecture", model.architecture},
                  {"fingerprint", model.fingerprint},
                  {"device", model.device},
                  {"dtype", model.dtype}},
                 1}})};
}

}  // namespace rasq
