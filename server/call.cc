#include "server/call.h"

#include "server/grpc_status.h"

namespace rasq {
namespace {

// The client's clock starts before ours, and its cancel may be here before our own deadline is.
constexpr absl::Duration kDeadlineSlack = absl::Milliseconds(50);
constexpr size_t kMaxLoggedIdBytes = 128;

}  // namespace

CallRecord::CallRecord(const Backend& backend, absl::string_view method,
                       const grpc::CallbackServerContext& context)
    : backend_(backend), method_(method), deadline_(absl::FromChrono(context.deadline())) {
  if (!backend_.calls.Enter()) admission_ = absl::UnavailableError("the server is stopping");
}

absl::Status CallRecord::WhyCancelled() const {
  return absl::Now() + kDeadlineSlack >= deadline_
             ? absl::DeadlineExceededError("the call's deadline passed")
             : absl::CancelledError("the client gave up the call");
}

grpc::Status CallRecord::End(const absl::Status& status) {
  status_ = status;
  duration_ = absl::Now() - start_;
  backend_.metrics.OnCallEnd(method_, status.code(), duration_);
  return ToGrpcStatus(status);
}

void CallRecord::Done() {
  backend_.log.Call({.method = method_,
                     .session_id = absl::string_view(session_id_).substr(0, kMaxLoggedIdBytes),
                     .status = status_,
                     .duration = duration_});
  backend_.calls.Leave();
}

}  // namespace rasq
