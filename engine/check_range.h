// How a request's or an option's field that is out of its range is reported.
#pragma once

#include <algorithm>
#include <cctype>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace rasq {

// kInvalidArgument "field=value: must be from least to most" unless it is; also for a NaN.
template <typename T>
absl::Status CheckRange(absl::string_view field, T value, T least, T most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, "=", value, ": must be from ", least, " to ", most));
}

// kInvalidArgument unless `name` may name a session, a snapshot or a tenant.
inline absl::Status CheckName(absl::string_view field, const std::string& name) {
  const auto allowed = [](unsigned char c) {
    return std::isalnum(c) || c == '.' || c == '_' || c == '-';
  };
  if (!name.empty() && name.size() <= 128 && std::all_of(name.begin(), name.end(), allowed)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(field, "=\"", name, "\": must be 1 to 128 of A-Z, a-z, 0-9, '.', '_', '-'"));
}

}  // namespace rasq
