#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/commands/command.h"
#include "client/commands/eval_flags.h"
#include "client/commands/json.h"
#include "client/eval/evaluation.h"
#include "client/eval/machine.h"
#include "client/eval/perplexity.h"
#include "client/eval/server_process.h"
#include "client/eval/summary.h"

namespace rasq::client {
namespace {

void Describe(const v1::GetModelResponse& model, const std::string& address, RunHeader* header) {
  header->server_version = model.server_version();
  header->model = model.name();
  header->fingerprint = model.fingerprint();
  header->device = model.device();
  header->dtype = model.dtype();
  header->entry_type = model.entry_type();
  if (header->machine.empty()) header->machine = DescribeMachine(address, model.device());
  header->capacity_tokens = model.buffer_capacity_tokens();
  header->window_tokens = model.window_tokens();
  header->state_bytes = model.session_state_bytes();
}

void PrintSummary(const Context& context, const Results& results) {
  if (!context.json) {
    std::fputs(SummaryTable(results).c_str(), stdout);
    return;
  }
  Json rows = Json::array();
  for (const SummaryCell& cell : Summarise(results)) {
    rows.push_back({{"strategy", cell.method},
                    {"task", cell.task},
                    {"length", cell.length},
                    {"questions", cell.questions},
                    {"score", cell.score.value},
                    {"exact", cell.exact.value}});
  }
  Json perplexity = Json::array();
  for (const PerplexityCell& cell : MeasurePerplexity(results.streams)) {
    perplexity.push_back({{"strategy", cell.method},
                          {"length", cell.length},
                          {"streams", cell.streams},
                          {"scored_tokens", cell.tokens},
                          {"mean_negative_log_likelihood", cell.loss.value},
                          {"perplexity", cell.perplexity}});
  }
  PrintJson({{"results", std::move(rows)}, {"perplexity", std::move(perplexity)}});
}

// All settings that one server can have, with the flag that it is started with for them.
absl::StatusOr<Results> MeasureServer(const Context& context, const EvalFlags& flags,
                                      const EvalPlan& plan, const TaskSet& tasks,
                                      const std::string& server_flag) {
  ClientOptions client = context.client;
  RunHeader header = plan.header;
  for (const Setting& setting : plan.settings) {
    if (setting.server_flag != server_flag) continue;
    header.settings.push_back(setting.label);
    header.session_options.push_back(setting.session_options);
  }
  std::optional<ServerProcess> server;
  if (!flags.server.empty()) {
    std::vector<std::string> server_flags = flags.server_flags;
    if (!server_flag.empty()) server_flags.push_back(server_flag);
    header.server_flags = absl::StrJoin(server_flags, " ");
    absl::StatusOr<ServerProcess> started =
        ServerProcess::Start(flags.server, server_flags, flags.results + ".server.log");
    if (!started.ok()) return started.status();
    server.emplace(*std::move(started));
    client.address = server->address();
  }
  const absl::StatusOr<v1::GetModelResponse> model = Client(client).GetModel();
  if (!model.ok()) return model.status();
  Describe(*model, client.address, &header);
  absl::StatusOr<ResultFile> file = ResultFile::Open(flags.results, header);
  if (!file.ok()) return file.status();
  absl::Status status = Evaluation(client, header, &tasks, &plan.haystack, &*file).Run();
  if (!status.ok()) {
    PrintSummary(context, file->results());
    return status;
  }
  return file->results();
}

absl::Status Eval(const Context& context, const EvalFlags& flags) {
  const absl::StatusOr<EvalPlan> plan = MakePlan(flags);
  if (!plan.ok()) return plan.status();
  const TaskSet tasks(plan->tasks);
  std::vector<std::string> server_flags;  // a server each
  for (const Setting& setting : plan->settings) {
    if (std::find(server_flags.begin(), server_flags.end(), setting.server_flag) ==
        server_flags.end()) {
      server_flags.push_back(setting.server_flag);
    }
  }
  absl::StatusOr<Results> results;
  for (const std::string& server_flag : server_flags) {
    results = MeasureServer(context, flags, *plan, tasks, server_flag);
    if (!results.ok()) return results.status();
  }
  PrintSummary(context, *results);
  return absl::OkStatus();
}

}  // namespace

absl::Status RunEval(Context& context, const Arguments& arguments) {
  EvalFlags eval_flags;
  FlagSet flags(
      "eval",
      "Measures a server's memory: streams of text with facts in it, and questions at their\n"
      "ends. What is told and asked is held out from training, by default. A run that was\n"
      "broken off goes on where its results end. `rasq report` makes tables and pictures.");
  eval_flags.AddTo(&flags);
  AddGlobalFlags(&context, &flags);
  const absl::StatusOr<Arguments> operands = flags.Parse(arguments);
  if (!operands.ok()) return operands.status();
  if (flags.help_asked()) {
    std::fputs(flags.Help().c_str(), stdout);
    return absl::OkStatus();
  }
  if (!operands->empty()) return UsageError("eval wants no operands");
  return Eval(context, eval_flags);
}

}  // namespace rasq::client
