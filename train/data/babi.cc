#include "train/data/babi.h"

#include <map>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "kernels/base/status.h"
#include "train/data/json_lines.h"
#include "train/data/text_file.h"

namespace rasq::train {
namespace {

absl::Status ReadLine(const Json& line, const std::string& where, std::map<int64_t, int>& fact_of,
                      tasks::Episode& episode) {
  FieldReader reader(line, where);
  const int64_t number = reader.Int("n", 1, 1'000'000);
  if (!reader.Has("question")) {
    fact_of[number] = static_cast<int>(episode.facts.size());
    episode.facts.push_back(reader.String("text"));
    return reader.status();
  }
  const int told = static_cast<int>(episode.facts.size());
  tasks::Question question{.text = reader.String("question"),
                           .answer = reader.String("answer"),
                           .after_fact = told,
                           .until_fact = told};
  RASQ_RETURN_IF_ERROR(reader.status());
  RASQ_ASSIGN_OR_RETURN(const Json* support, FindArray(line, "support", where));
  for (const Json& value : *support) {
    const auto fact = fact_of.find(FieldReader::AsInt(value).value_or(0));
    if (fact == fact_of.end()) {
      reader.Bad("support", value, "the number of a fact before the question");
      return reader.status();
    }
    question.evidence.push_back(tasks::WholeFact(episode, fact->second));
  }
  episode.questions.push_back(std::move(question));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<BabiStory>> ReadBabi(const std::string& path, tasks::Split split) {
  std::vector<BabiStory> stories;
  const auto read = [&](const Json& json, const std::string& where) -> absl::Status {
    FieldReader reader(json, where);
    const std::string task = reader.String("task");
    const std::string id = reader.String("story_id");
    RASQ_RETURN_IF_ERROR(reader.status());
    BabiStory story;
    if (!absl::SimpleAtoi(absl::StripPrefix(task, "qa"), &story.task) || story.task < 1 ||
        story.task > kNumBabiTasks) {
      reader.Bad("task", task, absl::StrCat("qa1 to qa", kNumBabiTasks));
      return reader.status();
    }
    if (!tasks::StoryInSplit(split, id)) return absl::OkStatus();
    RASQ_ASSIGN_OR_RETURN(const Json* lines, FindArray(json, "lines", where));
    std::map<int64_t, int> fact_of;  // by line number
    for (const Json& line : *lines) {
      RASQ_RETURN_IF_ERROR(ReadLine(line, where, fact_of, story.episode));
    }
    if (!story.episode.questions.empty()) stories.push_back(std::move(story));
    return absl::OkStatus();
  };
  RASQ_RETURN_IF_ERROR(ForEachJsonLine(path, read));
  return stories;
}

}  // namespace rasq::train
