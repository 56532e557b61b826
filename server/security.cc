#include "server/security.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kernels/base/status.h"
#include "server/address.h"

namespace rasq {
namespace {

absl::StatusOr<Address> ParsedAddress(absl::string_view flag, const std::string& text) {
  absl::StatusOr<Address> address = ParseAddress(text);
  if (!address.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(flag, ": ", address.status().message()));
  }
  return address;
}

absl::Status Exposed(absl::string_view flag, const std::string& text, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(flag, "=", text, ": not a loopback address, and ",
                                                 why, "; --insecure allows it"));
}

}  // namespace

absl::Status CheckAddresses(const ServerOptions& options) {
  RASQ_ASSIGN_OR_RETURN(const Address listen, ParsedAddress("listen", options.listen));
  if (!listen.is_loopback() && !options.tls.enabled() && !options.insecure) {
    return Exposed("listen", options.listen, "there is no TLS (--tls-cert, --tls-key)");
  }
  if (options.metrics_listen.empty()) return absl::OkStatus();
  RASQ_ASSIGN_OR_RETURN(const Address metrics,
                        ParsedAddress("metrics-listen", options.metrics_listen));
  if (!metrics.is_loopback() && !options.insecure) {
    return Exposed("metrics-listen", options.metrics_listen,
                   "the metrics page is plain HTTP for whoever asks");
  }
  return absl::OkStatus();
}

absl::StatusOr<Secrets> ReadSecrets(const ServerOptions& options) {
  Secrets secrets;
  if (!options.auth_file.empty()) {
    RASQ_ASSIGN_OR_RETURN(AuthTable table, ReadAuthFile(options.auth_file));
    secrets.auth = std::make_shared<const AuthTable>(std::move(table));
  }
  if (options.tls.enabled()) {
    RASQ_ASSIGN_OR_RETURN(secrets.tls, ReadTlsFiles(options.tls, absl::Now()));
  }
  return secrets;
}

std::vector<std::string> SecurityWarnings(const ServerOptions& options) {
  std::vector<std::string> warnings;
  for (const auto& [option, path] :
       {std::pair("auth-file", options.auth_file), std::pair("tls-key", options.tls.key)}) {
    if (ReadableByOthers(path)) {
      warnings.push_back(
          absl::StrCat("warning: ", option, ": every user of this machine may read it"));
    }
  }
  const absl::StatusOr<Address> listen = ParseAddress(options.listen);
  if (listen.ok() && !listen->is_loopback() && options.auth_file.empty() &&
      options.tls.client_ca.empty()) {
    warnings.push_back(
        "warning: listen: without auth-file or tls-client-ca, whoever reaches the port may do "
        "everything");
  }
  return warnings;
}

absl::Status Validate(const ServerOptions& options) {
  RASQ_RETURN_IF_ERROR(CheckAddresses(options));
  return ReadSecrets(options).status();
}

}  // namespace rasq
