// The part of SessionService that copies states: fork, snapshot, restore.
#include <utility>

#include "engine/engine_group.h"
#include "kernels/base/status.h"
#include "server/convert.h"
#include "server/session_service.h"
#include "server/unary_reactor.h"

namespace rasq {
namespace {

// The engine's answer to a call that makes a session: it comes later, from another thread.
template <typename Response>
std::function<void(absl::StatusOr<SessionInfo>)> ReplyWithSession(const UnaryCall& call) {
  return [call](const absl::StatusOr<SessionInfo>& session) {
    if (!session.ok()) {
      call->Fail(session.status());
      return;
    }
    Response response;
    *response.mutable_session() = ToProto(*session);
    call->Reply(response);
  };
}

absl::StatusOr<v1::ListSnapshotsResponse> List(const EngineGroup& engine, const std::string& tenant,
                                               const v1::ListSnapshotsRequest& request) {
  RASQ_RETURN_IF_ERROR(CheckPage(request.page_size(), request.page_token()));
  RASQ_ASSIGN_OR_RETURN(SnapshotPage page,
                        engine.ListSnapshots(tenant, request.page_size(), request.page_token()));
  v1::ListSnapshotsResponse response;
  for (const SnapshotInfo& snapshot : page.snapshots) *response.add_snapshots() = ToProto(snapshot);
  response.set_next_page_token(std::move(page.next_page_token));
  return response;
}

absl::Status Delete(EngineGroup& engine, const ScopedName& name) {
  RASQ_RETURN_IF_ERROR(CheckId(name.id, "snapshot_id"));
  return engine.DeleteSnapshot(name);
}

}  // namespace

grpc::ServerUnaryReactor* SessionService::ForkSession(grpc::CallbackServerContext* context,
                                                      const grpc::ByteBuffer* request,
                                                      grpc::ByteBuffer* response) {
  return ServeUnary<v1::ForkSessionRequest>(
      backend_, "ForkSession", RunOn::kGrpcThread, *context, *request, response,
      [this](v1::ForkSessionRequest& message, const UnaryCall& call) {
        call->set_session_id(message.session_id());
        const absl::StatusOr<ForkSessionRequest> converted = FromProto(message, call->tenant());
        if (!converted.ok()) {
          call->Fail(converted.status());
          return;
        }
        backend_.engine.ForkSession(*converted, ReplyWithSession<v1::ForkSessionResponse>(call));
      });
}

grpc::ServerUnaryReactor* SessionService::SnapshotSession(grpc::CallbackServerContext* context,
                                                          const grpc::ByteBuffer* request,
                                                          grpc::ByteBuffer* response) {
  return ServeUnary<v1::SnapshotSessionRequest>(
      backend_, "SnapshotSession", RunOn::kWorker, *context, *request, response,
      [this](v1::SnapshotSessionRequest& message, const UnaryCall& call) {
        call->set_session_id(message.session_id());
        const absl::StatusOr<SnapshotRequest> converted = FromProto(message, call->tenant());
        if (!converted.ok()) {
          call->Fail(converted.status());
          return;
        }
        backend_.engine.SnapshotSession(*converted,
                                        [call](const absl::StatusOr<SnapshotInfo>& snapshot) {
                                          if (!snapshot.ok()) {
                                            call->Fail(snapshot.status());
                                            return;
                                          }
                                          v1::SnapshotSessionResponse answer;
                                          *answer.mutable_snapshot() = ToProto(*snapshot);
                                          call->Reply(answer);
                                        });
      });
}

grpc::ServerUnaryReactor* SessionService::RestoreSession(grpc::CallbackServerContext* context,
                                                         const grpc::ByteBuffer* request,
                                                         grpc::ByteBuffer* response) {
  return ServeUnary<v1::RestoreSessionRequest>(
      backend_, "RestoreSession", RunOn::kWorker, *context, *request, response,
      [this](v1::RestoreSessionRequest& message, const UnaryCall& call) {
        call->set_session_id(message.session_id());
        const absl::StatusOr<RestoreSessionRequest> converted = FromProto(message, call->tenant());
        if (!converted.ok()) {
          call->Fail(converted.status());
          return;
        }
        backend_.engine.RestoreSession(*converted,
                                       ReplyWithSession<v1::RestoreSessionResponse>(call));
      });
}

grpc::ServerUnaryReactor* SessionService::ListSnapshots(grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* request,
                                                        grpc::ByteBuffer* response) {
  return ServeUnary<v1::ListSnapshotsRequest>(
      backend_, "ListSnapshots", RunOn::kWorker, *context, *request, response,
      [this](v1::ListSnapshotsRequest& message, const UnaryCall& call) {
        Answer(call, List(backend_.engine, call->tenant(), message));
      });
}

grpc::ServerUnaryReactor* SessionService::DeleteSnapshot(grpc::CallbackServerContext* context,
                                                         const grpc::ByteBuffer* request,
                                                         grpc::ByteBuffer* response) {
  return ServeUnary<v1::DeleteSnapshotRequest>(
      backend_, "DeleteSnapshot", RunOn::kWorker, *context, *request, response,
      [this](v1::DeleteSnapshotRequest& message, const UnaryCall& call) {
        const absl::Status status =
            Delete(backend_.engine, {call->tenant(), message.snapshot_id()});
        status.ok() ? call->Reply(v1::DeleteSnapshotResponse()) : call->Fail(status);
      });
}

}  // namespace rasq
