// Under which settings an evaluation is made: options of sessions, and flags of a server that is
// started for them. Each setting has a label, by which results and tables know it.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "rasq/v1/session.pb.h"

namespace rasq::client {

struct Setting {
  std::string label;            // empty: the defaults
  std::string session_options;  // v1::SessionOptions as JSON; empty: the server's defaults
  std::string server_flag;      // "NAME=VALUE"; empty: none
};

// The defaults, unless `skip_defaults`; then each of `session_options`, "LABEL=JSON"; then each
// value of `sweeps`, "NAME=VALUE,VALUE": of a field of v1::SessionOptions that has this name, else
// of a flag of the server; one setting moves, the others stand at their defaults. A usage error
// names what is wrong.
absl::StatusOr<std::vector<Setting>> MakeSettings(const std::vector<std::string>& session_options,
                                                  const std::vector<std::string>& sweeps,
                                                  bool skip_defaults);

// Options of a session, but for its strategy. kInvalidArgument names what JSON or fields have
// wrong.
absl::StatusOr<v1::SessionOptions> ParseSessionOptions(const std::string& json);

// The swept number of a label "NAME=VALUE", and its name; false if it is none.
bool ParseSweep(absl::string_view label, std::string* name, double* value);

}  // namespace rasq::client
