// The end as an operator asks for it by AdminService, limits that a flood meets, and GetServerInfo.
#include <atomic>
#include <chrono>
#include <thread>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "tests/support/server_fixture.h"

namespace rasq {
namespace {

using grpc::StatusCode;

class DrainTest : public ServerTest {
 protected:
  grpc::Status Drain(const v1::DrainRequest& request) {
    grpc::ClientContext context;
    v1::DrainResponse response;
    return admin().Drain(&WithDeadline(context), request, &response);
  }
};

TEST_F(DrainTest, ACallTellsStreamsAndRefusesWhatIsNew) {
  StartServer();
  ASSERT_TRUE(Create("s").ok());
  grpc::ClientContext context;
  const auto stream = sessions().StreamAppend(&WithDeadline(context));
  v1::StreamAppendRequest request;
  request.set_session_id("s");
  request.mutable_content()->set_text("The last words. ");
  ASSERT_TRUE(stream->Write(request));
  v1::StreamAppendResponse ack;
  while (ack.next_offset() < 16) ASSERT_TRUE(stream->Read(&ack));
  EXPECT_FALSE(server().draining());
  ASSERT_TRUE(Drain({}).ok());
  EXPECT_TRUE(server().draining());
  while (stream->Read(&ack)) {
  }
  EXPECT_TRUE(ack.draining());
  EXPECT_EQ(ack.absorbed_tokens(), ack.accepted_tokens());
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::UNAVAILABLE);
  EXPECT_EQ(Get("s").error_code(), StatusCode::UNAVAILABLE);
  StopServer();
}

TEST_F(DrainTest, TheCallsGraceIsTheGrace) {
  ServerOptions options = TestServerOptions();
  options.drain_grace = absl::Hours(1);
  StartServer(options);
  ASSERT_TRUE(Create("s").ok());
  grpc::ClientContext context;
  const auto reader = sessions().Generate(&WithDeadline(context), EndlessGeneration("s"));
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  v1::DrainRequest request;
  request.mutable_grace()->set_seconds(-1);
  EXPECT_EQ(Drain(request).error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_FALSE(server().draining());
  request.mutable_grace()->set_seconds(0);
  request.mutable_grace()->set_nanos(100'000'000);
  ASSERT_TRUE(Drain(request).ok());
  StopServer();  // returns: no hour passes
  while (reader->Read(&response)) {
  }
  EXPECT_FALSE(reader->Finish().ok());
}

TEST_F(DrainTest, TheGraceCanBeEnded) {
  ServerOptions options = TestServerOptions();
  options.drain_grace = absl::Hours(1);
  StartServer(options);
  ASSERT_TRUE(Create("s").ok());
  grpc::ClientContext context;
  const auto reader = sessions().Generate(&WithDeadline(context), EndlessGeneration("s"));
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  std::thread impatient([this] { server().EndGrace(); });
  StopServer();
  impatient.join();
  while (reader->Read(&response)) {
  }
  EXPECT_FALSE(reader->Finish().ok());
}

TEST_F(DrainTest, CallsAtOnceHaveALimitThatOperatorsPass) {
  ServerOptions options = TestServerOptions();
  options.max_calls = 1;
  StartServer(options);
  grpc::ClientContext context;
  const auto stream = sessions().StreamAppend(&WithDeadline(context));
  v1::StreamAppendRequest request;
  stream->Write(request);
  // The stream is open once the server refuses a second call.
  grpc::Status status;
  while ((status = Get("s")).error_code() == StatusCode::NOT_FOUND) std::this_thread::yield();
  EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  google::rpc::Status rich;
  ASSERT_TRUE(rich.ParseFromString(status.error_details()));
  google::rpc::RetryInfo retry;
  bool has_retry = false;
  for (const auto& detail : rich.details()) has_retry |= detail.UnpackTo(&retry);
  EXPECT_TRUE(has_retry);
  grpc::ClientContext reload;
  v1::ReloadResponse response;
  EXPECT_TRUE(admin().Reload(&WithDeadline(reload), v1::ReloadRequest(), &response).ok());
}

TEST_F(DrainTest, MetadataAndTextHaveLimits) {
  ServerOptions options = TestServerOptions();
  options.max_metadata_bytes = 2048;
  options.content.max_text_bytes = 100;
  StartServer(options);
  ASSERT_TRUE(Create("s").ok());
  EXPECT_EQ(Append("s", std::string(101, 'x')).error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(Append("s", std::string(100, 'x')).ok());
  grpc::ClientContext large;
  large.AddMetadata("x-large", std::string(4096, 'x'));
  v1::GetModelResponse response;
  EXPECT_EQ(models().GetModel(&WithDeadline(large), v1::GetModelRequest(), &response).error_code(),
            StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(DrainTest, ServerInfoCounts) {
  StartServer();
  ASSERT_TRUE(Create("s").ok());
  grpc::ClientContext context;
  v1::GetServerInfoResponse info;
  ASSERT_TRUE(
      models().GetServerInfo(&WithDeadline(context), v1::GetServerInfoRequest(), &info).ok());
  EXPECT_EQ(info.server_version(), RASQ_VERSION);
  EXPECT_GT(info.start_time().seconds(), 0);
  EXPECT_FALSE(info.draining());
  EXPECT_EQ(info.sessions_open(), 1);
  ASSERT_EQ(info.devices_size(), 1);
  EXPECT_EQ(info.devices(0).device(), "cpu");
  EXPECT_EQ(info.devices(0).session_slots(), 6);
  EXPECT_EQ(info.devices(0).session_slots_used(), 1);
  EXPECT_GT(info.devices(0).weight_bytes(), 0);
  EXPECT_EQ(info.max_message_bytes(), TestServerOptions().max_message_bytes);
  EXPECT_EQ(info.max_session_backlog_tokens(), TestServerOptions().engine.max_backlog_tokens);
}

}  // namespace
}  // namespace rasq
