#include "client/eval/script.h"

#include <algorithm>
#include <array>
#include <utility>

namespace rasq::client {

Script ScriptOf(tasks::Episode episode, const std::string& task) {
  Script script{.episode = std::move(episode)};
  script.tasks.assign(script.episode.questions.size(), task);
  return script;
}

Script Merge(tasks::Random& random, const Script& a, const Script& b) {
  const std::array<const Script*, 2> both = {&a, &b};
  std::vector<size_t> order(a.episode.facts.size(), 0);  // whose fact is told next
  order.insert(order.end(), b.episode.facts.size(), 1);
  random.Shuffle(order);
  Script merged;
  std::array<std::vector<int>, 2> place;  // of each fact
  for (const size_t whose : order) {
    place[whose].push_back(static_cast<int>(merged.episode.facts.size()));
    merged.episode.facts.push_back(both[whose]->episode.facts[place[whose].size() - 1]);
  }
  for (size_t whose = 0; whose < both.size(); ++whose) {
    const std::vector<int>& places = place[whose];
    merged.tasks.insert(merged.tasks.end(), both[whose]->tasks.begin(), both[whose]->tasks.end());
    for (tasks::Question question : both[whose]->episode.questions) {
      for (tasks::Span& span : question.evidence) span.fact = places[span.fact];
      if (question.after_fact > 0) question.after_fact = places[question.after_fact - 1] + 1;
      // Up to before the fact that gives it another answer.
      question.until_fact = static_cast<size_t>(question.until_fact) < places.size()
                                ? places[question.until_fact]
                                : static_cast<int>(order.size());
      merged.episode.questions.push_back(std::move(question));
    }
    for (tasks::Statement statement : both[whose]->episode.statements) {
      statement.fact = places[statement.fact];
      merged.episode.statements.push_back(std::move(statement));
    }
  }
  std::stable_sort(merged.episode.statements.begin(), merged.episode.statements.end(),
                   [](const auto& x, const auto& y) { return x.fact < y.fact; });
  return merged;
}

}  // namespace rasq::client
