// rasq.v1.ModelService: what is served, and its tokenizer.
#pragma once

#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "rasq/v1/model.grpc.pb.h"
#include "server/call.h"

namespace rasq {

// Every method is raw (see wire.h).
using RawModelService = v1::ModelService::WithRawCallbackMethod_GetModel<
    v1::ModelService::WithRawCallbackMethod_Tokenize<
        v1::ModelService::WithRawCallbackMethod_Detokenize<v1::ModelService::Service>>>;

class ModelService final : public RawModelService {
 public:
  // `backend` is borrowed and outlives every call.
  explicit ModelService(const Backend& backend) : backend_(backend) {}

  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;

 private:
  const Backend& backend_;
};

}  // namespace rasq
