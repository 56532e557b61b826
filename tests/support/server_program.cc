#include "tests/support/server_program.h"

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/support/channel_arguments.h"
#include "tests/support/files.h"
#include "tests/support/server_fixture.h"

namespace rasq {
namespace {

std::vector<std::string> CommandLine(const std::string& binary, const std::string& log,
                                     const std::vector<std::string>& flags) {
  // The shell only opens the file; the process becomes the server.
  std::vector<std::string> line = {"/bin/sh",
                                   "-c",
                                   "log=$1; shift; exec \"$0\" \"$@\" 2>\"$log\"",
                                   binary,
                                   log,
                                   "--listen=127.0.0.1:0",
                                   "--metrics-listen=",
                                   "--device=cpu",
                                   "--model=" + TestServerOptions().engine.model};
  line.insert(line.end(), flags.begin(), flags.end());
  return line;
}

}  // namespace

ServerProgram::ServerProgram(const std::string& binary, const std::vector<std::string>& flags)
    : process_(CommandLine(binary, directory_.path() + "/log", flags)) {
  address_ = process_.WaitFor("listening on ([0-9.:]+)\n");
  const std::shared_ptr<grpc::Channel> channel = Connect();
  sessions_ = v1::SessionService::NewStub(channel);
  models_ = v1::ModelService::NewStub(channel);
}

std::string ServerProgram::Log() const { return ReadFile(directory_.path() + "/log"); }

void ServerProgram::Kill() {
  process_.Signal(SIGKILL);
  process_.Wait();
}

int ServerProgram::Stop() {
  process_.Signal(SIGTERM);
  return process_.Wait();
}

bool ServerProgram::Alive() const { return process_.pid() > 0 && ResidentBytes() > 0; }
int ServerProgram::OpenFiles() const { return rasq::OpenFiles(process_.pid()); }
int64_t ServerProgram::ResidentBytes() const { return rasq::ResidentBytes(process_.pid()); }

std::shared_ptr<grpc::Channel> ServerProgram::Connect() const {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  return grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments);
}

grpc::Status ServerProgram::Create(const std::string& id, int seconds) {
  grpc::ClientContext context;
  v1::CreateSessionRequest request;
  request.set_session_id(id);
  v1::CreateSessionResponse response;
  return sessions_->CreateSession(&WithDeadline(context, seconds), request, &response);
}

grpc::Status ServerProgram::Get(const std::string& id, v1::Session* session, int seconds) {
  grpc::ClientContext context;
  v1::GetSessionRequest request;
  request.set_session_id(id);
  v1::GetSessionResponse response;
  const grpc::Status status =
      sessions_->GetSession(&WithDeadline(context, seconds), request, &response);
  if (session != nullptr) *session = response.session();
  return status;
}

grpc::Status ServerProgram::Delete(const std::string& id, int seconds) {
  grpc::ClientContext context;
  v1::DeleteSessionRequest request;
  request.set_session_id(id);
  v1::DeleteSessionResponse response;
  return sessions_->DeleteSession(&WithDeadline(context, seconds), request, &response);
}

grpc::Status ServerProgram::Append(const std::string& id, const std::string& text,
                                   v1::AppendResponse* response, int64_t offset, int seconds) {
  grpc::ClientContext context;
  v1::AppendRequest request;
  request.set_session_id(id);
  request.mutable_content()->set_text(text);
  if (offset >= 0) request.set_offset(offset);
  v1::AppendResponse ignored;
  return sessions_->Append(&WithDeadline(context, seconds), request,
                           response != nullptr ? response : &ignored);
}

grpc::Status ServerProgram::Generate(const v1::GenerateRequest& request, std::string* text,
                                     v1::GenerateSummary* summary, int seconds) {
  grpc::ClientContext context;
  const auto reader = sessions_->Generate(&WithDeadline(context, seconds), request);
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
    if (text != nullptr) *text += response.text();
    if (summary != nullptr && response.has_summary()) *summary = response.summary();
  }
  return reader->Finish();
}

v1::GetServerInfoResponse ServerProgram::Info() {
  grpc::ClientContext context;
  v1::GetServerInfoResponse response;
  models_->GetServerInfo(&WithDeadline(context, 60), v1::GetServerInfoRequest(), &response);
  return response;
}

bool ServerProgram::Serving(int seconds) const {
  grpc::GenericStub stub(Connect());
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const grpc::Slice no_name("");  // of the server as a whole
  const auto call =
      stub.PrepareUnaryCall(&WithDeadline(context, seconds), "/grpc.health.v1.Health/Check",
                            grpc::ByteBuffer(&no_name, 1), &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  if (!status.ok()) return false;
  grpc::Slice slice;
  if (!response.DumpToSingleSlice(&slice).ok()) return false;
  // HealthCheckResponse{status: SERVING}
  return std::string(slice.begin(), slice.end()) == "\x08\x01";
}

v1::GenerateRequest Question(const std::string& id, int tokens) {
  v1::GenerateRequest request;
  request.set_session_id(id);
  request.mutable_prompt()->set_text(" The");
  request.mutable_stop()->set_ignore_eos(true);
  request.mutable_stop()->set_max_new_tokens(tokens);
  return request;
}

grpc::ClientContext& WithDeadline(grpc::ClientContext& context, int seconds) {
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(seconds));
  return context;
}

int64_t ResidentBytes(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/statm"));
  int64_t size = 0, resident = 0;
  return file >> size >> resident ? resident * sysconf(_SC_PAGESIZE) : -1;
}

int OpenFiles(pid_t pid) {
  std::error_code error;
  int count = 0;
  for (const auto& file :
       std::filesystem::directory_iterator(absl::StrCat("/proc/", pid, "/fd"), error)) {
    count += file.path().empty() ? 0 : 1;
  }
  return error ? -1 : count;
}

int NumberOr(const char* variable, int number) {
  const char* text = std::getenv(variable);
  if (text != nullptr && !absl::SimpleAtoi(text, &number)) std::abort();
  return number;
}

}  // namespace rasq
