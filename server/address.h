// Where the server listens: HOST:PORT, with an IPv4 address, an [IPv6] address or `localhost`.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace rasq {

struct Address {
  std::string host;  // numeric; without brackets
  uint16_t port = 0;

  bool is_loopback() const;
  std::string ToString() const;  // "127.0.0.1:50051", "[::1]:50051"
};

// `localhost` becomes 127.0.0.1: other names may resolve to a public address, and are refused.
// Port 0 lets the system choose. Errors begin with `address`.
absl::StatusOr<Address> ParseAddress(absl::string_view text);

}  // namespace rasq
