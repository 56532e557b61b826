// How a question is put to the model, and how its answer is cut out of what comes back.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "rasq/v1/session.pb.h"

namespace rasq::client {

enum class PromptTemplate {
  kQa,   // "\nQuestion: ...\nAnswer:", up to the end of the line: what the shipped model was taught
  kRaw,  // the prompt as it is
};

// kInvalidArgument, as a usage error, if there is no template of that name.
absl::StatusOr<PromptTemplate> ParsePromptTemplate(absl::string_view name);

// Sets the request's prompt and adds the template's stop string. An output that is committed keeps
// its stop string, so that what follows in the session begins on a line of its own.
void ApplyPromptTemplate(PromptTemplate prompt_template, absl::string_view prompt,
                         rasq::v1::GenerateRequest* request);

// The answer in the whole output.
std::string ExtractAnswer(PromptTemplate prompt_template, absl::string_view output);

}  // namespace rasq::client
