// What every call of every method shares: the parts of the server that it uses, and its record in
// metrics, log and the count of live calls.
#pragma once

#include <chrono>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/engine_group.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/status.h"
#include "server/live_calls.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/worker_pool.h"

namespace rasq {

// All borrowed; they outlive every call.
struct Backend {
  EngineGroup& engine;
  Metrics& metrics;
  const Log& log;
  WorkerPool& workers;
  LiveCalls& calls;
};

// One call's record. Not thread-safe: its reactor's mutex guards it.
class CallRecord {
 public:
  CallRecord(const Backend& backend, absl::string_view method,
             const grpc::CallbackServerContext& context);
  CallRecord(const CallRecord&) = delete;
  CallRecord& operator=(const CallRecord&) = delete;

  // kUnavailable if the server is stopping: the call does nothing but end with it.
  const absl::Status& admission() const { return admission_; }
  void set_session_id(absl::string_view id) { session_id_ = std::string(id); }

  // kDeadlineExceeded or kCancelled: why a call that gRPC reports as cancelled was given up.
  absl::Status WhyCancelled() const;
  // Records how the call ends, once, and converts it. Before the client can know.
  grpc::Status End(const absl::Status& status);
  // Of the last reaction, OnDone: writes the log's line and leaves the live calls.
  void Done();

 private:
  const Backend& backend_;
  const absl::string_view method_;
  const absl::Time start_ = absl::Now();
  const absl::Time deadline_;
  absl::Status admission_;
  std::string session_id_;
  absl::Status status_;
  absl::Duration duration_;
};

}  // namespace rasq
