// Files of one JSON object a line.
#pragma once

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/json_reader.h"

namespace rasq::train {

// Calls `read` for each line that is not empty; `where` is "path:line". Ends at the first error.
absl::Status ForEachJsonLine(
    const std::string& path,
    absl::FunctionRef<absl::Status(const Json& line, const std::string& where)> read);

// The field's elements. kInvalidArgument if it is not there, or no array.
absl::StatusOr<const Json*> FindArray(const Json& object, const char* name,
                                      absl::string_view where);

}  // namespace rasq::train
