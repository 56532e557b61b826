// Clients that go away in the middle, and bytes that are no gRPC: the server must not notice more
// than that.
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>

#include "gtest/gtest.h"
#include "tests/support/server_fixture.h"

namespace rasq {
namespace {

class VanishingClientTest : public ServerTest {
 protected:
  void SetUp() override {
    StartServer();
    ASSERT_TRUE(Create("s").ok());
    ASSERT_TRUE(Append("s", "Something to read. ").ok());
  }

  // The session works: whatever the lost client ran is over within a step.
  void ExpectServed() {
    v1::GenerateRequest request = EndlessGeneration("s");
    request.mutable_stop()->set_max_new_tokens(1);
    grpc::Status status;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    do {
      status = Generate(request);
    } while (status.error_code() == grpc::StatusCode::ABORTED &&
             std::chrono::steady_clock::now() < deadline);
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_TRUE(Append("s", "More to read. ").ok());
  }
};

TEST_F(VanishingClientTest, InTheMiddleOfGenerate) {
  auto context = std::make_unique<grpc::ClientContext>();
  auto channel = Connect();
  auto stub = v1::SessionService::NewStub(channel);
  auto reader = stub->Generate(&WithDeadline(*context), EndlessGeneration("s"));
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  // Gives the call and its connection up with messages unread.
  reader.reset();
  context.reset();
  stub.reset();
  channel.reset();
  ExpectServed();
}

TEST_F(VanishingClientTest, InTheMiddleOfStreamAppend) {
  auto context = std::make_unique<grpc::ClientContext>();
  auto channel = Connect();
  auto stub = v1::SessionService::NewStub(channel);
  auto stream = stub->StreamAppend(&WithDeadline(*context));
  v1::StreamAppendRequest request;
  request.set_session_id("s");
  request.mutable_content()->set_text("And then, nothing. ");
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(stream->Write(request));
  stream.reset();
  context.reset();
  stub.reset();
  channel.reset();
  ExpectServed();
}

TEST_F(VanishingClientTest, GarbageOnThePort) {
  const std::string preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  for (const std::string& bytes :
       {std::string("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), std::string(5000, '\xFF'),
        preface.substr(0, 10), preface, preface + std::string(64, '\0'),
        // Settings, then a frame header that promises 16 MiB.
        preface + std::string("\0\0\0\4\0\0\0\0\0", 9) + std::string("\xFF\xFF\xFF\1\4\0\0\0\1", 9),
        preface + std::string("\0\0\0\4\0\0\0\0\0", 9) +
            std::string("\0\0\4\1\4\0\0\0\1\xFF\xFF\xFF\xFF", 13)}) {
    const int socket = OpenSocket(server().address());
    ASSERT_GE(socket, 0);
    send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    close(socket);
  }
  ExpectServed();
}

}  // namespace
}  // namespace rasq
