// How a client reaches a server that asks for TLS and tokens.
#pragma once

#include <grpcpp/security/credentials.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace rasq::client {

// Each begins as the environment has it: RASQ_TLS, RASQ_TLS_CA, RASQ_TLS_CERT, RASQ_TLS_KEY,
// RASQ_TOKEN, RASQ_TOKEN_FILE, RASQ_INSECURE.
struct Security {
  Security();

  bool tls = false;        // also if one of the next three is set
  std::string ca;          // PEM file of who may have signed the server's certificate; empty: the
                           // system's
  std::string cert;        // PEM file of the client's own, for servers that ask for one
  std::string key;         // and its key
  std::string token;       // secret: never shown
  std::string token_file;  // with the token in its first line; in place of `token`
  bool insecure = false;   // the token may go over a network without TLS

  bool wants_tls() const { return tls || !ca.empty() || !cert.empty() || !key.empty(); }
};

// kInvalidArgument names the file that cannot be read.
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeCredentials(const Security& security);

// The token to send to `address`; empty: none. kFailedPrecondition if it would pass a network in
// the clear.
absl::StatusOr<std::string> TokenFor(const Security& security, absl::string_view address);

// Whether a gRPC address is this machine's own: localhost, 127.x, ::1 or a Unix socket.
bool IsLocal(absl::string_view address);

}  // namespace rasq::client
