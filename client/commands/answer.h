// One generation, shown as it comes.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/commands/prompt_template.h"
#include "client/rasq_client.h"

namespace rasq::client {

struct Answer {
  std::string text;    // the template's answer
  std::string output;  // all that was generated
  std::vector<v1::GeneratedToken> tokens;
  v1::GenerateSummary summary;
};

// Generates; with `stream`, writes the answer to standard output as it comes, and a line break.
absl::StatusOr<Answer> Generate(Client* client, const v1::GenerateRequest& request,
                                PromptTemplate prompt_template, bool stream,
                                Cancellation* cancellation = nullptr);

// "  @1234  0.87  text": the evidence, a line each, the text cut to fit.
std::string EvidenceText(const v1::GenerateSummary& summary);
// On one line: line breaks as spaces, at most `max_bytes`, whole characters.
std::string OneLine(const std::string& text, size_t max_bytes);

}  // namespace rasq::client
