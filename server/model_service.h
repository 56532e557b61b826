// rasq.v1.ModelService: what is served, and its tokenizer.
#pragma once

#include <cstdint>

#include "absl/time/time.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "rasq/v1/model.grpc.pb.h"
#include "server/call.h"

namespace rasq {

// Every method is raw (see wire.h).
using RawModelService = v1::ModelService::WithRawCallbackMethod_GetModel<
    v1::ModelService::WithRawCallbackMethod_GetServerInfo<
        v1::ModelService::WithRawCallbackMethod_Tokenize<
            v1::ModelService::WithRawCallbackMethod_Detokenize<v1::ModelService::Service>>>>;

class ModelService final : public RawModelService {
 public:
  // `backend` is borrowed and outlives every call.
  ModelService(const Backend& backend, int32_t max_message_bytes)
      : backend_(backend), max_message_bytes_(max_message_bytes) {}

  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;

 private:
  v1::GetServerInfoResponse ServerInfo() const;

  const Backend& backend_;
  const int32_t max_message_bytes_;
  const absl::Time start_time_ = absl::Now();
};

}  // namespace rasq
