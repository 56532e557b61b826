// rasq-server as an operator runs it, in a process of its own that a test may kill, starve or
// flood; and the few calls that such tests make.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "rasq/v1/model.grpc.pb.h"
#include "rasq/v1/session.grpc.pb.h"
#include "tests/support/process.h"
#include "tests/support/temporary_directory.h"

namespace rasq {

// Any thread may make calls; the rest is the test's own thread's.
class ServerProgram {
 public:
  // The shipped model on the processor, a free port, no metrics page. Not `listening` if it ends.
  ServerProgram(const std::string& binary, const std::vector<std::string>& flags);

  bool listening() const { return !address_.empty(); }
  const std::string& address() const { return address_; }
  // What it has logged so far. It goes to a file: nobody has to read a pipe for the server to go
  // on.
  std::string Log() const;

  void Kill();  // -9, and waits
  int Stop();   // SIGTERM, and waits; the exit code
  bool Alive() const;
  int OpenFiles() const;
  int64_t ResidentBytes() const;

  // A connection of its own.
  std::shared_ptr<grpc::Channel> Connect() const;
  v1::SessionService::Stub& sessions() { return *sessions_; }

  // Each returns the call's status; none waits more than `seconds`.
  grpc::Status Create(const std::string& id, int seconds = 60);
  grpc::Status Get(const std::string& id, v1::Session* session = nullptr, int seconds = 60);
  grpc::Status Delete(const std::string& id, int seconds = 60);
  // `offset` < 0: at the end.
  grpc::Status Append(const std::string& id, const std::string& text,
                      v1::AppendResponse* response = nullptr, int64_t offset = -1,
                      int seconds = 60);
  grpc::Status Generate(const v1::GenerateRequest& request, std::string* text = nullptr,
                        v1::GenerateSummary* summary = nullptr, int seconds = 60);
  v1::GetServerInfoResponse Info();
  // By the health service, within `seconds`.
  bool Serving(int seconds = 10) const;

 private:
  testing::TemporaryDirectory directory_;  // of the log
  Process process_;
  std::string address_;
  std::unique_ptr<v1::SessionService::Stub> sessions_;
  std::unique_ptr<v1::ModelService::Stub> models_;
};

// So many tokens, greedy, that leave no trace.
v1::GenerateRequest Question(const std::string& id, int tokens);

// The deadline of one call.
grpc::ClientContext& WithDeadline(grpc::ClientContext& context, int seconds);

// Of /proc/PID; -1 if it is gone.
int64_t ResidentBytes(pid_t pid);
int OpenFiles(pid_t pid);

// The number in the environment variable, if it is set: a test's longer form.
int NumberOr(const char* variable, int number);

}  // namespace rasq
