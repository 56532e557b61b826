#include "engine/json_reader.h"

#include <sys/stat.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

namespace rasq {

absl::StatusOr<std::string> ReadTextFile(const std::string& path, int64_t max_bytes) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return absl::NotFoundError(absl::StrCat(path, ": not found"));
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  }
  if (info.st_size > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": bytes=", info.st_size, " is more than ", max_bytes));
  }
  std::ifstream in(path, std::ios::binary);
  std::string bytes(static_cast<size_t>(info.st_size), '\0');
  if (!in.read(bytes.data(), info.st_size)) {
    return absl::UnavailableError(absl::StrCat(path, ": cannot be read"));
  }
  return bytes;
}

std::string ShowJson(const Json& value) {
  if (value.is_structured()) return absl::StrCat("(", value.type_name(), ")");
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  if (text.size() > 80) text = absl::StrCat(text.substr(0, 80), "...");
  return text;
}

absl::StatusOr<Json> ParseJson(absl::string_view text, absl::string_view where) {
  constexpr int kMaxJsonDepth = 64;
  int nesting = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++nesting > kMaxJsonDepth) {
        return absl::InvalidArgumentError(
            absl::StrCat(where, ": JSON nests deeper than ", kMaxJsonDepth));
      }
    } else if (c == ']' || c == '}') {
      --nesting;
    }
  }
  std::vector<absl::flat_hash_set<std::string>> keys(kMaxJsonDepth + 2);
  std::optional<std::string> duplicate;
  const auto watch_keys = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) keys[depth + 1].clear();
    if (event == Json::parse_event_t::key &&
        !keys[depth].insert(parsed.get_ref<const std::string&>()).second && !duplicate) {
      duplicate = ShowJson(parsed);
    }
    return true;
  };
  try {
    Json json = Json::parse(text.begin(), text.end(), watch_keys);
    if (duplicate) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": key=", *duplicate, " stands twice"));
    }
    return json;
  } catch (const Json::exception& e) {
    const auto* syntax = dynamic_cast<const Json::parse_error*>(&e);
    return absl::InvalidArgumentError(absl::StrCat(
        where, ": not JSON", syntax ? absl::StrCat(" at byte=", syntax->byte) : std::string()));
  }
}

FieldReader::FieldReader(const Json& object, absl::string_view where)
    : object_(object), where_(where) {
  if (!object.is_object()) Fail(absl::InvalidArgumentError(absl::StrCat(where, ": not an object")));
}

const Json* FieldReader::Find(const char* name) const {
  if (!object_.is_object()) return nullptr;
  const auto it = object_.find(name);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

int64_t FieldReader::Int(const char* name, int64_t min, int64_t max,
                         std::optional<int64_t> fallback) {
  const Json* value = Require(name, fallback.has_value());
  if (value == nullptr) return fallback.value_or(min);
  const std::optional<int64_t> number = AsInt(*value);
  if (number && *number >= min && *number <= max) return *number;
  Bad(name, *value, absl::StrCat("an integer in [", min, ", ", max, "]"));
  return min;
}

double FieldReader::Number(const char* name, double min, double max,
                           std::optional<double> fallback) {
  const Json* value = Require(name, fallback.has_value());
  if (value == nullptr) return fallback.value_or(min);
  const double number = value->is_number() ? value->get<double>() : std::nan("");
  if (number >= min && number <= max) return number;
  Bad(name, *value, absl::StrCat("a number in [", min, ", ", max, "]"));
  return min;
}

bool FieldReader::Bool(const char* name, bool fallback) {
  const Json* value = Find(name);
  if (value == nullptr) return fallback;
  if (value->is_boolean()) return value->get<bool>();
  Bad(name, *value, "true or false");
  return fallback;
}

std::string FieldReader::String(const char* name, const std::optional<std::string>& fallback) {
  const Json* value = Require(name, fallback.has_value());
  if (value == nullptr) return fallback.value_or("");
  if (value->is_string()) return value->get<std::string>();
  Bad(name, *value, "a string");
  return fallback.value_or("");
}

void FieldReader::Bad(const char* name, const Json& value, absl::string_view expected) {
  Fail(absl::InvalidArgumentError(
      absl::StrCat(where_, ": ", name, "=", ShowJson(value), " is not ", expected)));
}

void FieldReader::Unsupported(const char* name, const Json& value, absl::string_view why) {
  Fail(absl::UnimplementedError(absl::StrCat(where_, ": ", name, "=", ShowJson(value), ": ", why)));
}

void FieldReader::Fail(const absl::Status& status) {
  if (status_.ok()) status_ = status;
}

std::optional<int64_t> FieldReader::AsInt(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  return std::nullopt;
}

const Json* FieldReader::Require(const char* name, bool optional) {
  const Json* value = Find(name);
  if (value == nullptr && !optional) {
    Fail(absl::InvalidArgumentError(absl::StrCat(where_, ": ", name, " is missing")));
  }
  return value;
}

}  // namespace rasq
