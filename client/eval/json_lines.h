// Files of JSON lines: an object a line, empty lines between them or not.
#pragma once

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "client/commands/json.h"

namespace rasq::client {

// Calls `read` with each line's object and its place, "PATH:LINE". Ends with the first error of
// `read`, or of a line that is no object.
absl::Status ForEachJsonLine(
    absl::string_view text, absl::string_view path,
    absl::FunctionRef<absl::Status(const Json& json, const std::string& where)> read);

}  // namespace rasq::client
