// What every command of the `rasq` program gets, and the list of them.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "client/commands/flags.h"
#include "client/commands/interrupt.h"
#include "client/rasq_client.h"

namespace rasq::client {

using Arguments = std::vector<std::string>;

struct Context {
  Interrupt* interrupt = nullptr;  // borrowed
  ClientOptions client;            // its cancellation is this run's, and is never null
  bool json = false;               // -o json
};

// The flags that may stand before and after the command's name.
void AddGlobalFlags(Context* context, FlagSet* flags);

struct Command {
  absl::string_view name;
  absl::string_view summary;
  // Prints its results. A usage error, an error of the server, or OK.
  absl::Status (*run)(Context& context, const Arguments& arguments);
};

absl::Status RunAppend(Context& context, const Arguments& arguments);
absl::Status RunAsk(Context& context, const Arguments& arguments);
absl::Status RunChat(Context& context, const Arguments& arguments);
absl::Status RunSessions(Context& context, const Arguments& arguments);
absl::Status RunSnapshots(Context& context, const Arguments& arguments);
absl::Status RunModel(Context& context, const Arguments& arguments);
absl::Status RunInfo(Context& context, const Arguments& arguments);
absl::Status RunAdmin(Context& context, const Arguments& arguments);
absl::Status RunDemo(Context& context, const Arguments& arguments);
absl::Status RunEval(Context& context, const Arguments& arguments);
absl::Status RunReport(Context& context, const Arguments& arguments);

inline constexpr std::array<Command, 11> kCommands = {{
    {"append", "append files or standard input to a session", RunAppend},
    {"ask", "ask a question of a session", RunAsk},
    {"chat", "talk with a session", RunChat},
    {"sessions", "list, get, create, fork, snapshot, restore and delete sessions", RunSessions},
    {"snapshots", "list and delete snapshots", RunSnapshots},
    {"model", "what the server serves; tokenize and detokenize", RunModel},
    {"info", "what the server can hold, and how much of it is taken", RunInfo},
    {"admin", "stop the server, or have it read its files again", RunAdmin},
    {"demo", "stream 100,000 tokens into a session and question it on the way", RunDemo},
    {"eval", "measure what sessions remember, by task and length of the stream", RunEval},
    {"report", "make tables and pictures of what eval measured", RunReport},
}};

}  // namespace rasq::client
