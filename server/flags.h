// What the operator says. Each setting has one name and four sources, the strongest first:
//   --max-sessions 32        the command line (also --max-sessions=32; --reflection alone is true)
//   RASQ_MAX_SESSIONS=32     the environment
//   max-sessions = 32        a line of the file that --config or RASQ_CONFIG names; # to the end of
//                            a line is a comment
//   the default, as --help shows it.
//
// An unknown name and a bad value are kInvalidArgument and say which source has them. Unknown
// RASQ_* variables are only reported: Kubernetes sets such names for a service called rasq.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/server.h"

namespace rasq {

struct Flags {
  ServerOptions server;
  std::string config;  // path of the file; empty: none
  bool check_config = false;
  bool version = false;
  bool help = false;
  std::vector<std::string> warnings;
};

// `arguments` without the program's name. Reads the config file.
absl::StatusOr<Flags> ParseFlags(const std::vector<std::string>& arguments,
                                 const std::map<std::string, std::string>& environment);

// This process's environment, its RASQ_* part.
std::map<std::string, std::string> RasqEnvironment();

// Every flag by group: name, value, meaning, unit, default.
std::string HelpText();

// Where the shipped model lies: models/default below the working directory, below the source tree
// that `executable` was built in, or share/rasq/models/default of the prefix that it is installed
// in. The first that exists; "models/default" if none does.
std::string FindDefaultModel(const std::string& executable);

}  // namespace rasq
