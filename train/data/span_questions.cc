#include "train/data/span_questions.h"

#include <algorithm>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "kernels/base/status.h"
#include "train/data/json_lines.h"
#include "train/data/text_file.h"

namespace rasq::train {
namespace {

// The byte at which character `index` begins. REQUIRES: `text` is UTF-8, as JSON's strings are.
std::optional<size_t> ByteOfCharacter(absl::string_view text, int64_t index) {
  for (size_t byte = 0; byte < text.size(); ++byte) {
    const bool begins = (static_cast<uint8_t>(text[byte]) & 0xC0) != 0x80;
    if (begins && index-- == 0) return byte;
  }
  return std::nullopt;
}

bool EndsSentence(absl::string_view text, size_t at) {
  return text[at] == '\n' || (absl::string_view(".!?").find(text[at]) != absl::string_view::npos &&
                              (at + 1 == text.size() || absl::ascii_isspace(text[at + 1])));
}

// The sentences that [begin, end) touches.
tasks::Span SentenceAround(absl::string_view text, size_t begin, size_t end) {
  while (begin > 0 && !EndsSentence(text, begin - 1)) --begin;
  while (end < text.size() && !EndsSentence(text, end - 1)) ++end;
  while (begin < end && absl::ascii_isspace(text[begin])) ++begin;
  return {.fact = 0, .begin = begin, .end = end};
}

absl::Status ReadPassage(const Json& passage, const std::string& where,
                         std::vector<tasks::Episode>& episodes) {
  FieldReader reader(passage, where);
  const std::string text(absl::StripTrailingAsciiWhitespace(reader.String("context")));
  RASQ_RETURN_IF_ERROR(reader.status());
  RASQ_ASSIGN_OR_RETURN(const Json* qas, FindArray(passage, "qas", where));
  tasks::Episode episode{.facts = {text}};
  for (const Json& qa : *qas) {
    FieldReader question(qa, where);
    const std::string asked = question.String("question");
    RASQ_RETURN_IF_ERROR(question.status());
    RASQ_ASSIGN_OR_RETURN(const Json* answers, FindArray(qa, "answers", where));
    if (answers->empty()) continue;
    FieldReader answer(answers->front(), where);
    const std::string answer_text = answer.String("text");
    const char* start_name = answer.Has("answer_start") ? "answer_start" : "start";
    const int64_t start = answer.Int(start_name, 0, INT32_MAX);
    RASQ_RETURN_IF_ERROR(answer.status());
    const std::optional<size_t> begin = ByteOfCharacter(text, start);
    if (answer_text.empty() || !begin.has_value() ||
        !absl::StartsWith(absl::string_view(text).substr(*begin), answer_text)) {
      continue;  // data sets have a few answers that are not where they say
    }
    episode.questions.push_back(
        {.text = std::string(absl::StripAsciiWhitespace(asked)),
         .answer = std::string(absl::StripAsciiWhitespace(answer_text)),
         .evidence = {SentenceAround(text, *begin, *begin + answer_text.size())}});
  }
  if (episode.questions.empty()) return absl::OkStatus();
  tasks::LetAnswersHoldToTheEnd(episode);
  episodes.push_back(std::move(episode));
  return absl::OkStatus();
}

absl::StatusOr<bool> TitleInSplit(const Json& object, const std::string& where,
                                  tasks::Split split) {
  FieldReader reader(object, where);
  const std::string title = reader.String("title", "");
  RASQ_RETURN_IF_ERROR(reader.status());
  return InSplit(split, title);
}

absl::StatusOr<std::vector<tasks::Episode>> ReadSquad(const std::string& path, tasks::Split split) {
  RASQ_ASSIGN_OR_RETURN(const std::string text, ReadText(path));
  RASQ_ASSIGN_OR_RETURN(const Json json, ParseJson(text, path));
  RASQ_ASSIGN_OR_RETURN(const Json* articles, FindArray(json, "data", path));
  std::vector<tasks::Episode> episodes;
  for (size_t i = 0; i < articles->size(); ++i) {
    const Json& article = (*articles)[i];
    const std::string where = absl::StrCat(path, ": data[", i, "]");
    RASQ_ASSIGN_OR_RETURN(const bool wanted, TitleInSplit(article, where, split));
    if (!wanted) continue;
    RASQ_ASSIGN_OR_RETURN(const Json* paragraphs, FindArray(article, "paragraphs", where));
    for (size_t j = 0; j < paragraphs->size(); ++j) {
      RASQ_RETURN_IF_ERROR(
          ReadPassage((*paragraphs)[j], absl::StrCat(where, ".paragraphs[", j, "]"), episodes));
    }
  }
  return episodes;
}

}  // namespace

absl::StatusOr<std::vector<tasks::Episode>> ReadSpanQuestions(const std::string& path,
                                                              tasks::Split split) {
  if (absl::EndsWith(absl::StripSuffix(path, ".xz"), ".json")) return ReadSquad(path, split);
  std::vector<tasks::Episode> episodes;
  const auto read = [&](const Json& line, const std::string& where) -> absl::Status {
    RASQ_ASSIGN_OR_RETURN(const bool wanted, TitleInSplit(line, where, split));
    return wanted ? ReadPassage(line, where, episodes) : absl::OkStatus();
  };
  RASQ_RETURN_IF_ERROR(ForEachJsonLine(path, read));
  return episodes;
}

}  // namespace rasq::train
