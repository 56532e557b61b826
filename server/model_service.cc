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
  return ServeUnary<v1::GetModelRequest>(backend_, "GetModel", RunOn::kGrpcThread, *context,
                                         *request, response,
                                         [this](v1::GetModelRequest&, const UnaryCall& call) {
                                           call->Reply(ToProto(backend_.engine.model()));
                                         });
}

grpc::ServerUnaryReactor* ModelService::Tokenize(grpc::CallbackServerContext* context,
                                                 const grpc::ByteBuffer* request,
                                                 grpc::ByteBuffer* response) {
  return ServeUnary<v1::TokenizeRequest>(
      backend_, "Tokenize", RunOn::kWorker, *context, *request, response,
      [this](v1::TokenizeRequest& message, const UnaryCall& call) {
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
        absl::Status status = CheckTokenIds(ids, backend_.engine.model(), "token_ids");
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
