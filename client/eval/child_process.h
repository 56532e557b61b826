// Starts other programs: a server to measure, gnuplot.
#pragma once

#include <spawn.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"

namespace rasq::client {

// Starts arguments[0], found on PATH, after the file actions that `prepare` adds. This process
// takes Ctrl-C as an event; the child hears of it as programs do. An errno, or 0 and `pid` is set.
int SpawnChild(std::vector<std::string> arguments,
               absl::FunctionRef<void(posix_spawn_file_actions_t*)> prepare, pid_t* pid);

}  // namespace rasq::client
