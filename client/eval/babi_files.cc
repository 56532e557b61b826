#include "client/eval/babi_files.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/commands/json.h"
#include "client/eval/files.h"
#include "client/eval/json_lines.h"

namespace rasq::client {
namespace {

constexpr int kNumTasks = 20;

// "qa3" and "qa3_three-supporting-facts_test.txt" give 3; others nothing.
std::optional<int> TaskNumber(absl::string_view name) {
  if (!absl::ConsumePrefix(&name, "qa")) return std::nullopt;
  int number;
  if (!absl::SimpleAtoi(name.substr(0, name.find('_')), &number)) return std::nullopt;
  return number >= 1 && number <= kNumTasks ? std::optional(number) : std::nullopt;
}

class StoryReader {
 public:
  explicit StoryReader(std::string where) : where_(std::move(where)) {}

  void AddFact(int64_t number, absl::string_view text) {
    fact_of_[number] = static_cast<int>(episode_.facts.size());
    episode_.facts.emplace_back(text);
  }
  absl::Status AddQuestion(absl::string_view text, absl::string_view answer,
                           const std::vector<int64_t>& support) {
    const int told = static_cast<int>(episode_.facts.size());
    tasks::Question question{.text = std::string(text),
                             .answer = std::string(answer),
                             .after_fact = told,
                             .until_fact = told};
    for (const int64_t number : support) {
      const auto fact = fact_of_.find(number);
      if (fact == fact_of_.end()) {
        return absl::InvalidArgumentError(
            absl::StrCat(where_, ": support=", number, ": no fact before the question"));
      }
      question.evidence.push_back(tasks::WholeFact(episode_, fact->second));
    }
    episode_.questions.push_back(std::move(question));
    return absl::OkStatus();
  }
  void set_where(std::string where) { where_ = std::move(where); }
  void Finish(std::vector<tasks::Episode>& stories) {
    if (!episode_.questions.empty()) stories.push_back(std::move(episode_));
    episode_ = {};
    fact_of_.clear();
  }

 private:
  std::string where_;
  std::map<int64_t, int> fact_of_;  // by line number
  tasks::Episode episode_;
};

absl::Status ReadJsonStory(const Json& json, const std::string& where, tasks::Split split,
                           BabiStories& stories) {
  const auto bad = [&](absl::string_view field) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": ", field, " is missing, or not as it should be"));
  };
  const auto text = [](const Json& object, const char* name) -> std::optional<std::string> {
    const auto found = object.find(name);
    if (found == object.end() || !found->is_string()) return std::nullopt;
    return found->get<std::string>();
  };
  const std::optional<std::string> task = text(json, "task"), id = text(json, "story_id");
  const std::optional<int> number = TaskNumber(task.value_or(""));
  if (!number.has_value()) return bad("task");
  if (!id.has_value()) return bad("story_id");
  if (!tasks::StoryInSplit(split, *id)) return absl::OkStatus();
  const auto lines = json.find("lines");
  if (lines == json.end() || !lines->is_array()) return bad("lines");

  StoryReader reader(where);
  for (const Json& line : *lines) {
    if (!line.is_object() || !line.contains("n") || !line["n"].is_number_integer()) {
      return bad("n");
    }
    if (!line.contains("question")) {
      const std::optional<std::string> fact = text(line, "text");
      if (!fact.has_value()) return bad("text");
      reader.AddFact(line["n"].get<int64_t>(), *fact);
      continue;
    }
    const std::optional<std::string> question = text(line, "question"),
                                     answer = text(line, "answer");
    if (!question.has_value()) return bad("question");
    if (!answer.has_value()) return bad("answer");
    std::vector<int64_t> support;
    if (!line.contains("support") || !line["support"].is_array()) return bad("support");
    for (const Json& value : line["support"]) {
      if (!value.is_number_integer()) return bad("support");
      support.push_back(value.get<int64_t>());
    }
    if (absl::Status status = reader.AddQuestion(*question, *answer, support); !status.ok()) {
      return status;
    }
  }
  reader.Finish(stories[*number]);
  return absl::OkStatus();
}

absl::StatusOr<BabiStories> ReadJsonLines(absl::string_view text, const std::string& path,
                                          tasks::Split split) {
  BabiStories stories;
  const absl::Status status =
      ForEachJsonLine(text, path, [&](const Json& json, const std::string& where) {
        return ReadJsonStory(json, where, split, stories);
      });
  if (!status.ok()) return status;
  return stories;
}

}  // namespace

absl::StatusOr<std::vector<tasks::Episode>> ParseBabiText(absl::string_view text,
                                                          absl::string_view path) {
  std::vector<tasks::Episode> stories;
  StoryReader reader{std::string(path)};
  int64_t line_number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::string where = absl::StrCat(path, ":", ++line_number);
    line = absl::StripAsciiWhitespace(line);
    if (line.empty()) continue;
    int64_t number;
    const size_t space = std::min(line.find(' '), line.size());
    if (!absl::SimpleAtoi(line.substr(0, space), &number) || number < 1) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": begins with no line number"));
    }
    if (number == 1) reader.Finish(stories);
    reader.set_where(where);
    const std::vector<absl::string_view> fields = absl::StrSplit(line.substr(space), '\t');
    const absl::string_view sentence = absl::StripAsciiWhitespace(fields[0]);
    if (fields.size() == 1) {
      reader.AddFact(number, sentence);
      continue;
    }
    std::vector<int64_t> support;
    for (const absl::string_view value :
         absl::StrSplit(fields.size() > 2 ? fields[2] : "", ' ', absl::SkipEmpty())) {
      if (!absl::SimpleAtoi(value, &support.emplace_back())) {
        return absl::InvalidArgumentError(absl::StrCat(where, ": support=", value, ": no number"));
      }
    }
    if (absl::Status status = reader.AddQuestion(sentence, fields[1], support); !status.ok()) {
      return status;
    }
  }
  reader.Finish(stories);
  return stories;
}

absl::StatusOr<BabiStories> ReadBabi(const std::string& path, tasks::Split split) {
  std::vector<std::string> files = {path};
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    files.clear();
    const absl::string_view ending = split == tasks::Split::kHeldOut ? "_test.txt" : "_train.txt";
    for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
      const std::string name = entry.path().filename().string();
      if (TaskNumber(name).has_value() && absl::EndsWith(name, ending)) {
        files.push_back(entry.path().string());
      }
    }
    std::sort(files.begin(), files.end());
    if (files.empty()) {
      return absl::NotFoundError(absl::StrCat(path, ": no file qaN_*", ending, " in it"));
    }
  }
  BabiStories stories;
  for (const std::string& file : files) {
    const absl::StatusOr<std::string> text = ReadTextFile(file);
    if (!text.ok()) return text.status();
    if (absl::StartsWith(*text, "{")) return ReadJsonLines(*text, file, split);
    const std::optional<int> task = TaskNumber(std::filesystem::path(file).filename().string());
    if (!task.has_value()) {
      return absl::InvalidArgumentError(
          absl::StrCat(file, ": neither named qaN_*.txt nor of JSON lines"));
    }
    absl::StatusOr<std::vector<tasks::Episode>> parsed = ParseBabiText(*text, file);
    if (!parsed.ok()) return parsed.status();
    std::move(parsed->begin(), parsed->end(), std::back_inserter(stories[*task]));
  }
  return stories;
}

}  // namespace rasq::client
