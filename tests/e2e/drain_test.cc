// The end as an operator asks for it by AdminService, and what GetServerInfo says.
#include <thread>

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
  OpenStream stream(sessions(), "s");
  EXPECT_FALSE(server().draining());
  ASSERT_TRUE(Drain({}).ok());
  EXPECT_TRUE(server().draining());
  stream.ExpectDrained();
  EXPECT_EQ(Get("s").error_code(), StatusCode::UNAVAILABLE);
  StopServer();
}

TEST_F(DrainTest, TheCallsGraceIsTheGrace) {
  ServerOptions options = TestServerOptions();
  options.drain_grace = absl::Hours(1);
  StartServer(options);
  ASSERT_TRUE(Create("s").ok());
  RunningGeneration generation(sessions(), EndlessGeneration("s"));
  v1::DrainRequest request;
  request.mutable_grace()->set_seconds(-1);
  EXPECT_EQ(Drain(request).error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_FALSE(server().draining());
  request.mutable_grace()->set_seconds(0);
  request.mutable_grace()->set_nanos(100'000'000);
  ASSERT_TRUE(Drain(request).ok());
  StopServer();  // returns: no hour passes
  EXPECT_FALSE(generation.Finish().ok());
}

TEST_F(DrainTest, TheGraceCanBeEnded) {
  ServerOptions options = TestServerOptions();
  options.drain_grace = absl::Hours(1);
  StartServer(options);
  ASSERT_TRUE(Create("s").ok());
  RunningGeneration generation(sessions(), EndlessGeneration("s"));
  std::thread impatient([this] { server().EndGrace(); });
  StopServer();
  impatient.join();
  EXPECT_FALSE(generation.Finish().ok());
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
  EXPECT_EQ(info.devices(0).session_slots_used(), 0);  // it has no tokens yet
  EXPECT_GT(info.devices(0).weight_bytes(), 0);
  EXPECT_EQ(info.max_message_bytes(), TestServerOptions().max_message_bytes);
  EXPECT_EQ(info.max_session_backlog_tokens(), TestServerOptions().engine.max_backlog_tokens);
}

}  // namespace
}  // namespace rasq
