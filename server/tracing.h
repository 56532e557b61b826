// What calls are known by: a request id, which log, errors and answers carry, and the trace that a
// client says its call is part of.
#pragma once

#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace rasq {

// The client's own, if it is 1 to 64 of [A-Za-z0-9._-]; else a new one of 32 random hex digits.
std::string RequestId(absl::string_view from_client);

struct TraceParent {
  std::string trace_id;   // 32 hex digits
  std::string parent_id;  // 16: the span that made the call
};

// The metadata `traceparent` (W3C Trace Context, level 1); nothing if it is malformed, as the
// standard wants it ignored.
std::optional<TraceParent> ParseTraceParent(absl::string_view text);

}  // namespace rasq
