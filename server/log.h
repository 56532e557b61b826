// The server's log: one line an event to stderr, as text or as JSON, written whole. Text is
// `TIME call method=Append session=news code=OK seconds=0.012`; JSON has the same names. Clients'
// addresses and content are never logged.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace rasq {

enum class LogFormat : int8_t { kText, kJson };

struct CallEvent {
  absl::string_view method;
  absl::string_view session_id;  // empty: none
  absl::Status status;
  absl::Duration duration;
};

// Any thread may call any method.
class Log {
 public:
  // `stream` is borrowed.
  explicit Log(LogFormat format, std::FILE* stream = stderr) : format_(format), stream_(stream) {}

  void Call(const CallEvent& event) const;
  void Message(absl::string_view text) const;

 private:
  const LogFormat format_;
  std::FILE* const stream_;
};

// One line, with its end; exposed for tests.
std::string FormatCall(LogFormat format, absl::Time time, const CallEvent& event);
std::string FormatMessage(LogFormat format, absl::Time time, absl::string_view text);

}  // namespace rasq
