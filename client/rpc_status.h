// gRPC's status on the wire as absl::Status, the details kept: each google.rpc detail (RetryInfo,
// ErrorInfo, BadRequest) becomes a payload under its type URL.
#pragma once

#include <grpcpp/support/status.h>

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace rasq::client {

absl::Status FromGrpc(const grpc::Status& status);

// How long the server asks to wait before a retry (google.rpc.RetryInfo), if it said.
std::optional<absl::Duration> RetryDelay(const absl::Status& status);

// What the server's log calls the call (google.rpc.ErrorInfo); empty if it did not say.
std::string RequestId(const absl::Status& status);

}  // namespace rasq::client
