#include "client/eval/squad_files.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/commands/json.h"
#include "client/eval/files.h"
#include "client/eval/json_lines.h"

namespace rasq::client {
namespace {

using tasks::Episode;

absl::Status Bad(const std::string& where, absl::string_view field) {
  return absl::InvalidArgumentError(
      absl::StrCat(where, ": ", field, " is missing, or not as it should be"));
}

std::optional<std::string> Text(const Json& object, const char* name) {
  if (!object.is_object()) return std::nullopt;
  const auto found = object.find(name);
  if (found == object.end() || !found->is_string()) return std::nullopt;
  const std::string text =
      absl::StrReplaceAll(found->get<std::string>(), {{"\r", " "}, {"\n", " "}});
  return std::string(absl::StripAsciiWhitespace(text));
}

const Json* FindArray(const Json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(name);
  return found == object.end() || !found->is_array() ? nullptr : &*found;
}

// Only the answers that stand in the passage: data sets have a few that do not.
absl::Status AddQuestion(const Json& qa, const std::string& where, Episode& episode) {
  const std::optional<std::string> text = Text(qa, "question");
  if (!text.has_value()) return Bad(where, "question");
  const Json* answers = FindArray(qa, "answers");
  if (answers == nullptr) return Bad(where, "answers");
  std::vector<std::string> references;
  for (const Json& answer : *answers) {
    std::optional<std::string> reference = Text(answer, "text");
    if (!reference.has_value()) return Bad(where, "text");
    const bool known =
        std::find(references.begin(), references.end(), *reference) != references.end();
    if (known || reference->empty() || !absl::StrContains(episode.facts[0], *reference)) continue;
    references.push_back(*std::move(reference));
  }
  if (references.empty()) return absl::OkStatus();
  episode.questions.push_back({.text = *text,
                               .answer = references.front(),
                               .evidence = {tasks::WholeFact(episode, 0)},
                               .references = std::move(references)});
  return absl::OkStatus();
}

absl::Status AddPassage(const Json& passage, const std::string& where,
                        std::vector<Episode>& passages) {
  std::optional<std::string> context = Text(passage, "context");
  if (!context.has_value() || context->empty()) return Bad(where, "context");
  const Json* qas = FindArray(passage, "qas");
  if (qas == nullptr) return Bad(where, "qas");
  Episode episode{.facts = {*std::move(context)}};
  for (const Json& qa : *qas) {
    if (absl::Status status = AddQuestion(qa, where, episode); !status.ok()) return status;
  }
  tasks::LetAnswersHoldToTheEnd(episode);
  passages.push_back(std::move(episode));
  return absl::OkStatus();
}

absl::Status AddArticles(const Json& json, const std::string& path, tasks::Split split, bool all,
                         std::vector<Episode>& passages) {
  const Json* articles = FindArray(json, "data");
  if (articles == nullptr) return Bad(path, "data");
  for (size_t i = 0; i < articles->size(); ++i) {
    const std::string where = absl::StrCat(path, ": data[", i, "]");
    const std::optional<std::string> title = Text((*articles)[i], "title");
    if (!title.has_value()) return Bad(where, "title");
    if (!all && !tasks::InSplit(split, *title)) continue;
    const Json* paragraphs = FindArray((*articles)[i], "paragraphs");
    if (paragraphs == nullptr) return Bad(where, "paragraphs");
    for (size_t j = 0; j < paragraphs->size(); ++j) {
      absl::Status status =
          AddPassage((*paragraphs)[j], absl::StrCat(where, ".paragraphs[", j, "]"), passages);
      if (!status.ok()) return status;
    }
  }
  return absl::OkStatus();
}

absl::Status AddLines(absl::string_view text, const std::string& path, tasks::Split split, bool all,
                      std::vector<Episode>& passages) {
  return ForEachJsonLine(text, path, [&](const Json& json, const std::string& where) {
    const std::optional<std::string> title = Text(json, "title");
    if (!title.has_value()) return Bad(where, "title");
    if (!all && !tasks::InSplit(split, *title)) return absl::OkStatus();
    return AddPassage(json, where, passages);
  });
}

}  // namespace

absl::StatusOr<std::vector<Episode>> ReadSquad(const std::string& path, tasks::Split split,
                                               bool all) {
  const absl::StatusOr<std::string> text = ReadTextFile(path);
  if (!text.ok()) return text.status();
  const Json json = Json::parse(*text, /*cb=*/nullptr, /*allow_exceptions=*/false);
  std::vector<Episode> passages;
  // One line of JSON lines is an object too.
  const absl::Status status = json.is_object() && !json.contains("context")
                                  ? AddArticles(json, path, split, all, passages)
                                  : AddLines(*text, path, split, all, passages);
  if (!status.ok()) return status;
  if (std::none_of(passages.begin(), passages.end(),
                   [](const Episode& passage) { return !passage.questions.empty(); })) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": no question of the split"));
  }
  return passages;
}

}  // namespace rasq::client
