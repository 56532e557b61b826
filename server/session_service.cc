#include "server/session_service.h"

#include <utility>

#include "engine/engine_group.h"
#include "kernels/base/status.h"
#include "server/convert.h"
#include "server/generate_reactor.h"
#include "server/stream_append_reactor.h"
#include "server/unary_reactor.h"

namespace rasq {
namespace {

absl::StatusOr<v1::CreateSessionResponse> Create(EngineGroup& engine, const std::string& tenant,
                                                 const v1::CreateSessionRequest& request) {
  RASQ_ASSIGN_OR_RETURN(const CreateSessionRequest converted, FromProto(request, tenant));
  RASQ_ASSIGN_OR_RETURN(const SessionInfo session, engine.CreateSession(converted));
  v1::CreateSessionResponse response;
  *response.mutable_session() = ToProto(session);
  return response;
}

absl::StatusOr<v1::GetSessionResponse> Get(const EngineGroup& engine, const ScopedName& name) {
  RASQ_RETURN_IF_ERROR(CheckId(name.id, "session_id"));
  RASQ_ASSIGN_OR_RETURN(const SessionInfo session, engine.GetSession(name));
  v1::GetSessionResponse response;
  *response.mutable_session() = ToProto(session);
  return response;
}

absl::StatusOr<v1::ListSessionsResponse> List(const EngineGroup& engine, const std::string& tenant,
                                              const v1::ListSessionsRequest& request) {
  RASQ_RETURN_IF_ERROR(CheckPage(request.page_size(), request.page_token()));
  RASQ_ASSIGN_OR_RETURN(SessionPage page,
                        engine.ListSessions(tenant, request.page_size(), request.page_token()));
  v1::ListSessionsResponse response;
  for (const SessionInfo& session : page.sessions) *response.add_sessions() = ToProto(session);
  response.set_next_page_token(std::move(page.next_page_token));
  return response;
}

}  // namespace

grpc::ServerUnaryReactor* SessionService::CreateSession(grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* request,
                                                        grpc::ByteBuffer* response) {
  return ServeUnary<v1::CreateSessionRequest>(
      backend_, "CreateSession", RunOn::kWorker, *context, *request, response,
      [this](v1::CreateSessionRequest& message, const UnaryCall& call) {
        const absl::StatusOr<v1::CreateSessionResponse> result =
            Create(backend_.engine, call->tenant(), message);
        call->set_session_id(result.ok() ? result->session().session_id() : message.session_id());
        Answer(call, result);
      });
}

grpc::ServerUnaryReactor* SessionService::GetSession(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* request,
                                                     grpc::ByteBuffer* response) {
  return ServeUnary<v1::GetSessionRequest>(
      backend_, "GetSession", RunOn::kGrpcThread, *context, *request, response,
      [this](v1::GetSessionRequest& message, const UnaryCall& call) {
        call->set_session_id(message.session_id());
        Answer(call, Get(backend_.engine, {call->tenant(), message.session_id()}));
      });
}

grpc::ServerUnaryReactor* SessionService::ListSessions(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request,
                                                       grpc::ByteBuffer* response) {
  return ServeUnary<v1::ListSessionsRequest>(
      backend_, "ListSessions", RunOn::kGrpcThread, *context, *request, response,
      [this](v1::ListSessionsRequest& message, const UnaryCall& call) {
        Answer(call, List(backend_.engine, call->tenant(), message));
      });
}

grpc::ServerUnaryReactor* SessionService::DeleteSession(grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* request,
                                                        grpc::ByteBuffer* response) {
  return ServeUnary<v1::DeleteSessionRequest>(
      backend_, "DeleteSession", RunOn::kGrpcThread, *context, *request, response,
      [this](v1::DeleteSessionRequest& message, const UnaryCall& call) {
        call->set_session_id(message.session_id());
        if (absl::Status status = CheckId(message.session_id(), "session_id"); !status.ok()) {
          call->Fail(status);
          return;
        }
        backend_.engine.DeleteSession(
            {call->tenant(), message.session_id()}, [call](const absl::Status& status) {
              status.ok() ? call->Reply(v1::DeleteSessionResponse()) : call->Fail(status);
            });
      });
}

grpc::ServerUnaryReactor* SessionService::Append(grpc::CallbackServerContext* context,
                                                 const grpc::ByteBuffer* request,
                                                 grpc::ByteBuffer* response) {
  return ServeUnary<v1::AppendRequest>(
      backend_, "Append", RunOn::kWorker, *context, *request, response,
      [this](v1::AppendRequest& message, const UnaryCall& call) {
        call->set_session_id(message.session_id());
        absl::StatusOr<AppendRequest> converted =
            TakeAppend(message, backend_.engine.model(), backend_.limits);
        if (!converted.ok()) {
          call->Fail(converted.status());
          return;
        }
        converted->session.tenant = call->tenant();
        const absl::StatusOr<AppendReceipt> receipt = backend_.engine.Append(
            *std::move(converted), [this, call](const absl::StatusOr<AppendResult>& result) {
              if (result.ok()) {
                call->set_tokens_in(result->appended_tokens);
                backend_.metrics.OnScored(result->scored_tokens);
              }
              result.ok() ? call->Reply(ToProto(*result)) : call->Fail(result.status());
            });
        if (!receipt.ok()) call->Fail(receipt.status());
      });
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* SessionService::StreamAppend(
    grpc::CallbackServerContext* context) {
  return StreamAppendReactor::Start(backend_, *context);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* SessionService::Generate(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  return GenerateReactor::Start(backend_, *context, *request);
}

}  // namespace rasq
