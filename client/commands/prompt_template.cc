#include "client/commands/prompt_template.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/commands/flags.h"

namespace rasq::client {

absl::StatusOr<PromptTemplate> ParsePromptTemplate(absl::string_view name) {
  if (name == "qa") return PromptTemplate::kQa;
  if (name == "raw") return PromptTemplate::kRaw;
  return UsageError(absl::StrCat("--template=", name, ": not qa or raw"));
}

void ApplyPromptTemplate(PromptTemplate prompt_template, absl::string_view prompt,
                         v1::GenerateRequest* request) {
  if (prompt_template == PromptTemplate::kRaw) {
    request->mutable_prompt()->set_text(std::string(prompt));
    return;
  }
  request->mutable_prompt()->set_text(
      absl::StrCat("\nQuestion: ", absl::StripAsciiWhitespace(prompt), "\nAnswer:"));
  request->mutable_stop()->add_stop_strings("\n");
  if (request->commit_output() == v1::COMMIT_OUTPUT_COMMIT) {
    request->mutable_stop()->set_include_stop(true);
  }
}

std::string ExtractAnswer(PromptTemplate prompt_template, absl::string_view output) {
  if (prompt_template == PromptTemplate::kRaw) return std::string(output);
  return std::string(absl::StripAsciiWhitespace(output.substr(0, output.find('\n'))));
}

}  // namespace rasq::client
