// Files that an evaluation reads.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace rasq::client {

// The whole of a text file. kInvalidArgument if it is compressed or not UTF-8, and whatever the
// system says if it cannot be read; errors name the file.
absl::StatusOr<std::string> ReadTextFile(const std::string& path);

}  // namespace rasq::client
