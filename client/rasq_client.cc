#include "client/rasq_client.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <chrono>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/rpc_status.h"

namespace rasq::client {
namespace {

constexpr char kSessionMetadata[] = "x-rasq-session";

constexpr char kTokenMetadata[] = "authorization";

// Without credentials the channel is never used.
std::shared_ptr<grpc::Channel> MakeChannel(
    const ClientOptions& options,
    const absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>>& credentials) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(options.max_message_bytes);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS,
                   static_cast<int>(absl::ToInt64Milliseconds(options.keepalive)));
  // A reconnecting append waits for the channel's next attempt: gRPC's own limit, two minutes, is
  // for fleets of clients.
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 5000);
  arguments.SetUserAgentPrefix(options.user_agent.empty() ? "rasq/" RASQ_VERSION
                                                          : options.user_agent);
  return grpc::CreateCustomChannel(
      options.address, credentials.ok() ? *credentials : grpc::InsecureChannelCredentials(),
      arguments);
}

}  // namespace

std::string DefaultAddress() {
  const char* address = std::getenv("RASQ_ADDRESS");
  return address != nullptr && *address != '\0' ? address : "127.0.0.1:50051";
}

void SetDuration(absl::Duration duration, google::protobuf::Duration* proto) {
  absl::Duration rest;
  proto->set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &rest));
  proto->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
}

Client::Client(ClientOptions options)
    : options_(std::move(options)),
      credentials_(MakeCredentials(options_.security)),
      token_(TokenFor(options_.security, options_.address)),
      channel_(MakeChannel(options_, credentials_)),
      sessions_(v1::SessionService::NewStub(channel_)),
      model_(v1::ModelService::NewStub(channel_)),
      admin_(v1::AdminService::NewStub(channel_)) {}

absl::Status Client::Prepare(const std::string& session_id, grpc::ClientContext* context) const {
  if (!credentials_.ok()) return credentials_.status();
  if (!token_.ok()) return token_.status();
  if (!token_->empty()) context->AddMetadata(kTokenMetadata, absl::StrCat("Bearer ", *token_));
  if (!session_id.empty()) context->AddMetadata(kSessionMetadata, session_id);
  if (options_.deadline > absl::ZeroDuration()) {
    context->set_deadline(absl::ToChronoTime(absl::Now() + options_.deadline));
  }
  return absl::OkStatus();
}

