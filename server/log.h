// The server's log: one line an event to stderr, as text or as JSON, written whole. Text is
// `TIME call method=Append request=ID tenant=news session=wire code=OK seconds=0.012`; JSON has the
// same names. Clients' addresses, tokens and content are never logged.
//
// A client that is refused again and again must not fill the disk: lines of calls that failed have
// a limit a second, as have other complaints; faults of the server's own, which may last for days,
// have one of ten a minute. What was left out is counted in a line of its own.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "kernels/base/mutex.h"

namespace rasq {

enum class LogFormat : int8_t { kText, kJson };

// What is empty or negative is left out of the line.
struct LogEvent {
  absl::string_view name = "call";
  absl::string_view method;
  absl::string_view request_id;
  absl::string_view tenant;
  absl::string_view session_id;
  absl::Status status;
  absl::Duration duration = -absl::InfiniteDuration();
  int64_t tokens_in = -1;   // appended, or of the prompt
  int64_t tokens_out = -1;  // generated
  absl::string_view trace_id;
  absl::string_view parent_id;
};

// Lets so many events of a period through, and counts the others. Not thread-safe.
class LineLimit {
 public:
  // 0 lines: no limit.
  LineLimit(int32_t lines, absl::Duration period) : most_(lines), period_(period) {}

  bool Admit(absl::Time now);
  // How many were not admitted since the last time, once their period is over; else 0.
  int64_t TakeLeftOut(absl::Time now);

 private:
  const int32_t most_;
  const absl::Duration period_;
  absl::Time begin_ = absl::InfinitePast();  // of the current period
  int32_t lines_ = 0;                        // admitted in it
  int64_t left_out_ = 0;
};

// Any thread may call any method.
class Log {
 public:
  // `stream` is borrowed. `max_failures_per_second` is of lines of failed calls; 0: no limit.
  explicit Log(LogFormat format, std::FILE* stream = stderr, int32_t max_failures_per_second = 0)
      : format_(format),
        stream_(stream),
        failures_(max_failures_per_second, absl::Seconds(1)),
        faults_(kFaultsPerMinute, absl::Minutes(1)) {}
  // Says what was left out last.
  ~Log();

  void Call(const LogEvent& event) const;
  // What goes wrong in the server itself, and may go on doing so.
  void Fault(const LogEvent& event) const;
  void Message(absl::string_view text) const;
  // What clients may provoke as often as they like, such as failed handshakes: counts as the line
  // of a call that failed.
  void Complaint(absl::string_view text) const;

 private:
  static constexpr int32_t kFaultsPerMinute = 10;
  enum class Kind : int8_t { kGood, kFailure, kFault };

  // Whether a line may be written now; says what was left out before it.
  bool Admit(absl::Time now, Kind kind) const;

  const LogFormat format_;
  std::FILE* const stream_;
  mutable Mutex mu_;
  mutable LineLimit failures_ ABSL_GUARDED_BY(mu_);
  mutable LineLimit faults_ ABSL_GUARDED_BY(mu_);
};

// One line, with its end; exposed for tests.
std::string FormatEvent(LogFormat format, absl::Time time, const LogEvent& event);
std::string FormatMessage(LogFormat format, absl::Time time, absl::string_view text);

}  // namespace rasq
