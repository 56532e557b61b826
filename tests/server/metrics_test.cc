#include "server/metrics.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "prometheus/text_serializer.h"

namespace rasq {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Page(const Metrics& metrics) {
  return prometheus::TextSerializer().Serialize(metrics.registry()->Collect());
}

TEST(MetricsTest, EveryHistogramStandsFromTheStart) {
  const std::string page = Page(Metrics());
  for (const char* name : {"rasq_time_to_first_token_seconds", "rasq_inter_token_latency_seconds",
                           "rasq_append_lag_seconds", "rasq_batch_tokens", "rasq_retrieved_tokens",
                           "rasq_retrieval_budget_tokens", "rasq_step_duration_seconds",
                           "rasq_request_duration_seconds"}) {
    EXPECT_THAT(page, HasSubstr(absl::StrCat("# TYPE ", name, " histogram\n")));
    EXPECT_THAT(page, HasSubstr(absl::StrCat("\n", name, "_count")));
  }
  for (const char* reason : {"AT_CAPACITY", "INTERNAL", "SERVER_STOPPING", "SESSION_EXISTS"}) {
    EXPECT_THAT(
        page, HasSubstr(absl::StrCat("rasq_requests_rejected_total{reason=\"", reason, "\"} 0\n")));
  }
  EXPECT_THAT(page, Not(HasSubstr("reason=\"\"")));
  EXPECT_THAT(page, Not(HasSubstr("DEADLINE_EXCEEDED")));
}

TEST(MetricsTest, ServingFollowsHealth) {
  Metrics metrics;
  EXPECT_THAT(Page(metrics), HasSubstr("\nrasq_serving 0\n"));
  metrics.SetServing(true);
  EXPECT_THAT(Page(metrics), HasSubstr("\nrasq_serving 1\n"));
  metrics.SetServing(false);
  EXPECT_THAT(Page(metrics), HasSubstr("\nrasq_serving 0\n"));
}

TEST(MetricsTest, ObservationsAreInSeconds) {
  Metrics metrics;
  metrics.OnStep(StepKind::kMixed, absl::Milliseconds(30), /*tokens=*/64);
  metrics.OnFirstToken(absl::Milliseconds(250));
  metrics.OnNextToken(absl::Milliseconds(20));
  metrics.OnAbsorbed(absl::Seconds(2));
  metrics.OnRetrieval(/*budget_tokens=*/128, /*read_tokens=*/96);
  const std::string page = Page(metrics);
  EXPECT_THAT(page, HasSubstr("rasq_step_duration_seconds_sum{kind=\"mixed\"} 0.03"));
  EXPECT_THAT(page, HasSubstr("rasq_step_duration_seconds_count{kind=\"decode\"} 0"));
  EXPECT_THAT(page, HasSubstr("rasq_batch_tokens_bucket{le=\"64\"} 1"));
  EXPECT_THAT(page, HasSubstr("rasq_batch_tokens_bucket{le=\"32\"} 0"));
  EXPECT_THAT(page, HasSubstr("rasq_time_to_first_token_seconds_bucket{le=\"0.25\"} 1"));
  EXPECT_THAT(page, HasSubstr("rasq_inter_token_latency_seconds_bucket{le=\"0.025\"} 1"));
  EXPECT_THAT(page, HasSubstr("rasq_append_lag_seconds_sum 2"));
  EXPECT_THAT(page, HasSubstr("rasq_retrieved_tokens_sum 96"));
  EXPECT_THAT(page, HasSubstr("rasq_retrieval_budget_tokens_sum 128"));
}

TEST(MetricsTest, ScoredTokensAddUp) {
  Metrics metrics;
  EXPECT_THAT(Page(metrics), HasSubstr("# TYPE rasq_scored_tokens_total counter\n"
                                       "rasq_scored_tokens_total 0\n"));
  metrics.OnScored(0);
  metrics.OnScored(40);
  metrics.OnScored(2);
  EXPECT_THAT(Page(metrics), HasSubstr("\nrasq_scored_tokens_total 42\n"));
}

TEST(MetricsTest, CallsByMethodAndCode) {
  Metrics metrics;
  metrics.OnCallEnd("Append", absl::StatusCode::kOk, absl::Milliseconds(5));
  metrics.OnCallEnd("Append", absl::StatusCode::kResourceExhausted, absl::Milliseconds(1));
  metrics.OnCallEnd("Generate", absl::StatusCode::kCancelled, absl::Milliseconds(1));
  const std::string page = Page(metrics);
  // Labels come in no fixed order.
  EXPECT_THAT(page, ::testing::ContainsRegex(
                        "rasq_request_duration_seconds_count\\{[^}]*RESOURCE_EXHAUSTED[^}]*\\} 1"));
  EXPECT_THAT(page, HasSubstr("rasq_requests_rejected_total{reason=\"AT_CAPACITY\"} 1"));
  EXPECT_THAT(page, Not(HasSubstr("reason=\"CANCELLED\"")));
}

TEST(MetricsTest, StatsBecomeGaugesAndCounters) {
  EngineStats stats;
  stats.sessions_open = 3;
  stats.slots_total = 16;
  stats.appended_tokens = 1'000'000'000'000;
  stats.weight_bytes = 1 << 20;
  stats.backlog_limit_tokens = 4 << 20;
  stats.sessions_parked_host = 5;
  stats.sessions_parked_disk = 7;
  stats.parks = 12;
  stats.unparks = 11;
  stats.snapshots_written = 9;
  stats.snapshots_failed = 2;
  stats.log_entries = 100;
  stats.log_syncs = 10;
  ModelInfo model;
  model.name = "default";
  model.session_state_bytes = 4096;
  const std::string page = prometheus::TextSerializer().Serialize(CollectStats(stats, model));
  EXPECT_THAT(page, HasSubstr("# TYPE rasq_sessions_open gauge\nrasq_sessions_open 3\n"));
  EXPECT_THAT(page, HasSubstr("rasq_session_slots_total 16\n"));
  EXPECT_THAT(page, HasSubstr("rasq_session_state_bytes 4096\n"));
  EXPECT_THAT(page, HasSubstr("# TYPE rasq_appended_tokens_total counter\n"
                              "rasq_appended_tokens_total 1000000000000\n"));
  EXPECT_THAT(page, HasSubstr("rasq_device_memory_bytes{kind=\"weights\"} 1048576\n"));
  EXPECT_THAT(page, HasSubstr("rasq_append_backlog_limit_tokens 4194304\n"));
  EXPECT_THAT(page, HasSubstr("rasq_sessions_parked{place=\"host\"} 5\n"));
  EXPECT_THAT(page, HasSubstr("rasq_sessions_parked{place=\"disk\"} 7\n"));
  EXPECT_THAT(page, HasSubstr("rasq_parks_total 12\n"));
  EXPECT_THAT(page, HasSubstr("rasq_unparks_total 11\n"));
  EXPECT_THAT(page, HasSubstr("# TYPE rasq_snapshots_total counter\n"
                              "rasq_snapshots_total{outcome=\"ok\"} 9\n"
                              "rasq_snapshots_total{outcome=\"failed\"} 2\n"));
  EXPECT_THAT(page, HasSubstr("rasq_log_entries_total 100\n"));
  EXPECT_THAT(page, HasSubstr("rasq_log_syncs_total 10\n"));
  EXPECT_THAT(page, HasSubstr("rasq_model_info{name=\"default\""));
  EXPECT_THAT(page, HasSubstr("rasq_build_info{version=\""));
}

}  // namespace
}  // namespace rasq