template <typename Stub, typename Request, typename Response>
absl::StatusOr<Response> Client::Call(Stub* stub,
                                      grpc::Status (Stub::*method)(grpc::ClientContext*,
                                                                   const Request&, Response*),
                                      const std::string& session_id, const Request& request) const {
  grpc::ClientContext context;
  absl::Status status = Prepare(session_id, &context);
  if (!status.ok()) return status;
  const Cancellation::Scope scope(options_.cancellation, &context);
  Response response;
  status = FromGrpc((stub->*method)(&context, request, &response));
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<v1::Session> Client::CreateSession(const v1::CreateSessionRequest& request) {
  auto response = Call(sessions_.get(), &v1::SessionService::Stub::CreateSession,
                       request.session_id(), request);
  if (!response.ok()) return response.status();
  return std::move(*response->mutable_session());
}

absl::StatusOr<v1::Session> Client::GetSession(const std::string& session_id) {
  v1::GetSessionRequest request;
  request.set_session_id(session_id);
  auto response = Call(sessions_.get(), &v1::SessionService::Stub::GetSession, session_id, request);
  if (!response.ok()) return response.status();
  return std::move(*response->mutable_session());
}

absl::StatusOr<std::vector<v1::Session>> Client::ListSessions() {
  std::vector<v1::Session> sessions;
  v1::ListSessionsRequest request;
  do {
    auto response =
        Call(sessions_.get(), &v1::SessionService::Stub::ListSessions, /*session_id=*/"", request);
    if (!response.ok()) return response.status();
    for (v1::Session& session : *response->mutable_sessions()) {
      sessions.push_back(std::move(session));
    }
    request.set_page_token(response->next_page_token());
  } while (!request.page_token().empty());
  return sessions;
}

absl::Status Client::DeleteSession(const std::string& session_id) {
  v1::DeleteSessionRequest request;
  request.set_session_id(session_id);
  return Call(sessions_.get(), &v1::SessionService::Stub::DeleteSession, session_id, request)
      .status();
}

// Routed to the server of the session that there is; the new one is made on the same.
absl::StatusOr<v1::Session> Client::ForkSession(const v1::ForkSessionRequest& request) {
  auto response =
      Call(sessions_.get(), &v1::SessionService::Stub::ForkSession, request.session_id(), request);
  if (!response.ok()) return response.status();
  return std::move(*response->mutable_session());
}

absl::StatusOr<v1::Session> Client::RestoreSession(const v1::RestoreSessionRequest& request) {
  auto response = Call(sessions_.get(), &v1::SessionService::Stub::RestoreSession,
                       request.session_id(), request);
  if (!response.ok()) return response.status();
  return std::move(*response->mutable_session());
}

absl::StatusOr<v1::Snapshot> Client::SnapshotSession(const std::string& session_id,
                                                     const std::string& snapshot_id) {
  v1::SnapshotSessionRequest request;
  request.set_session_id(session_id);
  request.set_snapshot_id(snapshot_id);
  auto response =
      Call(sessions_.get(), &v1::SessionService::Stub::SnapshotSession, session_id, request);
  if (!response.ok()) return response.status();
  return std::move(*response->mutable_snapshot());
}

absl::StatusOr<std::vector<v1::Snapshot>> Client::ListSnapshots() {
  std::vector<v1::Snapshot> snapshots;
  v1::ListSnapshotsRequest request;
  do {
    auto response =
        Call(sessions_.get(), &v1::SessionService::Stub::ListSnapshots, /*session_id=*/"", request);
    if (!response.ok()) return response.status();
    for (v1::Snapshot& snapshot : *response->mutable_snapshots()) {
      snapshots.push_back(std::move(snapshot));
    }
    request.set_page_token(response->next_page_token());
  } while (!request.page_token().empty());
  return snapshots;
}

absl::Status Client::DeleteSnapshot(const std::string& snapshot_id) {
  v1::DeleteSnapshotRequest request;
  request.set_snapshot_id(snapshot_id);
  return Call(sessions_.get(), &v1::SessionService::Stub::DeleteSnapshot, /*session_id=*/"",
              request)
      .status();
}

absl::StatusOr<v1::AppendResponse> Client::Append(const v1::AppendRequest& request) {
  return Call(sessions_.get(), &v1::SessionService::Stub::Append, request.session_id(), request);
}

std::unique_ptr<AppendStream> Client::StartAppend(const std::string& session_id,
                                                  const AppendStreamOptions& options) {
  return std::make_unique<AppendStream>(this, session_id, options);
}

absl::StatusOr<v1::GenerateSummary> Client::Generate(
    const v1::GenerateRequest& request,
    const std::function<void(const v1::GenerateResponse&)>& on_piece, Cancellation* cancellation) {
  grpc::ClientContext context;
  if (absl::Status status = Prepare(request.session_id(), &context); !status.ok()) return status;
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
  return Call(model_.get(), &v1::ModelService::Stub::GetModel, /*session_id=*/"",
              v1::GetModelRequest());
}

absl::StatusOr<v1::GetServerInfoResponse> Client::GetServerInfo() {
  return Call(model_.get(), &v1::ModelService::Stub::GetServerInfo, /*session_id=*/"",
              v1::GetServerInfoRequest());
}

absl::StatusOr<std::vector<int32_t>> Client::Tokenize(const std::string& text) {
  v1::TokenizeRequest request;
  request.set_text(text);
  const auto response =
      Call(model_.get(), &v1::ModelService::Stub::Tokenize, /*session_id=*/"", request);
  if (!response.ok()) return response.status();
  return std::vector<int32_t>(response->token_ids().begin(), response->token_ids().end());
}

absl::StatusOr<std::string> Client::Detokenize(const std::vector<int32_t>& token_ids) {
  v1::DetokenizeRequest request;
  request.mutable_token_ids()->Assign(token_ids.begin(), token_ids.end());
  auto response =
      Call(model_.get(), &v1::ModelService::Stub::Detokenize, /*session_id=*/"", request);
  if (!response.ok()) return response.status();
  return std::move(*response->mutable_text());
}

absl::Status Client::Drain(std::optional<absl::Duration> grace) {
  v1::DrainRequest request;
  if (grace.has_value()) SetDuration(*grace, request.mutable_grace());
  return Call(admin_.get(), &v1::AdminService::Stub::Drain, /*session_id=*/"", request).status();
}

absl::Status Client::Reload() {
  return Call(admin_.get(), &v1::AdminService::Stub::Reload, /*session_id=*/"", v1::ReloadRequest())
      .status();
}

}  // namespace rasq::client
