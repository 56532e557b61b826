#include "client/rasq_client.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <chrono>
#include <cstdlib>
#include <utility>

#include "client/rpc_status.h"

namespace rasq::client {
namespace {

constexpr char kSessionMetadata[] = "x-rasq-session";

std::shared_ptr<grpc::Channel> MakeChannel(const ClientOptions& options) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(options.max_message_bytes);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS,
                   static_cast<int>(absl::ToInt64Milliseconds(options.keepalive)));
  // A reconnecting append waits for the channel's next attempt: gRPC's own limit, two minutes, is
  // for fleets of clients.
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 5000);
  arguments.SetUserAgentPrefix(options.user_agent.empty() ? "rasq/" RASQ_VERSION
                                                          : options.user_agent);
  return grpc::CreateCustomChannel(options.address, grpc::InsecureChannelCredentials(), arguments);
}

// One unary call of `method` on `stub`.
template <typename Stub, typename Request, typename Response>
absl::Status Call(Stub* stub,
                  grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                  grpc::ClientContext* context, Cancellation* cancellation, const Request& request,
                  Response* response) {
  const Cancellation::Scope scope(cancellation, context);
  return FromGrpc((stub->*method)(context, request, response));
}

}  // namespace

std::string DefaultAddress() {
  const char* address = std::getenv("RASQ_ADDRESS");
  return address != nullptr && *address != '\0' ? address : "127.0.0.1:50051";
}

Client::Client(ClientOptions options)
    : options_(std::move(options)),
      channel_(MakeChannel(options_)),
      sessions_(v1::SessionService::NewStub(channel_)),
      model_(v1::ModelService::NewStub(channel_)) {}

void Client::Prepare(const std::string& session_id, grpc::ClientContext* context) const {
  if (!session_id.empty()) context->AddMetadata(kSessionMetadata, session_id);
  if (options_.deadline > absl::ZeroDuration()) {
    context->set_deadline(absl::ToChronoTime(absl::Now() + options_.deadline));
  }
}

absl::StatusOr<v1::Session> Client::CreateSession(const v1::CreateSessionRequest& request) {
  grpc::ClientContext context;
  Prepare(request.session_id(), &context);
  v1::CreateSessionResponse response;
  absl::Status status = Call(sessions_.get(), &v1::SessionService::Stub::CreateSession, &context,
                             options_.cancellation, request, &response);
  if (!status.ok()) return status;
  return std::move(*response.mutable_session());
}

absl::StatusOr<v1::Session> Client::GetSession(const std::string& session_id) {
  grpc::ClientContext context;
  Prepare(session_id, &context);
  v1::GetSessionRequest request;
  request.set_session_id(session_id);
  v1::GetSessionResponse response;
  absl::Status status = Call(sessions_.get(), &v1::SessionService::Stub::GetSession, &context,
                             options_.cancellation, request, &response);
  if (!status.ok()) return status;
  return std::move(*response.mutable_session());
}

absl::StatusOr<std::vector<v1::Session>> Client::ListSessions() {
  std::vector<v1::Session> sessions;
  v1::ListSessionsRequest request;
  do {
    grpc::ClientContext context;
    Prepare(/*session_id=*/"", &context);
    v1::ListSessionsResponse response;
    absl::Status status = Call(sessions_.get(), &v1::SessionService::Stub::ListSessions, &context,
                               options_.cancellation, request, &response);
    if (!status.ok()) return status;
    for (v1::Session& session : *response.mutable_sessions()) {
      sessions.push_back(std::move(session));
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  return sessions;
}

absl::Status Client::DeleteSession(const std::string& session_id) {
  grpc::ClientContext context;
  Prepare(session_id, &context);
  v1::DeleteSessionRequest request;
  request.set_session_id(session_id);
  v1::DeleteSessionResponse response;
  return Call(sessions_.get(), &v1::SessionService::Stub::DeleteSession, &context,
              options_.cancellation, request, &response);
}

absl::StatusOr<v1::AppendResponse> Client::Append(const v1::AppendRequest& request) {
  grpc::ClientContext context;
  Prepare(request.session_id(), &context);
  v1::AppendResponse response;
  absl::Status status = Call(sessions_.get(), &v1::SessionService::Stub::Append, &context,
                             options_.cancellation, request, &response);
  if (!status.ok()) return status;
  return response;
}

std::unique_ptr<AppendStream> Client::StartAppend(const std::string& session_id,
                                                  const AppendStreamOptions& options) {
  return std::make_unique<AppendStream>(this, session_id, options);
}

absl::StatusOr<v1::GenerateSummary> Client::Generate(
    const v1::GenerateRequest& request,
    const std::function<void(const v1::GenerateResponse&)>& on_piece, Cancellation* cancellation) {
  grpc::ClientContext context;
  Prepare(request.session_id(), &context);
  const Cancellation::Scope scope(options_.cancellation, &context);
  const Cancellation::Scope own_scope(cancellation, &context);
  const auto reader = sessions_->Generate(&context, request);
  v1::GenerateResponse response;
  std::optional<v1::GenerateSummary> summary;
  while (reader->Read(&response)) {
    if (response.has_summary()) {
      summary = response.summary();
      response.clear_summary();
      if (response.text().empty() && response.tokens().empty()) continue;
    }
    on_piece(response);
  }
  if (absl::Status status = FromGrpc(reader->Finish()); !status.ok()) return status;
  if (!summary.has_value()) return absl::InternalError("Generate: the stream ended, no summary");
  return *std::move(summary);
}

absl::StatusOr<v1::GetModelResponse> Client::GetModel() {
  grpc::ClientContext context;
  Prepare(/*session_id=*/"", &context);
  v1::GetModelResponse response;
  absl::Status status = Call(model_.get(), &v1::ModelService::Stub::GetModel, &context,
                             options_.cancellation, v1::GetModelRequest(), &response);
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<std::vector<int32_t>> Client::Tokenize(const std::string& text) {
  grpc::ClientContext context;
  Prepare(/*session_id=*/"", &context);
  v1::TokenizeRequest request;
  request.set_text(text);
  v1::TokenizeResponse response;
  absl::Status status = Call(model_.get(), &v1::ModelService::Stub::Tokenize, &context,
                             options_.cancellation, request, &response);
  if (!status.ok()) return status;
  return std::vector<int32_t>(response.token_ids().begin(), response.token_ids().end());
}

absl::StatusOr<std::string> Client::Detokenize(const std::vector<int32_t>& token_ids) {
  grpc::ClientContext context;
  Prepare(/*session_id=*/"", &context);
  v1::DetokenizeRequest request;
  request.mutable_token_ids()->Assign(token_ids.begin(), token_ids.end());
  v1::DetokenizeResponse response;
  absl::Status status = Call(model_.get(), &v1::ModelService::Stub::Detokenize, &context,
                             options_.cancellation, request, &response);
  if (!status.ok()) return status;
  return std::move(*response.mutable_text());
}

}  // namespace rasq::client
