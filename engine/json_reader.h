// Reads JSON that is not trusted: size, nesting, duplicate keys, types and ranges are all checked,
// and faults come back as a status that names the file and the field. No exception leaves these
// functions.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace rasq {

using Json = nlohmann::json;

// The bytes of a regular file of at most `max_bytes`. kNotFound if there is none.
absl::StatusOr<std::string> ReadTextFile(const std::string& path,
                                         int64_t max_bytes = int64_t{1} << 28);

// kInvalidArgument if `text` is not one JSON value, nests too deep, or gives an object's key twice.
absl::StatusOr<Json> ParseJson(absl::string_view text, absl::string_view where);

// A value as an error shows it: short, and whole arrays and objects only by their kind.
std::string ShowJson(const Json& value);

// The fields of one JSON object. A field that is null counts as absent. The first fault is kept and
// a read that fails gives some value in range, so a parser can read all fields and ask once.
class FieldReader {
 public:
  // `object` is borrowed; `where` begins every error.
  FieldReader(const Json& object, absl::string_view where);

  const absl::Status& status() const { return status_; }

  // Null if the field is absent.
  const Json* Find(const char* name) const;
  bool Has(const char* name) const { return Find(name) != nullptr; }

  // Without a `fallback` the field must be there. REQUIRES: min <= max.
  int64_t Int(const char* name, int64_t min, int64_t max, std::optional<int64_t> fallback = {});
  double Number(const char* name, double min, double max, std::optional<double> fallback = {});
  bool Bool(const char* name, bool fallback);
  std::string String(const char* name, const std::optional<std::string>& fallback = {});

  // Record a fault: kInvalidArgument, kUnimplemented, or any status.
  void Bad(const char* name, const Json& value, absl::string_view expected);
  void Unsupported(const char* name, const Json& value, absl::string_view why);
  void Fail(const absl::Status& status);

  // Nothing if `value` is no integer or does not fit.
  static std::optional<int64_t> AsInt(const Json& value);

 private:
  const Json* Require(const char* name, bool optional);

  const Json& object_;
  const std::string where_;
  absl::Status status_;
};

}  // namespace rasq
