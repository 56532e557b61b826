// What every call of every method shares: the parts of the server that it uses, who makes it and
// whether it may, and its record in metrics, log and the count of live calls.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/engine_group.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/status.h"
#include "server/auth.h"
#include "server/convert.h"
#include "server/live_calls.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/tracing.h"
#include "server/worker_pool.h"

namespace rasq {

// All borrowed; they outlive every call.
struct Backend {
  EngineGroup& engine;
  Metrics& metrics;
  const Log& log;
  WorkerPool& workers;
  LiveCalls& calls;
  const Authenticator& auth;
  const ContentLimits limits;
};

struct Method {
  // Implicit: most methods are their name.
  Method(const char* method, Scope needed = Scope::kInference) : name(method), scope(needed) {}

  absl::string_view name;
  Scope scope;
};

// One call's record. Not thread-safe: its reactor's mutex guards it.
class CallRecord {
 public:
  // Sends the request id to the client, with what the call answers first.
  CallRecord(const Backend& backend, const Method& method, grpc::CallbackServerContext& context);
  CallRecord(const CallRecord&) = delete;
  CallRecord& operator=(const CallRecord&) = delete;

  // Why the call does nothing but end: kUnavailable if the server is stopping, kUnauthenticated,
  // kPermissionDenied, kResourceExhausted if there are too many. To be asked before the request is
  // looked at: strangers must cost little.
  const absl::Status& admission() const { return admission_; }
  // Whether the token would still do: a stream may live for days, and tokens expire or are taken
  // away. kUnauthenticated or kPermissionDenied if not.
  absl::Status CheckToken() const;
  // Whose sessions the call sees; set if admission() is OK.
  const std::string& tenant() const { return tenant_; }
  void set_session_id(absl::string_view id) { session_id_ = std::string(id); }
  void set_tokens_in(int64_t tokens) { tokens_in_ = tokens; }
  void set_tokens_out(int64_t tokens) { tokens_out_ = tokens; }

  // kDeadlineExceeded or kCancelled: why a call that gRPC reports as cancelled was given up.
  absl::Status WhyCancelled() const;
  // Records how the call ends, once, and converts it. Before the client can know.
  grpc::Status End(const absl::Status& status);
  // Of the last reaction, OnDone: writes the log's line and leaves the live calls.
  void Done();

 private:
  absl::Status Admit();

  const Backend& backend_;
  const Method method_;
  const absl::Time start_ = absl::Now();
  const absl::Time deadline_;
  const std::string request_id_;
  const std::optional<TraceParent> trace_;
  const std::string authorization_;  // secret
  std::string tenant_;
  const absl::Status admission_;
  std::string session_id_;
  int64_t tokens_in_ = -1;
  int64_t tokens_out_ = -1;
  absl::Status status_;
  absl::Duration duration_;
};

}  // namespace rasq
