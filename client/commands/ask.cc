#include <cstdio>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/commands/answer.h"
#include "client/commands/command.h"
#include "client/commands/generate_flags.h"
#include "client/commands/input.h"
#include "client/commands/json.h"

namespace rasq::client {
namespace {

// All of standard input.
absl::StatusOr<std::string> ReadPrompt(const Interrupt& interrupt) {
  absl::StatusOr<InputFile> input = InputFile::Open("-", Utf8Decoder::Invalid::kRefuse);
  if (!input.ok()) return input.status();
  std::string prompt;
  for (;;) {
    const absl::StatusOr<bool> more = input->Read(interrupt, &prompt);
    if (!more.ok()) return more.status();
    if (!*more) break;
  }
  if (interrupt.interrupted()) return absl::CancelledError("interrupted");
  if (absl::Status status = input->Finish(&prompt); !status.ok()) return status;
  return prompt;
}

}  // namespace

absl::Status RunAsk(Context& context, const Arguments& arguments) {
  bool commit = false;
  GenerateFlags generate_flags;
  FlagSet flags(
      "ask SESSION [PROMPT]",
      "Asks a question of all that a session has read, and prints the answer as it comes.\n"
      "Without PROMPT the question is read from standard input.");
  AddGlobalFlags(&context, &flags);
  flags.Add("commit", 0, &commit, "make prompt and answer part of the session");
  generate_flags.AddTo(&flags);
  const absl::StatusOr<Arguments> operands = flags.Parse(arguments);
  if (!operands.ok()) return operands.status();
  if (flags.help_asked()) {
    std::fputs(flags.Help().c_str(), stdout);
    return absl::OkStatus();
  }
  if (operands->empty() || operands->size() > 2) {
    return UsageError("ask wants a SESSION and one PROMPT (in quotes)");
  }
  const absl::StatusOr<PromptTemplate> prompt_template = generate_flags.prompt_template();
  if (!prompt_template.ok()) return prompt_template.status();
  v1::GenerateRequest request;
  if (absl::Status status = generate_flags.Fill(&request); !status.ok()) return status;

  absl::StatusOr<std::string> prompt;
  if (operands->size() == 2) {
    prompt = (*operands)[1];
  } else {
    prompt = ReadPrompt(*context.interrupt);
  }
  if (!prompt.ok()) return prompt.status();
  request.set_session_id(operands->front());
  request.set_commit_output(commit ? v1::COMMIT_OUTPUT_COMMIT : v1::COMMIT_OUTPUT_DISCARD);
  ApplyPromptTemplate(*prompt_template, *prompt, &request);

  Client client(context.client);
  const absl::StatusOr<Answer> answer =
      Generate(&client, request, *prompt_template, /*stream=*/!context.json);
  if (!answer.ok()) return answer.status();
  if (!context.json) {
    std::fputs(EvidenceText(answer->summary).c_str(), stdout);
    return absl::OkStatus();
  }
  Json json = {{"session_id", request.session_id()}, {"text", answer->text}};
  if (request.logprobs() > 0) {
    Json tokens = Json::array();
    for (const v1::GeneratedToken& token : answer->tokens) tokens.push_back(ToJson(token));
    json["tokens"] = std::move(tokens);
  }
  json.update(ToJson(answer->summary));
  PrintJson(json);
  return absl::OkStatus();
}

}  // namespace rasq::client
