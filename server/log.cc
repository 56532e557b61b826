#include "server/log.h"

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

}  // namespace

std::string FormatCall(LogFormat format, absl::Time time, const CallEvent& event) {
  const std::string code = absl::StatusCodeToString(event.status.code());
  const std::string seconds = absl::StrFormat("%.6f", absl::ToDoubleSeconds(event.duration));
  std::string line;
  if (format == LogFormat::kJson) {
    line = absl::StrCat("{\"time\":\"", Timestamp(time),
                        "\",\"event\":\"call\",\"method\":", JsonString(event.method));
    if (!event.session_id.empty()) {
      absl::StrAppend(&line, ",\"session\":", JsonString(event.session_id));
    }
    absl::StrAppend(&line, ",\"code\":\"", code, "\",\"seconds\":", seconds);
    if (!event.status.ok()) {
      absl::StrAppend(&line, ",\"message\":", JsonString(event.status.message()));
    }
    return line + "}\n";
  }
  line = absl::StrCat(Timestamp(time), " call method=", event.method);
  if (!event.session_id.empty()) {
    absl::StrAppend(&line, " session=", absl::Utf8SafeCEscape(event.session_id));
  }
  absl::StrAppend(&line, " code=", code, " seconds=", seconds);
  if (!event.status.ok()) {
    absl::StrAppend(&line, " message=\"", absl::Utf8SafeCEscape(event.status.message()), "\"");
  }
  return line + "\n";
}

std::string FormatMessage(LogFormat format, absl::Time time, absl::string_view text) {
  if (format == LogFormat::kJson) {
    return absl::StrCat("{\"time\":\"", Timestamp(time),
                        "\",\"event\":\"message\",\"message\":", JsonString(text), "}\n");
  }
  return absl::StrCat(Timestamp(time), " ", text, "\n");
}

void Log::Call(const CallEvent& event) const {
  Write(stream_, FormatCall(format_, absl::Now(), event));
}

void Log::Message(absl::string_view text) const {
  Write(stream_, FormatMessage(format_, absl::Now(), text));
}

}  // namespace rasq
