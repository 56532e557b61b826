#include "tests/support/server_fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "grpc/grpc.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/support/channel_arguments.h"
#include "server/address.h"

namespace rasq {
namespace {

std::FILE* LogFile() {
  static std::FILE* const file = std::tmpfile();
  return file;
}

}  // namespace

ServerOptions TestServerOptions() {
  ServerOptions options;
  const char* model = std::getenv("RASQ_TEST_MODEL");
  options.engine.model = model != nullptr ? model : RASQ_SOURCE_DIR "/models/default";
  options.engine.ops.device = "cpu";
  options.engine.max_sessions = 6;
  options.engine.max_generations = 3;
  options.engine.max_full_sessions = 1;
  options.engine.full_context_tokens = 1024;
  options.listen = "127.0.0.1:0";
  options.metrics_listen = "";  // its web server takes two seconds to stop
  options.drain_grace = absl::Seconds(20);
  options.log_stream = LogFile();
  return options;
}

void ServerTest::StartServer(const ServerOptions& options) {
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options);
  ASSERT_TRUE(server.ok()) << server.status();
  server_ = *std::move(server);
  channel_ = Connect();
  sessions_ = v1::SessionService::NewStub(channel_);
  models_ = v1::ModelService::NewStub(channel_);
  admin_ = v1::AdminService::NewStub(channel_);
}

void ServerTest::TearDown() {
  sessions_.reset();
  models_.reset();
  admin_.reset();
  channel_.reset();
  server_.reset();
}

grpc::ClientContext& ServerTest::Prepare(grpc::ClientContext& context) const {
  if (!token_.empty()) context.AddMetadata("authorization", "Bearer " + token_);
  return WithDeadline(context);
}

std::shared_ptr<grpc::Channel> ServerTest::Connect(
    const std::shared_ptr<grpc::ChannelCredentials>& credentials) const {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  return grpc::CreateCustomChannel(server_->address(), credentials, arguments);
}

grpc::Status ServerTest::Create(const std::string& id, v1::Session* session) {
  grpc::ClientContext context;
  v1::CreateSessionRequest request;
  request.set_session_id(id);
  v1::CreateSessionResponse response;
  grpc::Status status = sessions_->CreateSession(&Prepare(context), request, &response);
  if (session != nullptr) *session = response.session();
  return status;
}

grpc::Status ServerTest::Get(const std::string& id, v1::Session* session) {
  grpc::ClientContext context;
  v1::GetSessionRequest request;
  request.set_session_id(id);
  v1::GetSessionResponse response;
  grpc::Status status = sessions_->GetSession(&Prepare(context), request, &response);
  if (session != nullptr) *session = response.session();
  return status;
}

grpc::Status ServerTest::Delete(const std::string& id) {
  grpc::ClientContext context;
  v1::DeleteSessionRequest request;
  request.set_session_id(id);
  v1::DeleteSessionResponse response;
  return sessions_->DeleteSession(&Prepare(context), request, &response);
}

grpc::Status ServerTest::Append(const std::string& id, const std::string& text,
                                v1::AppendResponse* response) {
  grpc::ClientContext context;
  v1::AppendRequest request;
  request.set_session_id(id);
  request.mutable_content()->set_text(text);
  v1::AppendResponse ignored;
  return sessions_->Append(&Prepare(context), request, response != nullptr ? response : &ignored);
}

grpc::Status ServerTest::Generate(const v1::GenerateRequest& request, std::string* text,
                                  v1::GenerateSummary* summary) {
  grpc::ClientContext context;
  const auto reader = sessions_->Generate(&Prepare(context), request);
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
    if (text != nullptr) *text += response.text();
    if (summary != nullptr && response.has_summary()) *summary = response.summary();
  }
  return reader->Finish();
}

std::string ServerTest::HttpGet(const std::string& path) const {
  const int socket = OpenSocket(server_->metrics_address());
  if (socket < 0) return "";
  const std::string request = "GET " + path + " HTTP/1.0\r\n\r\n";
  std::string answer;
  if (write(socket, request.data(), request.size()) == static_cast<ssize_t>(request.size())) {
    char bytes[4096];
    for (ssize_t n = 0; (n = read(socket, bytes, sizeof(bytes))) > 0;) answer.append(bytes, n);
  }
  close(socket);
  return answer;
}

grpc::ClientContext& WithDeadline(grpc::ClientContext& context) {
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(2));
  return context;
}

v1::GenerateRequest EndlessGeneration(const std::string& id) {
  v1::GenerateRequest request;
  request.set_session_id(id);
  request.mutable_prompt()->set_text("And so on:");
  request.mutable_stop()->set_ignore_eos(true);
  request.mutable_stop()->set_max_new_tokens(65536);
  return request;
}

OpenStream::OpenStream(v1::SessionService::Stub& sessions, const std::string& id)
    : stream_(sessions.StreamAppend(&WithDeadline(context_))) {
  v1::StreamAppendRequest request;
  request.set_session_id(id);
  request.mutable_content()->set_text("The last words. ");
  EXPECT_TRUE(stream_->Write(request));
  v1::StreamAppendResponse ack;
  while (ack.next_offset() < 16) {
    if (stream_->Read(&ack)) continue;
    ADD_FAILURE() << "the stream ended";
    return;
  }
}

void OpenStream::ExpectDrained() {
  v1::StreamAppendResponse ack;
  while (stream_->Read(&ack)) {
  }
  EXPECT_TRUE(ack.draining());
  EXPECT_EQ(ack.absorbed_tokens(), ack.accepted_tokens());
  EXPECT_EQ(stream_->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

RunningGeneration::RunningGeneration(v1::SessionService::Stub& sessions,
                                     const v1::GenerateRequest& request)
    : reader_(sessions.Generate(&WithDeadline(context_), request)) {
  v1::GenerateResponse first;
  EXPECT_TRUE(reader_->Read(&first));
}

grpc::Status RunningGeneration::Finish() {
  v1::GenerateResponse response;
  while (reader_->Read(&response)) {
  }
  grpc::Status status = reader_->Finish();
  EXPECT_TRUE(!status.ok() || response.has_summary());
  return status;
}

int OpenSocket(const std::string& address) {
  const absl::StatusOr<Address> parsed = ParseAddress(address);
  if (!parsed.ok()) return -1;
  sockaddr_in target = {};
  target.sin_family = AF_INET;
  target.sin_port = htons(parsed->port);
  inet_pton(AF_INET, parsed->host.c_str(), &target.sin_addr);
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) return -1;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&target), sizeof(target)) != 0) {
    close(fd);
    return -1;
  }
  return fd;
}

}  // namespace rasq
