#include "server/log.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace rasq {
namespace {

std::string Timestamp(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone());
}

// Text comes from clients in part: it must not be able to end the string or the line.
std::string JsonString(absl::string_view text) {
  std::string json = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      absl::StrAppend(&json, "\\", absl::string_view(&c, 1));
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      absl::StrAppendFormat(&json, "\\u%04x", static_cast<unsigned char>(c));
    } else {
      json.push_back(c);
    }
  }
  json.push_back('"');
  return json;
}

void Write(std::FILE* stream, const std::string& line) {
  std::fwrite(line.data(), 1, line.size(), stream);
  std::fflush(stream);
}

std::string LeftOut(int64_t lines) {
  return absl::StrCat("left out ", lines, " lines of failures: too many at once");
}

}  // namespace

std::string FormatEvent(LogFormat format, absl::Time time, const LogEvent& event) {
  const bool json = format == LogFormat::kJson;
  std::string line =
      json ? absl::StrCat("{\"time\":\"", Timestamp(time), "\",\"event\":\"", event.name, "\"")
           : absl::StrCat(Timestamp(time), " ", event.name);
  // Values that need quotes in JSON; in text only the message may hold spaces.
  const auto text = [&](absl::string_view name, absl::string_view value) {
    if (value.empty()) return;
    if (json) {
      absl::StrAppend(&line, ",\"", name, "\":", JsonString(value));
    } else {
      absl::StrAppend(&line, " ", name, "=", absl::Utf8SafeCEscape(value));
    }
  };
  const auto number = [&](absl::string_view name, absl::string_view value) {
    absl::StrAppend(&line, json ? ",\"" : " ", name, json ? "\":" : "=", value);
  };
  text("method", event.method);
  text("request", event.request_id);
  text("tenant", event.tenant);
  text("session", event.session_id);
  text("code", absl::StatusCodeToString(event.status.code()));
  if (event.duration >= absl::ZeroDuration()) {
    number("seconds", absl::StrFormat("%.6f", absl::ToDoubleSeconds(event.duration)));
  }
  if (event.tokens_in >= 0) number("tokens_in", absl::StrCat(event.tokens_in));
  if (event.tokens_out >= 0) number("tokens_out", absl::StrCat(event.tokens_out));
  text("trace", event.trace_id);
  text("parent", event.parent_id);
  if (!event.status.ok()) {
    const absl::string_view message = event.status.message();
    number("message",
           json ? JsonString(message) : absl::StrCat("\"", absl::Utf8SafeCEscape(message), "\""));
  }
  return line + (json ? "}\n" : "\n");
}

std::string FormatMessage(LogFormat format, absl::Time time, absl::string_view text) {
  if (format == LogFormat::kJson) {
    return absl::StrCat("{\"time\":\"", Timestamp(time),
                        "\",\"event\":\"message\",\"message\":", JsonString(text), "}\n");
  }
  return absl::StrCat(Timestamp(time), " ", text, "\n");
}

bool LineLimit::Admit(absl::Time now) {
  if (most_ == 0) return true;
  if (now - begin_ >= period_ || now < begin_) {  // clocks are set back
    begin_ = now;
    lines_ = 0;
  }
  if (lines_ < most_) {
    ++lines_;
    return true;
  }
  ++left_out_;
  return false;
}

int64_t LineLimit::TakeLeftOut(absl::Time now) {
  if (now - begin_ < period_) return 0;
  return std::exchange(left_out_, 0);
}

Log::~Log() {
  MutexLock lock(mu_);
  const absl::Time end = absl::InfiniteFuture();
  const int64_t left_out = failures_.TakeLeftOut(end) + faults_.TakeLeftOut(end);
  if (left_out > 0) Message(LeftOut(left_out));
}

bool Log::Admit(absl::Time now, Kind kind) const {
  int64_t left_out = 0;
  bool admitted = true;
  {
    MutexLock lock(mu_);
    left_out = failures_.TakeLeftOut(now) + faults_.TakeLeftOut(now);
    if (kind != Kind::kGood) {
      admitted = (kind == Kind::kFailure ? failures_ : faults_).Admit(now);
    }
  }
  if (left_out > 0) Message(LeftOut(left_out));
  return admitted;
}

void Log::Call(const LogEvent& event) const {
  const absl::Time now = absl::Now();
  if (Admit(now, event.status.ok() ? Kind::kGood : Kind::kFailure)) {
    Write(stream_, FormatEvent(format_, now, event));
  }
}

void Log::Fault(const LogEvent& event) const {
  const absl::Time now = absl::Now();
  if (Admit(now, Kind::kFault)) Write(stream_, FormatEvent(format_, now, event));
}

void Log::Complaint(absl::string_view text) const {
  if (Admit(absl::Now(), Kind::kFailure)) Message(text);
}

void Log::Message(absl::string_view text) const {
  Write(stream_, FormatMessage(format_, absl::Now(), text));
}

}  // namespace rasq
