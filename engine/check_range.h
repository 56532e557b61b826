// How a request's or an option's field that is out of its range is reported.
#pragma once

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

}  // namespace rasq
