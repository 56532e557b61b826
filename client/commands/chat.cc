#include <unistd.h>

#include <cstdio>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/commands/answer.h"
#include "client/commands/command.h"
#include "client/commands/generate_flags.h"
#include "client/commands/input.h"
#include "client/commands/json.h"

namespace rasq::client {

absl::Status RunChat(Context& context, const Arguments& arguments) {
  GenerateFlags generate_flags;
  bool discard = false, create = false;
  FlagSet flags(
      "chat SESSION",
      "A question a line, an answer a line; both become part of the session.\n"
      "\"/add TEXT\" appends a line of context. Ctrl-C stops an answer (which then leaves\n"
      "no trace), or ends the chat; so does Ctrl-D.");
  flags.Add("create", 'c', &create, "create the session if it is not there");
  flags.Add("discard", 0, &discard, "questions and answers leave no trace");
  generate_flags.AddTo(&flags);
  const absl::StatusOr<Arguments> operands = flags.Parse(arguments);
  if (!operands.ok()) return operands.status();
  if (flags.help_asked()) {
    std::fputs(flags.Help().c_str(), stdout);
    return absl::OkStatus();
  }
  if (operands->size() != 1) return UsageError("chat wants one SESSION");
  const absl::StatusOr<PromptTemplate> prompt_template = generate_flags.prompt_template();
  if (!prompt_template.ok()) return prompt_template.status();
  v1::GenerateRequest settings;
  if (absl::Status status = generate_flags.Fill(&settings); !status.ok()) return status;
  settings.set_session_id(operands->front());
  settings.set_commit_output(discard ? v1::COMMIT_OUTPUT_DISCARD : v1::COMMIT_OUTPUT_COMMIT);

  Client client(context.client);
  if (create) {
    v1::CreateSessionRequest request;
    request.set_session_id(operands->front());
    const absl::StatusOr<v1::Session> session = client.CreateSession(request);
    if (!session.ok() && !absl::IsAlreadyExists(session.status())) return session.status();
  }
  // A session that is not there is an error now, not after the first question.
  if (auto session = client.GetSession(operands->front()); !session.ok()) return session.status();

  const bool terminal = isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1;
  LineReader lines;
  std::string line;
  context.interrupt->Watch(nullptr);
  for (;;) {
    if (terminal) std::fputs("> ", stdout);
    std::fflush(stdout);
    if (!lines.Next(*context.interrupt, &line)) break;
    absl::StripAsciiWhitespace(&line);
    if (line.empty()) continue;
    Cancellation cancellation;
    context.interrupt->Watch(&cancellation);
    absl::Status status;
    absl::string_view rest = line;
    if (absl::ConsumePrefix(&rest, "/add ")) {
      v1::AppendRequest request;
      request.set_session_id(settings.session_id());
      request.mutable_content()->set_text(absl::StrCat("\n", rest));
      status = client.Append(request).status();
    } else if (line[0] == '/') {
      std::fputs("not a command; there is /add TEXT\n", stderr);
    } else {
      v1::GenerateRequest request = settings;
      ApplyPromptTemplate(*prompt_template, line, &request);
      const absl::StatusOr<Answer> answer = Generate(&client, request, *prompt_template,
                                                     /*stream=*/!context.json, &cancellation);
      status = answer.status();
      if (answer.ok() && context.json) {
        Json json = {{"text", answer->text}};
        json.update(ToJson(answer->summary));
        PrintJson(json);
      } else if (answer.ok()) {
        std::fputs(EvidenceText(answer->summary).c_str(), stdout);
      }
    }
    context.interrupt->Watch(nullptr);
    if (absl::IsCancelled(status) && context.interrupt->interrupted()) {
      context.interrupt->Reset();
    } else if (!status.ok()) {
      return status;
    }
  }
  if (terminal) std::puts("");
  return absl::OkStatus();
}

}  // namespace rasq::client
