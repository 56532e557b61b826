// A server in the test's own process, on ports of its own, with the shipped model; and the few
// things that every end-to-end test does with it.
#pragma once

#include <memory>
#include <string>

#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/security/credentials.h"
#include "gtest/gtest.h"
#include "rasq/v1/admin.grpc.pb.h"
#include "rasq/v1/model.grpc.pb.h"
#include "rasq/v1/session.grpc.pb.h"
#include "server/server.h"

namespace rasq {

// Small, so that a server starts in a moment and capacity is soon reached. $RASQ_TEST_MODEL or
// models/default of the source tree; port 0, no metrics page; the log goes to a file that is gone
// with the process.
ServerOptions TestServerOptions();

class ServerTest : public ::testing::Test {
 protected:
  // Starts the server, or fails the test.
  void StartServer(const ServerOptions& options = TestServerOptions());
  void TearDown() override;

  Server& server() { return *server_; }
  // Ends the server as the process would on SIGTERM.
  void StopServer() { server_->Stop(); }

  // What its calls carry as `authorization: Bearer TOKEN`; empty: nothing.
  void set_token(const std::string& token) { token_ = token; }
  // A deadline, and the token. Returns the context.
  grpc::ClientContext& Prepare(grpc::ClientContext& context) const;

  // A connection of its own, not shared with other channels.
  std::shared_ptr<grpc::Channel> Connect(
      const std::shared_ptr<grpc::ChannelCredentials>& credentials =
          grpc::InsecureChannelCredentials()) const;
  v1::SessionService::Stub& sessions() { return *sessions_; }
  v1::ModelService::Stub& models() { return *models_; }
  v1::AdminService::Stub& admin() { return *admin_; }

  // Each returns the call's status.
  grpc::Status Create(const std::string& id, v1::Session* session = nullptr);
  grpc::Status Get(const std::string& id, v1::Session* session = nullptr);
  grpc::Status Delete(const std::string& id);
  grpc::Status Append(const std::string& id, const std::string& text,
                      v1::AppendResponse* response = nullptr);
  // Reads the whole stream; `summary` is the last message's.
  grpc::Status Generate(const v1::GenerateRequest& request, std::string* text = nullptr,
                        v1::GenerateSummary* summary = nullptr);

  // GET of a path of the metrics address: the whole answer, head and body.
  std::string HttpGet(const std::string& path) const;

 private:
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::SessionService::Stub> sessions_;
  std::unique_ptr<v1::ModelService::Stub> models_;
  std::unique_ptr<v1::AdminService::Stub> admin_;
  std::string token_;
};

// For calls that must end: no test waits longer. Sets the deadline and returns the context.
grpc::ClientContext& WithDeadline(grpc::ClientContext& context);

// A generation that goes on until it is stopped.
v1::GenerateRequest EndlessGeneration(const std::string& id);

// A stream of a session that stands at its start: it has taken a few words, and is open.
class OpenStream {
 public:
  OpenStream(v1::SessionService::Stub& sessions, const std::string& id);
  // Once the server drains: it is told, ends, and all that it took is absorbed.
  void ExpectDrained();

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::StreamAppendRequest, v1::StreamAppendResponse>>
      stream_;
};

// A generation that has brought its first token.
class RunningGeneration {
 public:
  RunningGeneration(v1::SessionService::Stub& sessions, const v1::GenerateRequest& request);
  void Cancel() { context_.TryCancel(); }
  // Reads what is left. OK only with a summary at the end.
  grpc::Status Finish();

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader_;
};

// A TCP connection to "127.0.0.1:PORT"; -1 on failure.
int OpenSocket(const std::string& address);

}  // namespace rasq
