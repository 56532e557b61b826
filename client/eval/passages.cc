#include "client/eval/passages.h"

#include <memory>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"

namespace rasq::client {
namespace {

constexpr size_t kPassages = 4;           // about 600 tokens: they fit in the shortest streams
constexpr int64_t kMaxBytesPerToken = 8;  // more text than is needed

}  // namespace

absl::StatusOr<Script> MakePassages(const std::string& name, tasks::Random& random,
                                    const std::vector<tasks::Episode>& passages,
                                    int64_t length_tokens) {
  const bool ruler = name == "ruler_qa";
  const size_t wanted = ruler ? 1 : kPassages;
  std::vector<size_t> order(passages.size());
  std::iota(order.begin(), order.end(), size_t{0});
  random.Shuffle(order);

  tasks::Episode episode;
  std::vector<std::string> others;
  int64_t bytes = 0;
  for (const size_t i : order) {
    const tasks::Episode& passage = passages[i];
    if (episode.facts.size() < wanted && !passage.questions.empty()) {
      episode.facts.push_back(passage.facts[0]);
      for (tasks::Question question : passage.questions) {
        question.evidence = {tasks::WholeFact(episode, static_cast<int>(episode.facts.size()) - 1)};
        if (ruler) question.judged = tasks::Judged::kContainsAny;
        episode.questions.push_back(std::move(question));
      }
    } else if (bytes < kMaxBytesPerToken * length_tokens) {
      others.push_back(passage.facts[0]);
      bytes += static_cast<int64_t>(passage.facts[0].size());
    }
  }
  if (others.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("passages=", passages.size(), ": ", name,
                                                   " wants more than ", wanted, " of a split"));
  }
  tasks::LetAnswersHoldToTheEnd(episode);
  Script script = ScriptOf(std::move(episode), name);
  script.own_text = std::make_shared<Haystack>(Haystack::FromLines(others));
  return script;
}

}  // namespace rasq::client
