#include "server/admin_service.h"

#include "engine/check_range.h"
#include "kernels/base/status.h"
#include "server/unary_reactor.h"

namespace rasq {
namespace {

constexpr int64_t kMaxGraceSeconds = 24 * 3600;

absl::StatusOr<std::optional<absl::Duration>> GraceOf(const v1::DrainRequest& request) {
  if (!request.has_grace()) return std::nullopt;
  RASQ_RETURN_IF_ERROR(
      CheckRange<int64_t>("grace.seconds", request.grace().seconds(), 0, kMaxGraceSeconds));
  RASQ_RETURN_IF_ERROR(CheckRange<int32_t>("grace.nanos", request.grace().nanos(), 0, 999'999'999));
  return absl::Seconds(request.grace().seconds()) + absl::Nanoseconds(request.grace().nanos());
}

}  // namespace

grpc::ServerUnaryReactor* AdminService::Drain(grpc::CallbackServerContext* context,
                                              const grpc::ByteBuffer* request,
                                              grpc::ByteBuffer* response) {
  return ServeUnary<v1::DrainRequest>(
      backend_, {"Drain", Scope::kAdmin}, RunOn::kWorker, *context, *request, response,
      [this](v1::DrainRequest& message, const UnaryCall& call) {
        const absl::StatusOr<std::optional<absl::Duration>> grace = GraceOf(message);
        if (!grace.ok()) {
          call->Fail(grace.status());
          return;
        }
        server_.BeginDrain(*grace);
        call->Reply(v1::DrainResponse());
      });
}

grpc::ServerUnaryReactor* AdminService::Reload(grpc::CallbackServerContext* context,
                                               const grpc::ByteBuffer* request,
                                               grpc::ByteBuffer* response) {
  return ServeUnary<v1::ReloadRequest>(
      backend_, {"Reload", Scope::kAdmin}, RunOn::kWorker, *context, *request, response,
      [this](v1::ReloadRequest&, const UnaryCall& call) {
        const absl::Status status = server_.Reload();
        status.ok() ? call->Reply(v1::ReloadResponse()) : call->Fail(status);
      });
}

}  // namespace rasq
