#include <cstdio>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "client/commands/command.h"
#include "client/commands/json.h"
#include "client/commands/progress.h"

namespace rasq::client {
namespace {

absl::Status List(const Context& context) {
  const absl::StatusOr<std::vector<v1::Snapshot>> snapshots =
      Client(context.client).ListSnapshots();
  if (!snapshots.ok()) return snapshots.status();
  if (!context.json) {
    absl::PrintF("%-32s %-32s %12s %10s\n", "SNAPSHOT", "OF SESSION", "TOKENS", "BYTES");
  }
  for (const v1::Snapshot& snapshot : *snapshots) {
    if (context.json) {
      PrintJson(ToJson(snapshot));
    } else {
      absl::PrintF("%-32s %-32s %12d %10s\n", snapshot.snapshot_id(), snapshot.session_id(),
                   snapshot.context_tokens(),
                   ShortCount(static_cast<double>(snapshot.file_bytes())));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RunSnapshots(Context& context, const Arguments& arguments) {
  FlagSet flags("snapshots list | delete SNAPSHOT...", "Lists and deletes snapshots.");
  AddGlobalFlags(&context, &flags);
  const absl::StatusOr<Arguments> operands = flags.Parse(arguments);
  if (!operands.ok()) return operands.status();
  if (flags.help_asked()) {
    std::fputs(flags.Help().c_str(), stdout);
    return absl::OkStatus();
  }
  const std::string verb = operands->empty() ? "" : operands->front();
  if (verb == "list" && operands->size() == 1) return List(context);
  if (verb == "delete" && operands->size() > 1) {
    for (size_t i = 1; i < operands->size(); ++i) {
      const std::string& snapshot_id = (*operands)[i];
      absl::Status status = Client(context.client).DeleteSnapshot(snapshot_id);
      if (!status.ok()) return status;
      if (context.json) PrintJson({{"snapshot_id", snapshot_id}});
    }
    return absl::OkStatus();
  }
  return UsageError("snapshots wants list or delete SNAPSHOT...");
}

}  // namespace rasq::client
