#include "server/call.h"

#include <iterator>

#include "kernels/base/status.h"
#include "server/grpc_status.h"

namespace rasq {
namespace {

// The client's clock starts before ours, and its cancel may be here before our own deadline is.
constexpr absl::Duration kDeadlineSlack = absl::Milliseconds(50);
constexpr size_t kMaxLoggedIdBytes = 128;
constexpr char kRequestIdMetadata[] = "x-request-id";

// The value of a key that the client sent once; else empty.
absl::string_view Metadata(const grpc::CallbackServerContext& context, const char* key) {
  const auto [first, last] = context.client_metadata().equal_range(key);
  if (first == last || std::next(first) != last) return "";
  return absl::string_view(first->second.data(), first->second.size());
}

}  // namespace

CallRecord::CallRecord(const Backend& backend, const Method& method,
                       grpc::CallbackServerContext& context)
    : backend_(backend),
      method_(method),
      deadline_(absl::FromChrono(context.deadline())),
      request_id_(RequestId(Metadata(context, kRequestIdMetadata))),
      trace_(ParseTraceParent(Metadata(context, "traceparent"))),
      authorization_(Metadata(context, "authorization")),
      admission_(Admit()) {
  context.AddInitialMetadata(kRequestIdMetadata, request_id_);
}

absl::Status CallRecord::Admit() {
  const absl::Status entered = backend_.calls.Enter();
  if (absl::IsUnavailable(entered)) return entered;
  RASQ_ASSIGN_OR_RETURN(tenant_, backend_.auth.TenantOf(authorization_, method_.scope, start_));
  // An operator gets through when the server is full.
  return method_.scope == Scope::kAdmin ? absl::OkStatus() : entered;
}

absl::Status CallRecord::CheckToken() const {
  RASQ_ASSIGN_OR_RETURN(const std::string tenant,
                        backend_.auth.TenantOf(authorization_, method_.scope, absl::Now()));
  return tenant == tenant_
             ? absl::OkStatus()
             : absl::PermissionDeniedError("authorization: the token is another tenant's now");
}

absl::Status CallRecord::WhyCancelled() const {
  return absl::Now() + kDeadlineSlack >= deadline_
             ? absl::DeadlineExceededError("the call's deadline passed")
             : absl::CancelledError("the client gave up the call");
}

grpc::Status CallRecord::End(const absl::Status& status) {
  status_ = status;
  duration_ = absl::Now() - start_;
  const absl::Status shown =
      absl::IsInternal(status) ? WithHealth(status, backend_.engine.Health()) : status;
  backend_.metrics.OnCallEnd(method_.name, shown.code(), duration_);
  return ToGrpcStatus(shown, request_id_);
}

void CallRecord::Done() {
  backend_.log.Call(
      {.method = method_.name,
       .request_id = request_id_,
       .tenant = tenant_,
       .session_id = absl::string_view(session_id_).substr(0, kMaxLoggedIdBytes),
       .status = status_,
       .duration = duration_,
       .tokens_in = tokens_in_,
       .tokens_out = tokens_out_,
       .trace_id = trace_ ? absl::string_view(trace_->trace_id) : absl::string_view(),
       .parent_id = trace_ ? absl::string_view(trace_->parent_id) : absl::string_view()});
  backend_.calls.Leave();
}

}  // namespace rasq
