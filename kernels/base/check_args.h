// How the operations report an argument that breaks its bound: kInvalidArgument "Op: field=value".
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace rasq {

inline absl::Status BadArgument(absl::string_view op, absl::string_view field, double value) {
  return absl::InvalidArgumentError(absl::StrCat(op, ": ", field, "=", value));
}

// kInvalidArgument unless low <= value <= high.
inline absl::Status CheckRange(absl::string_view op, absl::string_view field, int64_t value,
                               int64_t low, int64_t high = INT64_MAX) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(op, ": ", field, "=", value));
}

inline absl::Status CheckNotNull(absl::string_view op, absl::string_view field,
                                 const void* pointer) {
  if (pointer != nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(op, ": ", field, "=null"));
}

}  // namespace rasq
