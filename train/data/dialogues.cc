#include "train/data/dialogues.h"

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/tasks/dialogue_words.h"
#include "client/tasks/wording.h"
#include "kernels/base/status.h"
#include "train/data/json_lines.h"

namespace rasq::train {
namespace {

const tasks::Words kQuestions = {
    "what {s} does the user want in the end?",
    "which {s} was settled on?",
    "what is the {s} that the user asked for?",
    "which {s} is right for the user, finally?",
    "what did the user choose as {s}?",
    "at the end of the talk, what is the {s}?",
    "what {s} did they agree on?",
    "tell me the {s} of the request.",
};

absl::StatusOr<std::vector<std::string>> ReadTurns(const Json& dialogue, const std::string& where) {
  RASQ_ASSIGN_OR_RETURN(const Json* turns, FindArray(dialogue, "turns", where));
  std::vector<std::string> lines;
  for (const Json& turn : *turns) {
    FieldReader reader(turn, where);
    const std::string speaker = reader.String("speaker");
    lines.push_back(absl::StrCat(speaker, ": ", reader.String("text")));
    RASQ_RETURN_IF_ERROR(reader.status());
  }
  return lines;
}

// The question about a slot, if the dialogue says one of its values.
void AddQuestion(const std::string& slot, const Json& values, tasks::Random& random,
                 tasks::Split split, tasks::Episode& episode) {
  for (size_t turn = episode.facts.size(); turn > 0; --turn) {
    for (const Json& value : values) {
      const std::string text = value.is_string() ? value.get<std::string>() : "";
      if (text.empty() || text == "dontcare" || !absl::StrContains(episode.facts[turn - 1], text)) {
        continue;
      }
      const std::string name = absl::StrReplaceAll(slot, {{"_", " "}});
      // Half of training's as speakers of made-up talk are asked about.
      const bool listed = split == tasks::Split::kHeldOut || random.Chance(0.5);
      episode.questions.push_back(
          {.text = listed ? tasks::Fill(random, tasks::PickFrom(random, split, kQuestions),
                                        {{"s", name}})
                          : tasks::DialogueGrammar(split).Say(random, "topic_question",
                                                              {{"p", "the user"}, {"w", name}}),
           .answer = text,
           .evidence = {tasks::WholeFact(episode, static_cast<int>(turn) - 1)}});
      return;
    }
  }
}

}  // namespace

absl::StatusOr<std::vector<tasks::Episode>> ReadSlotDialogues(const std::string& path,
                                                              tasks::Split split) {
  std::vector<tasks::Episode> episodes;
  const auto read = [&](const Json& json, const std::string& where) -> absl::Status {
    FieldReader reader(json, where);
    const std::string id = reader.String("id");
    RASQ_RETURN_IF_ERROR(reader.status());
    if (!InSplit(split, id)) return absl::OkStatus();
    tasks::Episode episode;
    RASQ_ASSIGN_OR_RETURN(episode.facts, ReadTurns(json, where));
    const Json* services = reader.Find("final_slots");
    if (services == nullptr) return absl::OkStatus();
    if (!services->is_object()) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": final_slots is no object"));
    }
    // Slots of several services may bear one name, and then no question about it is clear.
    if (services->size() != 1 || !services->front().is_object()) return absl::OkStatus();
    tasks::Random random(episodes.size());
    for (const auto& [slot, values] : services->front().items()) {
      AddQuestion(slot, values, random, split, episode);
    }
    if (episode.questions.empty()) return absl::OkStatus();
    // A turn says a value that a later one may take back, so all of it must be told.
    for (tasks::Question& question : episode.questions) {
      question.after_fact = question.until_fact = static_cast<int>(episode.facts.size());
    }
    episodes.push_back(std::move(episode));
    return absl::OkStatus();
  };
  RASQ_RETURN_IF_ERROR(ForEachJsonLine(path, read));
  return episodes;
}

absl::StatusOr<std::vector<Document>> ReadDialogueText(const std::string& path,
                                                       tasks::Split split) {
  std::vector<Document> documents;
  const auto read = [&](const Json& json, const std::string& where) -> absl::Status {
    FieldReader reader(json, where);
    Document document{.id = reader.String("id")};
    RASQ_RETURN_IF_ERROR(reader.status());
    if (!InSplit(split, document.id)) return absl::OkStatus();
    RASQ_ASSIGN_OR_RETURN(const std::vector<std::string> lines, ReadTurns(json, where));
    for (const std::string& line : lines) absl::StrAppend(&document.text, line, "\n");
    documents.push_back(std::move(document));
    return absl::OkStatus();
  };
  RASQ_RETURN_IF_ERROR(ForEachJsonLine(path, read));
  return documents;
}

}  // namespace rasq::train
