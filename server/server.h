// The server as one object: engine, services, health, reflection and the metrics page, from start
// to drained stop. Many may live in one process, as in tests.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/types.h"
#include "server/log.h"

namespace rasq {

class EngineGroup;

struct ServerOptions {
  EngineOptions engine;
  std::string listen = "127.0.0.1:50051";          // see address.h
  std::string metrics_listen = "127.0.0.1:9464";   // empty: no metrics page
  bool insecure = false;                           // may listen beyond loopback, without TLS
  bool reflection = false;                         // serve grpc.reflection
  int32_t max_message_bytes = 32 << 20;            // of a request
  absl::Duration drain_grace = absl::Seconds(10);  // for calls in flight when it stops
  LogFormat log_format = LogFormat::kText;
  std::FILE* log_stream = stderr;  // borrowed
};

// kInvalidArgument names the option: an address that does not parse, or is not loopback without
// `insecure`.
absl::Status Validate(const ServerOptions& options);

class Server {
 public:
  // Loads the model and serves. Besides the engine's errors: kUnavailable if a port is taken.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options);
  // Stops without grace, if it was not stopped.
  ~Server();

  const std::string& address() const;          // where it listens, with the port it has
  const std::string& metrics_address() const;  // empty: no metrics page
  const EngineGroup& engine() const;
  const Log& log() const;
  // OK, or the device's fault after which nothing works: stop, and start anew.
  absl::Status Health() const;

  // Health says NOT_SERVING, new calls are refused, append streams are told and end; what is still
  // running after the options' grace is cancelled. Returns when all has ended. At most once.
  void Stop();

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace rasq
