// What stands between the server and a network: the addresses that it may listen on, and the files
// that say who may call.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/auth.h"
#include "server/server.h"
#include "server/tls.h"

namespace rasq {

// kInvalidArgument names an option whose address does not parse, or is not loopback without TLS or
// `insecure`.
absl::Status CheckAddresses(const ServerOptions& options);

// What the server reads at its start and again on Reload.
struct Secrets {
  std::shared_ptr<const AuthTable> auth;  // null: no tokens are asked for
  TlsCertificates tls;                    // empty: no TLS
};
absl::StatusOr<Secrets> ReadSecrets(const ServerOptions& options);

// What is allowed, and seldom meant.
std::vector<std::string> SecurityWarnings(const ServerOptions& options);

}  // namespace rasq
