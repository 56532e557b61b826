// What a client may ask for at most: calls, connections, metadata, text.
#include <chrono>
#include <thread>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "tests/support/server_fixture.h"

namespace rasq {
namespace {

using grpc::StatusCode;

using LimitsTest = ServerTest;

TEST_F(LimitsTest, CallsAtOnceHaveALimitThatOperatorsPass) {
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

TEST_F(LimitsTest, MetadataAndTextHaveLimits) {
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

TEST_F(LimitsTest, AConnectionCarriesSoManyCalls) {
  ServerOptions options = TestServerOptions();
  options.max_connection_streams = 1;
  StartServer(options);
  ASSERT_TRUE(Create("s").ok());
  const auto channel = Connect();
  const auto one = v1::SessionService::NewStub(channel);
  grpc::ClientContext context;
  const auto stream = one->StreamAppend(&WithDeadline(context));
  v1::StreamAppendRequest request;
  request.set_session_id("s");
  ASSERT_TRUE(stream->Write(request));
  v1::StreamAppendResponse ack;
  ASSERT_TRUE(stream->Read(&ack));
  // The client's own gRPC holds the next call back until there is room.
  grpc::ClientContext waiting;
  waiting.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(300));
  v1::ListSessionsResponse list;
  EXPECT_EQ(one->ListSessions(&waiting, v1::ListSessionsRequest(), &list).error_code(),
            StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(Get("s").ok()) << "another connection has room";
  stream->WritesDone();
  while (stream->Read(&ack)) {
  }
  EXPECT_TRUE(stream->Finish().ok());
  grpc::ClientContext free;
  EXPECT_TRUE(one->ListSessions(&WithDeadline(free), v1::ListSessionsRequest(), &list).ok());
}

TEST_F(LimitsTest, IdleAndOldConnectionsEnd) {
  for (const bool idle : {false, true}) {
    ServerOptions options = TestServerOptions();
    (idle ? options.connection_idle : options.connection_age) = absl::Milliseconds(100);
    StartServer(options);
    const auto channel = Connect();
    const auto deadline = std::chrono::system_clock::now() + std::chrono::minutes(1);
    ASSERT_TRUE(channel->WaitForConnected(deadline));
    EXPECT_TRUE(channel->WaitForStateChange(GRPC_CHANNEL_READY, deadline)) << "idle=" << idle;
    EXPECT_TRUE(Create("").ok()) << "clients come back by themselves";
    TearDown();
  }
}

}  // namespace
}  // namespace rasq
