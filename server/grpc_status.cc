#include "server/grpc_status.h"

#include "absl/strings/ascii.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace rasq {
namespace {

constexpr char kDomain[] = "rasq";
// A second is many steps of any device: what is full now may have room by then.
constexpr int kRetryDelaySeconds = 1;

bool IsPrivate(absl::StatusCode code) {
  return code == absl::StatusCode::kInternal || code == absl::StatusCode::kUnknown;
}

}  // namespace

absl::string_view ReasonOf(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return "";
    case absl::StatusCode::kInvalidArgument:
      return "INVALID_FIELD";
    case absl::StatusCode::kNotFound:
      return "SESSION_NOT_FOUND";
    case absl::StatusCode::kAlreadyExists:
      return "SESSION_EXISTS";
    case absl::StatusCode::kResourceExhausted:
      return "AT_CAPACITY";
    case absl::StatusCode::kOutOfRange:
      return "WRONG_OFFSET";
    case absl::StatusCode::kAborted:
      return "SESSION_BUSY";
    case absl::StatusCode::kFailedPrecondition:
      return "WRONG_STATE";
    case absl::StatusCode::kUnavailable:
      return "SERVER_STOPPING";
    case absl::StatusCode::kCancelled:
      return "CANCELLED";
    case absl::StatusCode::kUnauthenticated:
      return "UNAUTHENTICATED";
    case absl::StatusCode::kPermissionDenied:
      return "PERMISSION_DENIED";
    case absl::StatusCode::kDataLoss:
      return "SNAPSHOT_DAMAGED";
    case absl::StatusCode::kDeadlineExceeded:
      return "DEADLINE_EXCEEDED";
    default:
      return "INTERNAL";
  }
}

absl::string_view ReasonOf(const absl::Status& status) {
  const absl::string_view field = FieldOf(status.message());
  if (field == "snapshot_id" && absl::IsNotFound(status)) return "SNAPSHOT_NOT_FOUND";
  if (field == "tenant" && absl::IsResourceExhausted(status)) return "QUOTA_EXCEEDED";
  return ReasonOf(status.code());
}

absl::string_view FieldOf(absl::string_view message) {
  size_t end = 0;
  while (end < message.size() &&
         (absl::ascii_isalnum(message[end]) ||
          absl::string_view("_.[]").find(message[end]) != absl::string_view::npos)) {
    ++end;
  }
  const bool named =
      end > 0 && end < message.size() && (message[end] == ':' || message[end] == '=');
  return named ? message.substr(0, end) : absl::string_view();
}

absl::Status WithHealth(const absl::Status& status, const absl::Status& health) {
  if (!absl::IsInternal(status) || health.ok()) return status;
  return absl::UnavailableError("the server's device has failed; the server ends");
}

grpc::Status ToGrpcStatus(const absl::Status& status, absl::string_view request_id) {
  if (status.ok()) return grpc::Status::OK;
  const std::string message = IsPrivate(status.code())
                                  ? "internal error; the server's log has its cause"
                                  : std::string(status.message());

  google::rpc::Status rich;
  rich.set_code(static_cast<int>(status.code()));
  rich.set_message(message);
  google::rpc::ErrorInfo info;
  info.set_reason(std::string(ReasonOf(status)));
  info.set_domain(kDomain);
  if (!request_id.empty()) (*info.mutable_metadata())["request_id"] = std::string(request_id);
  rich.add_details()->PackFrom(info);
  if (status.code() == absl::StatusCode::kInvalidArgument) {
    google::rpc::BadRequest bad_request;
    google::rpc::BadRequest::FieldViolation& violation = *bad_request.add_field_violations();
    violation.set_field(std::string(FieldOf(message)));
    violation.set_description(message);
    rich.add_details()->PackFrom(bad_request);
  }
  if (status.code() == absl::StatusCode::kResourceExhausted ||
      status.code() == absl::StatusCode::kUnavailable) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(kRetryDelaySeconds);
    rich.add_details()->PackFrom(retry);
  }
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), message,
                      rich.SerializeAsString());
}

}  // namespace rasq
