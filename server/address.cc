#include "server/address.h"

#include <arpa/inet.h>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace rasq {
namespace {

bool IsNumeric(int family, const std::string& host) {
  unsigned char parsed[sizeof(in6_addr)];
  return inet_pton(family, host.c_str(), parsed) == 1;
}

}  // namespace

bool Address::is_loopback() const { return host == "::1" || absl::StartsWith(host, "127."); }

std::string Address::ToString() const {
  return absl::StrContains(host, ':') ? absl::StrCat("[", host, "]:", port)
                                      : absl::StrCat(host, ":", port);
}

absl::StatusOr<Address> ParseAddress(absl::string_view text) {
  const size_t colon = text.rfind(':');
  uint32_t port = 0;
  if (colon == absl::string_view::npos || !absl::SimpleAtoi(text.substr(colon + 1), &port) ||
      port > UINT16_MAX) {
    return absl::InvalidArgumentError(
        absl::StrCat("address=", text, ": must be HOST:PORT, with a port from 0 to 65535"));
  }
  absl::string_view host = text.substr(0, colon);
  const bool bracketed = absl::StartsWith(host, "[") && absl::EndsWith(host, "]");
  if (bracketed) host = host.substr(1, host.size() - 2);
  Address address{.host = host == "localhost" ? "127.0.0.1" : std::string(host),
                  .port = static_cast<uint16_t>(port)};
  if (!IsNumeric(bracketed ? AF_INET6 : AF_INET, address.host)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "address=", text, ": HOST must be an IPv4 address, an [IPv6] address or localhost"));
  }
  return address;
}

}  // namespace rasq
