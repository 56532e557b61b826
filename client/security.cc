#include "client/security.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace rasq::client {
namespace {

std::string Text(const char* variable) {
  const char* value = std::getenv(variable);
  return value == nullptr ? "" : value;
}

bool Truth(const char* variable) {
  bool value = false;
  return absl::SimpleAtob(Text(variable), &value) && value;
}

absl::StatusOr<std::string> ReadFile(absl::string_view flag, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file || text.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(flag, "=", path, ": empty or not readable"));
  }
  return text;
}

}  // namespace

Security::Security()
    : tls(Truth("RASQ_TLS")),
      ca(Text("RASQ_TLS_CA")),
      cert(Text("RASQ_TLS_CERT")),
      key(Text("RASQ_TLS_KEY")),
      token(Text("RASQ_TOKEN")),
      token_file(Text("RASQ_TOKEN_FILE")),
      insecure(Truth("RASQ_INSECURE")) {}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeCredentials(
    const Security& security) {
  if (!security.wants_tls()) return grpc::InsecureChannelCredentials();
  if (security.cert.empty() != security.key.empty()) {
    return absl::InvalidArgumentError("tls-cert, tls-key: one needs the other");
  }
  grpc::SslCredentialsOptions options;
  const auto read = [](absl::string_view flag, const std::string& path, std::string* pem) {
    if (path.empty()) return absl::OkStatus();
    absl::StatusOr<std::string> text = ReadFile(flag, path);
    if (text.ok()) *pem = *std::move(text);
    return text.status();
  };
  absl::Status status = read("tls-ca", security.ca, &options.pem_root_certs);
  status.Update(read("tls-cert", security.cert, &options.pem_cert_chain));
  status.Update(read("tls-key", security.key, &options.pem_private_key));
  if (!status.ok()) return status;
  return grpc::SslCredentials(options);
}

absl::StatusOr<std::string> TokenFor(const Security& security, absl::string_view address) {
  std::string token = security.token;
  if (!security.token_file.empty()) {
    const absl::StatusOr<std::string> text = ReadFile("token-file", security.token_file);
    if (!text.ok()) return text.status();
    token = std::string(absl::StripAsciiWhitespace(text->substr(0, text->find('\n'))));
  }
  // gRPC ends the process on metadata with other bytes.
  if (!std::all_of(token.begin(), token.end(), absl::ascii_isgraph)) {
    return absl::InvalidArgumentError("token: must be visible ASCII characters");
  }
  if (!token.empty() && !security.wants_tls() && !security.insecure && !IsLocal(address)) {
    return absl::FailedPreconditionError(
        absl::StrCat("address=", address,
                     ": without TLS the token would pass the network in the clear; --tls, "
                     "or --insecure to allow it"));
  }
  return token;
}

bool IsLocal(absl::string_view address) {
  if (absl::StartsWith(address, "unix:")) return true;
  for (const absl::string_view scheme : {"dns:///", "dns:", "ipv4:", "ipv6:"}) {
    if (absl::ConsumePrefix(&address, scheme)) break;
  }
  // Of several, as in ipv4:ADDRESS,ADDRESS, the first does not speak for the others.
  if (absl::StrContains(address, ',')) return false;
  if (absl::StartsWith(address, "[")) return absl::StartsWith(address, "[::1]");
  const absl::string_view host = address.substr(0, address.find(':'));
  // A name may begin with 127. too: only digits and dots are an address.
  return host == "localhost" ||
         (absl::StartsWith(host, "127.") && host.find_first_not_of("0123456789.") == host.npos);
}

}  // namespace rasq::client
