// A server that an evaluation starts for itself, on this machine.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace rasq::client {

class ServerProcess {
 public:
  // Runs `program` with flags "NAME=VALUE" on a free port of this machine, without a metrics page,
  // and waits until it listens. What it logs goes to the file `log`, anew. kNotFound if there is no
  // such program; kUnavailable if it ends instead: the message has the last line of its log.
  static absl::StatusOr<ServerProcess> Start(const std::string& program,
                                             const std::vector<std::string>& flags,
                                             const std::string& log);
  ServerProcess(ServerProcess&& other) noexcept;
  // Asks it to stop, and waits until it has.
  ~ServerProcess();

  const std::string& address() const { return address_; }

 private:
  ServerProcess() = default;
  // What it says on standard output up to the line with its address; empty if it ends.
  std::string ReadAddress() const;

  pid_t pid_ = -1;
  int output_ = -1;
  std::string address_;
};

}  // namespace rasq::client
