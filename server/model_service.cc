#include "server/model_service.h"

#include <vector>

#include "absl/types/span.h"
#include "engine/engine_group.h"
#include "server/convert.h"
#include "server/unary_reactor.h"

namespace rasq {

grpc::ServerUnaryReactor* ModelService::GetModel(grpc::CallbackServerContext* context,
                                                 const grpc::ByteBuffer* request,
                                                 grpc::ByteBuffer* response) {
  return ServeUnary<v1::GetModelRequest>(backend_, {"GetModel", Scope::kAny}, RunOn::kGrpcThread,
                                         *context, *request, response,
                                         [this](v1::GetModelRequest&, const UnaryCall& call) {
                                           call->Reply(ToProto(backend_.engine.model()));
                                         });
}

v1::GetServerInfoResponse ModelService::ServerInfo() const {
  const EngineGroup& group = backend_.engine;
  const EngineStats stats = group.Stats();
  v1::GetServerInfoResponse info;
  info.set_server_version(RASQ_VERSION);
  SetTime(start_time_, *info.mutable_start_time());
  info.set_draining(backend_.calls.draining());
  info.set_durable(group.options().durable);
  for (int32_t i = 0; i < group.size(); ++i) {
    *info.add_devices() = ToProto(group.engine(i).model(), group.engine(i).Stats());
  }
  info.set_sessions_open(stats.sessions_open);
  info.set_sessions_active(stats.sessions_active);
  info.set_sessions_parked_host(stats.sessions_parked_host);
  info.set_sessions_parked_disk(stats.sessions_parked_disk);
  info.set_max_sessions_open(stats.max_open_sessions);
  info.set_backlog_tokens(stats.backlog_tokens);
  info.set_max_backlog_tokens(group.options().max_total_backlog_tokens);
  info.set_max_session_backlog_tokens(group.options().max_backlog_tokens);
  info.set_generations_running(stats.generations_running);
  info.set_generations_queued(stats.generations_queued);
  info.set_max_generations_queued(group.options().max_queued_generations);
  info.set_max_message_bytes(max_message_bytes_);
  return info;
}

grpc::ServerUnaryReactor* ModelService::GetServerInfo(grpc::CallbackServerContext* context,
                                                      const grpc::ByteBuffer* request,
                                                      grpc::ByteBuffer* response) {
  return ServeUnary<v1::GetServerInfoRequest>(
      backend_, {"GetServerInfo", Scope::kAny}, RunOn::kGrpcThread, *context, *request, response,
      [this](v1::GetServerInfoRequest&, const UnaryCall& call) { call->Reply(ServerInfo()); });
}

grpc::ServerUnaryReactor* ModelService::Tokenize(grpc::CallbackServerContext* context,
                                                 const grpc::ByteBuffer* request,
                                                 grpc::ByteBuffer* response) {
  return ServeUnary<v1::TokenizeRequest>(
      backend_, "Tokenize", RunOn::kWorker, *context, *request, response,
      [this](v1::TokenizeRequest& message, const UnaryCall& call) {
        const absl::Status status = CheckText(message.text(), backend_.limits, "text");
        if (!status.ok()) {
          call->Fail(status);
          return;
        }
        const std::vector<int32_t> ids = backend_.engine.tokenizer().Encode(message.text());
        v1::TokenizeResponse result;
        result.mutable_token_ids()->Add(ids.begin(), ids.end());
        call->Reply(result);
      });
}

grpc::ServerUnaryReactor* ModelService::Detokenize(grpc::CallbackServerContext* context,
                                                   const grpc::ByteBuffer* request,
                                                   grpc::ByteBuffer* response) {
  return ServeUnary<v1::DetokenizeRequest>(
      backend_, "Detokenize", RunOn::kWorker, *context, *request, response,
      [this](v1::DetokenizeRequest& message, const UnaryCall& call) {
        const auto& ids = message.token_ids();
        absl::Status status =
            CheckTokenIds(ids, backend_.engine.model(), backend_.limits, "token_ids");
        if (!status.ok()) {
          call->Fail(status);
          return;
        }
        v1::DetokenizeResponse result;
        result.set_text(
            backend_.engine.tokenizer().Decode(absl::MakeConstSpan(ids.data(), ids.size())));
        call->Reply(result);
      });
}

}  // namespace rasq
