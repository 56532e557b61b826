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
#include "server/convert.h"
#include "server/log.h"
#include "server/tls.h"

namespace rasq {

class EngineGroup;

struct ServerOptions {
  EngineOptions engine;
  std::string listen = "127.0.0.1:50051";         // see address.h
  std::string metrics_listen = "127.0.0.1:9464";  // empty: no metrics page
  bool insecure = false;                          // may listen beyond loopback without TLS
  bool reflection = false;                        // serve grpc.reflection, to whoever asks
  TlsFiles tls;
  absl::Duration tls_interval = TlsReloader::kInterval;  // between looks at the files
  std::string auth_file;  // see auth.h; empty: no tokens are asked for

  int32_t max_message_bytes = 32 << 20;  // of a request
  int32_t max_metadata_bytes = 16 << 10;
  int32_t max_connection_streams = 1024;  // calls at once on one connection
  int32_t max_calls = 16384;              // at once, on all; 0: no limit
  ContentLimits content;
  absl::Duration connection_idle = absl::Hours(1);  // without a call; 0: for ever
  absl::Duration connection_age;  // then the client makes a new one for new calls; 0: for ever

  absl::Duration drain_grace = absl::Seconds(10);  // for calls in flight when it stops
  LogFormat log_format = LogFormat::kText;
  int32_t log_failures_per_second = 100;  // lines of failed calls; 0: no limit
  std::FILE* log_stream = stderr;         // borrowed
};

// kInvalidArgument names the option: an address that does not parse, or is not loopback without
// TLS or `insecure`; files of TLS and tokens that are missing or bad.
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

  // Reads again what can change while it runs: tokens, quotas, certificates. If a file is bad, all
  // stays as it was: kInvalidArgument says why, without the file's path. The log tells either.
  absl::Status Reload();

  // An operator's call of AdminService.Drain has begun the end: Stop is to be called.
  bool draining() const;
  // Health says NOT_SERVING, new calls are refused, append streams are told and end; what is still
  // running after the grace is cancelled. Returns when all has ended. At most once.
  void Stop();
  // Ends the grace of a Stop that runs, or is to come.
  void EndGrace();

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace rasq
