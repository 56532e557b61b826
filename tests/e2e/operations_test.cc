// What operators see: health, reflection, metrics, addresses, a drained stop.
#include <chrono>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/support/byte_buffer.h"
#include "gtest/gtest.h"
#include "tests/support/server_fixture.h"

namespace rasq {
namespace {

using grpc::StatusCode;

// grpc.health.v1 by its bytes: a request is field 1, the service's name; a response is field 1, a
// status: 1 SERVING, 2 NOT_SERVING.
constexpr char kCheck[] = "/grpc.health.v1.Health/Check";
constexpr char kWatch[] = "/grpc.health.v1.Health/Watch";

grpc::ByteBuffer HealthRequest(const std::string& service) {
  const grpc::Slice slice(service.empty()
                              ? std::string()
                              : std::string("\x0A") + static_cast<char>(service.size()) + service);
  return grpc::ByteBuffer(&slice, 1);
}

int HealthStatus(grpc::ByteBuffer& response) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (!response.Dump(&slices).ok()) return -1;
  for (const grpc::Slice& slice : slices) {
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return bytes.size() == 2 && bytes[0] == 8 ? bytes[1] : -1;
}

bool Next(grpc::CompletionQueue& queue) {
  void* tag = nullptr;
  bool ok = false;
  const auto deadline = std::chrono::system_clock::now() + std::chrono::minutes(1);
  return queue.AsyncNext(&tag, &ok, deadline) == grpc::CompletionQueue::GOT_EVENT && ok;
}

ServerOptions WithMetrics() {
  ServerOptions options = TestServerOptions();
  options.metrics_listen = "127.0.0.1:0";
  return options;
}

class OperationsTest : public ServerTest {
 protected:
  // The service's status, or -1 - the call's code.
  int Check(const std::string& service) {
    grpc::GenericStub stub(Connect());
    grpc::CompletionQueue queue;
    grpc::ClientContext context;
    const auto call =
        stub.PrepareUnaryCall(&WithDeadline(context), kCheck, HealthRequest(service), &queue);
    call->StartCall();
    grpc::ByteBuffer response;
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    if (!Next(queue)) return -1;
    return status.ok() ? HealthStatus(response) : -1 - status.error_code();
  }
};

TEST_F(OperationsTest, EveryServiceIsHealthy) {
  StartServer();
  EXPECT_EQ(Check(""), 1);
  EXPECT_EQ(Check("rasq.v1.SessionService"), 1);
  EXPECT_EQ(Check("rasq.v1.ModelService"), 1);
  EXPECT_EQ(Check("rasq.v1.AdminService"), 1);
  EXPECT_EQ(Check("rasq.v1.NoService"), -1 - StatusCode::NOT_FOUND);
}

TEST_F(OperationsTest, WatchHearsOfTheStop) {
  StartServer();
  grpc::GenericStub stub(Connect());
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  const auto call = stub.PrepareCall(&WithDeadline(context), kWatch, &queue);
  call->StartCall(nullptr);
  ASSERT_TRUE(Next(queue));
  call->WriteLast(HealthRequest("rasq.v1.SessionService"), grpc::WriteOptions(), nullptr);
  ASSERT_TRUE(Next(queue));
  grpc::ByteBuffer response;
  call->Read(&response, nullptr);
  ASSERT_TRUE(Next(queue));
  EXPECT_EQ(HealthStatus(response), 1);
  // A generation holds the stop back, so that the change is seen before the connection ends.
  ASSERT_TRUE(Create("s").ok());
  v1::GenerateRequest request = EndlessGeneration("s");
  request.mutable_stop()->set_max_new_tokens(32);
  RunningGeneration generation(sessions(), request);
  std::thread stopper([this] { StopServer(); });
  call->Read(&response, nullptr);
  EXPECT_TRUE(Next(queue));
  EXPECT_EQ(HealthStatus(response), 2);
  EXPECT_TRUE(generation.Finish().ok());
  stopper.join();
  grpc::Status status;
  call->Finish(&status, nullptr);
  EXPECT_TRUE(Next(queue));
}

TEST_F(OperationsTest, StreamsEndThemselvesOnAStop) {
  StartServer();
  ASSERT_TRUE(Create("s").ok());
  OpenStream stream(sessions(), "s");
  const auto start = std::chrono::steady_clock::now();
  StopServer();
  stream.ExpectDrained();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(15)) << "took the grace";
}

TEST_F(OperationsTest, GraceEnds) {
  ServerOptions options = TestServerOptions();
  options.drain_grace = absl::Milliseconds(100);
  StartServer(options);
  ASSERT_TRUE(Create("s").ok());
  RunningGeneration generation(sessions(), EndlessGeneration("s"));
  StopServer();
  EXPECT_FALSE(generation.Finish().ok());
}

TEST_F(OperationsTest, ReflectionIsThereIfAsked) {
  constexpr char kMethod[] = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
  for (const bool wanted : {false, true}) {
    ServerOptions options = TestServerOptions();
    options.reflection = wanted;
    StartServer(options);
    grpc::GenericStub stub(Connect());
    grpc::CompletionQueue queue;
    grpc::ClientContext context;
    const auto call = stub.PrepareCall(&WithDeadline(context), kMethod, &queue);
    call->StartCall(nullptr);
    ASSERT_TRUE(Next(queue));
    const grpc::Slice list_services("\x3A\x01*", 3);
    call->WriteLast(grpc::ByteBuffer(&list_services, 1), grpc::WriteOptions(), nullptr);
    Next(queue);
    grpc::ByteBuffer response;
    call->Read(&response, nullptr);
    EXPECT_EQ(Next(queue), wanted);
    grpc::Status status;
    call->Finish(&status, nullptr);
    Next(queue);
    EXPECT_EQ(status.error_code(), wanted ? StatusCode::OK : StatusCode::UNIMPLEMENTED);
    if (wanted) {
      std::vector<grpc::Slice> slices;
      ASSERT_TRUE(response.Dump(&slices).ok());
      std::string bytes;
      for (const grpc::Slice& slice : slices) {
        bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
      }
      EXPECT_TRUE(absl::StrContains(bytes, "rasq.v1.SessionService"));
    }
    TearDown();
  }
}

TEST_F(OperationsTest, MetricsPageHasEveryName) {
  StartServer(WithMetrics());
  ASSERT_TRUE(Create("s").ok());
  ASSERT_TRUE(Append("s", "Some text to count. ").ok());
  v1::GenerateRequest request = EndlessGeneration("s");
  request.mutable_stop()->set_max_new_tokens(4);
  ASSERT_TRUE(Generate(request).ok());
  EXPECT_FALSE(Get("nobody").ok());
  const std::string page = HttpGet("/metrics");
  EXPECT_TRUE(absl::StartsWith(page, "HTTP/1.1 200")) << page.substr(0, 100);
  for (const char* name : {"sessions_open",
                           "sessions_active",
                           "session_slots_total",
                           "session_slots_used",
                           "session_state_bytes",
                           "appended_tokens_total",
                           "scored_tokens_total",
                           "generated_tokens_total",
                           "append_backlog_tokens",
                           "append_backlog_limit_tokens",
                           "sessions_parked",
                           "parks_total",
                           "unparks_total",
                           "snapshots_total",
                           "log_entries_total",
                           "log_syncs_total",
                           "serving",
                           "generations_running",
                           "generations_queued",
                           "time_to_first_token_seconds",
                           "inter_token_latency_seconds",
                           "append_lag_seconds",
                           "request_duration_seconds",
                           "step_duration_seconds",
                           "batch_tokens",
                           "retrieved_tokens",
                           "retrieval_budget_tokens",
                           "buffer_replacements_total",
                           "device_memory_bytes",
                           "requests_rejected_total",
                           "build_info",
                           "model_info"}) {
    EXPECT_TRUE(absl::StrContains(page, absl::StrCat("# TYPE rasq_", name, " "))) << name;
  }
  EXPECT_TRUE(absl::StrContains(page, "# TYPE process_resident_memory_bytes gauge\n"));
  EXPECT_TRUE(absl::StrContains(page, "rasq_serving 1\n"));
  EXPECT_TRUE(absl::StrContains(page, "rasq_sessions_open 1\n"));
  EXPECT_TRUE(absl::StrContains(page, "rasq_generated_tokens_total 4\n"));
  EXPECT_TRUE(absl::StrContains(page, "rasq_time_to_first_token_seconds_count 1\n"));
  EXPECT_TRUE(absl::StrContains(page, "rasq_inter_token_latency_seconds_count 3\n"));
  EXPECT_TRUE(
      absl::StrContains(page, "rasq_requests_rejected_total{reason=\"SESSION_NOT_FOUND\"} 1\n"));
  EXPECT_FALSE(absl::StrContains(page, "nobody"));
  EXPECT_TRUE(absl::StrContains(HttpGet("/"), " 404 "));
}

TEST_F(OperationsTest, MetricsCountScoredTokensOfCallsAndStreams) {
  StartServer(WithMetrics());
  ASSERT_TRUE(Create("s").ok());
  ASSERT_TRUE(Append("s", "Nobody asked about this.\n").ok());
  const auto page_has = [this](int64_t tokens) {
    return absl::StrContains(HttpGet("/metrics"),
                             absl::StrCat("\nrasq_scored_tokens_total ", tokens, "\n"));
  };
  EXPECT_TRUE(page_has(0));
  v1::AppendRequest request;
  request.set_session_id("s");
  request.mutable_content()->set_text("But how likely is this?\n");
  request.set_score(true);
  v1::AppendResponse response;
  grpc::ClientContext call;
  ASSERT_TRUE(sessions().Append(&WithDeadline(call), request, &response).ok());
  ASSERT_GT(response.scored_tokens(), 0);
  EXPECT_TRUE(page_has(response.scored_tokens()));

  grpc::ClientContext context;
  const auto stream = sessions().StreamAppend(&WithDeadline(context));
  v1::StreamAppendRequest piece;
  piece.set_session_id("s");
  piece.mutable_content()->set_text("And this, and that?\n");
  piece.set_score(true);
  ASSERT_TRUE(stream->Write(piece));
  stream->WritesDone();
  v1::StreamAppendResponse ack;
  while (stream->Read(&ack)) continue;
  ASSERT_TRUE(stream->Finish().ok());
  ASSERT_GT(ack.scored_tokens(), 0);
  EXPECT_TRUE(page_has(response.scored_tokens() + ack.scored_tokens()));
}

TEST_F(OperationsTest, MetricsSayThatItDrains) {
  StartServer(WithMetrics());
  ASSERT_TRUE(Create("s").ok());
  RunningGeneration generation(sessions(), EndlessGeneration("s"));
  std::thread stopper([this] { StopServer(); });
  // The generation holds the stop back for the grace, ten seconds.
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(9);
  bool said = false;
  while (!said && std::chrono::steady_clock::now() < give_up) {
    said = absl::StrContains(HttpGet("/metrics"), "rasq_serving 0\n");
  }
  generation.Cancel();
  EXPECT_FALSE(generation.Finish().ok());
  stopper.join();
  EXPECT_TRUE(said);
}

TEST_F(OperationsTest, TakenPortsAreSaid) {
  StartServer(WithMetrics());
  ServerOptions options = TestServerOptions();
  options.listen = server().address();
  const absl::Status listen = Server::Start(options).status();
  EXPECT_EQ(listen.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(absl::StrContains(listen.message(), options.listen)) << listen;
  options = TestServerOptions();
  options.metrics_listen = server().metrics_address();
  const absl::Status metrics = Server::Start(options).status();
  EXPECT_EQ(metrics.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(absl::StrContains(metrics.message(), options.metrics_listen)) << metrics;
}

TEST_F(OperationsTest, PublicAddressesNeedInsecure) {
  ServerOptions options = TestServerOptions();
  options.listen = "0.0.0.0:0";
  EXPECT_EQ(Server::Start(options).status().code(), absl::StatusCode::kInvalidArgument);
  options.listen = "127.0.0.1:0";
  options.metrics_listen = "0.0.0.0:0";
  EXPECT_EQ(Server::Start(options).status().code(), absl::StatusCode::kInvalidArgument);
  options.insecure = true;
  StartServer(options);
  EXPECT_TRUE(absl::StartsWith(server().metrics_address(), "0.0.0.0:"));
}

TEST_F(OperationsTest, NoMetricsPageIfNotWanted) {
  StartServer();
  EXPECT_EQ(server().metrics_address(), "");
  EXPECT_TRUE(Create("s").ok());
}

TEST_F(OperationsTest, MessagesHaveALimit) {
  ServerOptions options = TestServerOptions();
  options.max_message_bytes = 4096;
  StartServer(options);
  ASSERT_TRUE(Create("s").ok());
  EXPECT_EQ(Append("s", std::string(5000, 'x')).error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(Append("s", std::string(100, 'x')).ok());
}

TEST_F(OperationsTest, UnknownMethodsAreUnimplemented) {
  StartServer();
  grpc::GenericStub stub(Connect());
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  const auto call = stub.PrepareUnaryCall(
      &WithDeadline(context), "/rasq.v1.SessionService/NoSuchMethod", HealthRequest("s"), &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  ASSERT_TRUE(Next(queue));
  EXPECT_EQ(status.error_code(), StatusCode::UNIMPLEMENTED);
}

}  // namespace
}  // namespace rasq
