// The only conversion of absl::Status to what a client sees. Every error carries a
// google.rpc.Status with ErrorInfo{reason, domain "rasq", request_id}; kInvalidArgument also a
// BadRequest, kResourceExhausted and kUnavailable also a RetryInfo.
//
// A message that blames a field begins with its path: `stop.max_new_tokens=-1: ...` or
// `content.text: ...`; BadRequest takes it from there. Messages of kInternal and kUnknown stay on
// the server (its log has them): they may speak of paths and devices.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "grpcpp/support/status.h"

namespace rasq {

// `request_id` is what the log calls the call; empty: ErrorInfo has none.
grpc::Status ToGrpcStatus(const absl::Status& status, absl::string_view request_id);

// What a call that ended with `status` failed of, on an engine of that health: calls that a fault
// of the device broke are kUnavailable, not kInternal, for they may be made again elsewhere.
absl::Status WithHealth(const absl::Status& status, const absl::Status& health);

// ErrorInfo's reason, as in "AT_CAPACITY"; "" for OK.
absl::string_view ReasonOf(absl::StatusCode code);

// The same, finer where the message names what it is about: SNAPSHOT_NOT_FOUND of `snapshot_id`,
// QUOTA_EXCEEDED of `tenant`.
absl::string_view ReasonOf(const absl::Status& status);

// The path of the field that `message` begins with; empty if there is none.
absl::string_view FieldOf(absl::string_view message);

}  // namespace rasq
