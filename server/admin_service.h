// rasq.v1.AdminService: what an operator does to the running server. Needs the scope admin.
#pragma once

#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "rasq/v1/admin.grpc.pb.h"
#include "server/call.h"

namespace rasq {

// What the service does it asks of the server. Any thread may call any method.
class Administered {
 public:
  virtual ~Administered() = default;
  // Nothing if the server stops already. `grace`: instead of the one in the options.
  virtual void BeginDrain(std::optional<absl::Duration> grace) = 0;
  virtual absl::Status Reload() = 0;
};

// Every method is raw (see wire.h).
using RawAdminService = v1::AdminService::WithRawCallbackMethod_Drain<
    v1::AdminService::WithRawCallbackMethod_Reload<v1::AdminService::Service>>;

class AdminService final : public RawAdminService {
 public:
  // Both are borrowed and outlive every call.
  AdminService(const Backend& backend, Administered& server) : backend_(backend), server_(server) {}

  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context,
                                  const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Reload(grpc::CallbackServerContext* context,
                                   const grpc::ByteBuffer* request,
                                   grpc::ByteBuffer* response) override;

 private:
  const Backend& backend_;
  Administered& server_;
};

}  // namespace rasq
