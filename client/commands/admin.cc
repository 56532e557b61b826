#include <cstdio>
#include <optional>

#include "absl/status/status.h"
#include "client/commands/command.h"
#include "client/commands/json.h"

namespace rasq::client {

absl::Status RunInfo(Context& context, const Arguments& arguments) {
  FlagSet flags("info", "Shows what the server can hold, and how much of it is taken.");
  AddGlobalFlags(&context, &flags);
  const absl::StatusOr<Arguments> operands = flags.Parse(arguments);
  if (!operands.ok()) return operands.status();
  if (flags.help_asked()) {
    std::fputs(flags.Help().c_str(), stdout);
    return absl::OkStatus();
  }
  if (!operands->empty()) return UsageError("info wants nothing more");
  const absl::StatusOr<v1::GetServerInfoResponse> info = Client(context.client).GetServerInfo();
  if (!info.ok()) return info.status();
  context.json ? PrintJson(ToJson(*info)) : PrintFields(ToJson(*info));
  return absl::OkStatus();
}

absl::Status RunAdmin(Context& context, const Arguments& arguments) {
  std::optional<absl::Duration> grace;
  FlagSet flags("admin drain | reload",
                "drain: the server ends its calls and stops. reload: it reads tokens, quotas and\n"
                "certificates again. Needs a token of scope admin.");
  AddGlobalFlags(&context, &flags);
  flags.Add("grace", 0, &grace, "DURATION such as 30s that calls have to end (drain)");
  const absl::StatusOr<Arguments> operands = flags.Parse(arguments);
  if (!operands.ok()) return operands.status();
  if (flags.help_asked()) {
    std::fputs(flags.Help().c_str(), stdout);
    return absl::OkStatus();
  }
  const std::string verb = operands->size() == 1 ? operands->front() : "";
  if (verb == "drain") return Client(context.client).Drain(grace);
  if (verb == "reload") return Client(context.client).Reload();
  return UsageError("admin wants drain or reload");
}

}  // namespace rasq::client
