#include "client/commands/answer.h"

#include <cstdio>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "client/utf8.h"

namespace rasq::client {

absl::StatusOr<Answer> Generate(Client* client, const v1::GenerateRequest& request,
                                PromptTemplate prompt_template, bool stream,
                                Cancellation* cancellation) {
  Answer answer;
  size_t shown = 0;
  absl::StatusOr<v1::GenerateSummary> summary = client->Generate(
      request,
      [&](const v1::GenerateResponse& piece) {
        answer.output += piece.text();
        answer.tokens.insert(answer.tokens.end(), piece.tokens().begin(), piece.tokens().end());
        if (!stream) return;
        // An answer grows at its end alone: what is shown need not be taken back.
        const std::string text = ExtractAnswer(prompt_template, answer.output);
        if (text.size() > shown) std::fputs(text.c_str() + shown, stdout);
        std::fflush(stdout);
        shown = text.size();
      },
      cancellation);
  if (stream) std::puts("");
  if (!summary.ok()) return summary.status();
  answer.summary = *std::move(summary);
  answer.text = ExtractAnswer(prompt_template, answer.output);
  return answer;
}

std::string EvidenceText(const v1::GenerateSummary& summary) {
  constexpr size_t kMaxBytes = 72;
  std::string text;
  for (const v1::Evidence& evidence : summary.evidence()) {
    absl::StrAppendFormat(&text, "  @%-8d %6.3f  %s\n", evidence.position(), evidence.score(),
                          OneLine(evidence.text(), kMaxBytes));
  }
  return text;
}

std::string OneLine(const std::string& text, size_t max_bytes) {
  std::string line = absl::StrReplaceAll(text, {{"\n", " "}, {"\r", " "}, {"\t", " "}});
  absl::RemoveExtraAsciiWhitespace(&line);
  const absl::string_view front = line.empty() ? "" : Utf8Prefix(line, max_bytes);
  return front.size() == line.size() ? line : absl::StrCat(front, "...");
}

}  // namespace rasq::client
