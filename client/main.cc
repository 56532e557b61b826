// The `rasq` program: global flags, the choice of a command, exit codes.
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/commands/command.h"
#include "client/rpc_status.h"

namespace rasq::client {
namespace {

constexpr int kExitError = 1;
constexpr int kExitUsage = 2;
constexpr int kExitInterrupted = 130;  // as shells have it: 128 + SIGINT

std::string Description() {
  std::string text = "Talks to a Rasq server. Commands (rasq COMMAND --help tells more):\n";
  for (const Command& command : kCommands) {
    absl::StrAppendFormat(&text, "  %-10s %s\n", command.name, command.summary);
  }
  absl::StrAppend(
      &text,
      "\nExit codes: 0 done, 1 the server or the connection said no, 2 called wrongly,\n"
      "130 interrupted. Flags before the command:");
  return text;
}

int Main(const Arguments& arguments) {
  Interrupt interrupt;
  Cancellation cancellation;
  interrupt.Watch(&cancellation);
  Context context;
  context.interrupt = &interrupt;
  context.client.cancellation = &cancellation;

  bool version = false;
  FlagSet flags("[FLAG...] COMMAND ...", Description());
  AddGlobalFlags(&context, &flags);
  flags.Add("version", 0, &version, "print the version");

  const auto fail = [](absl::string_view where, absl::string_view message, int code) {
    absl::FPrintF(stderr, "rasq%s%s: %s\n", where.empty() ? "" : " ", where, message);
    return code;
  };
  absl::StatusOr<Arguments> operands = flags.Parse(arguments, /*stop_at_operand=*/true);
  if (!operands.ok()) return fail("", operands.status().message(), kExitUsage);
  if (version) {
    std::puts("rasq " RASQ_VERSION);
    return 0;
  }
  if (flags.help_asked()) {
    std::fputs(flags.Help().c_str(), stdout);
    return 0;
  }
  if (operands->empty()) {
    std::fputs(flags.Help().c_str(), stderr);
    return kExitUsage;
  }
  for (const Command& command : kCommands) {
    if (command.name != operands->front()) continue;
    const absl::Status status =
        command.run(context, Arguments(operands->begin() + 1, operands->end()));
    if (status.ok()) return 0;
    if (IsUsageError(status)) {
      return fail(command.name, absl::StrCat(status.message(), " (see --help)"), kExitUsage);
    }
    if (absl::IsCancelled(status) && interrupt.interrupted()) {
      return fail(command.name, "interrupted", kExitInterrupted);
    }
    std::string message =
        absl::StrCat(absl::StatusCodeToString(status.code()), ": ", status.message());
    if (const auto delay = RetryDelay(status); delay.has_value()) {
      absl::StrAppend(&message, " (retry in ", absl::FormatDuration(*delay), ")");
    }
    if (const std::string id = RequestId(status); !id.empty()) {
      absl::StrAppend(&message, " (request ", id, ")");
    }
    return fail(command.name, message, kExitError);
  }
  return fail("", absl::StrCat("no command ", operands->front(), " (see --help)"), kExitUsage);
}

}  // namespace

}  // namespace rasq::client

int main(int argc, char** argv) {
  return rasq::client::Main(rasq::client::Arguments(argv + 1, argv + argc));
}
