// A device that breaks under a running server: what clients, health checks and the supervisor see,
// and that a durable session is whole in the next server.
#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "rasq/v1/session.grpc.pb.h"
#include "tests/support/process.h"
#include "tests/support/server_fixture.h"
#include "tests/support/temporary_directory.h"

namespace rasq {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryDirectory;

std::unique_ptr<v1::SessionService::Stub> StubOf(Process& server) {
  const std::string address = server.WaitFor("listening on (\\S+)");
  return v1::SessionService::NewStub(
      grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
}

TEST(DeviceFaultTest, EndsTheServerAndLosesNothing) {
  if (std::filesystem::exists(std::filesystem::path(RASQ_SERVER_BINARY).parent_path() /
                              "librasq_cuda.so")) {
    GTEST_SKIP() << "the real module stands beside the program";
  }
  const TemporaryDirectory directory;
  const std::string fault = directory.path() + "/fault";
  const auto start = [&](const std::string& device) {
    return std::make_unique<Process>(
        std::vector<std::string>{RASQ_SERVER_BINARY, "--listen", "127.0.0.1:0", "--metrics-listen",
                                 "", "--model", TestServerOptions().engine.model, "--device",
                                 device, "--dtype", "float32", "--max-sessions", "4", "--state-dir",
                                 directory.path() + "/states", "--durable"},
        std::vector<std::string>{absl::StrCat("LD_LIBRARY_PATH=", RASQ_FAULTY_DEVICE_DIR),
                                 absl::StrCat("RASQ_FAULT_FILE=", fault)});
  };
  auto server = start("cuda");
  auto stub = StubOf(*server);
  int64_t tokens = 0;
  {
    grpc::ClientContext create_context, append_context;
    v1::CreateSessionRequest create;
    v1::CreateSessionResponse created;
    create.set_session_id("a");
    ASSERT_TRUE(stub->CreateSession(&create_context, create, &created).ok());
    v1::AppendRequest append;
    v1::AppendResponse appended;
    append.set_session_id("a");
    append.mutable_content()->set_text("What was said before the fault is kept. ");
    ASSERT_TRUE(stub->Append(&append_context, append, &appended).ok());
    tokens = appended.context_tokens();
  }
  grpc::ClientContext context;
  v1::GenerateRequest generate;
  generate.set_session_id("a");
  generate.mutable_stop()->set_max_new_tokens(60000);
  generate.mutable_stop()->set_ignore_eos(true);
  const auto reader = stub->Generate(&context, generate);
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  std::ofstream(fault).put('x');
  while (reader->Read(&response)) {
  }
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << status.error_message();
  EXPECT_EQ(server->Wait(), 1);
  EXPECT_THAT(server->err(), HasSubstr("uncorrectable ECC error"));

  server = start("cpu");
  stub = StubOf(*server);
  grpc::ClientContext get_context;
  v1::GetSessionRequest get;
  v1::GetSessionResponse got;
  get.set_session_id("a");
  ASSERT_TRUE(stub->GetSession(&get_context, get, &got).ok());
  EXPECT_EQ(got.session().context_tokens(), tokens);
  EXPECT_NE(got.session().state(), v1::SESSION_STATE_FAILED);
  server->Signal(SIGTERM);
  EXPECT_EQ(server->Wait(), 0);
}

}  // namespace
}  // namespace rasq
