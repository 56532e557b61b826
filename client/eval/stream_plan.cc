#include "client/eval/stream_plan.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"

namespace rasq::client {
namespace {

constexpr int64_t kFirstDistance = 64;  // tokens, behind 0; each next one is four times as far

}  // namespace

absl::StatusOr<StreamPlan> PlanStream(tasks::Random& random, const Script& script,
                                      const std::vector<int64_t>& fact_tokens,
                                      int64_t length_tokens, int64_t max_questions, bool along) {
  const tasks::Episode& episode = script.episode;
  const int64_t told = std::accumulate(fact_tokens.begin(), fact_tokens.end(), int64_t{0});
  if (script.facts_alone) length_tokens = told;
  if (told > length_tokens) {
    return absl::OutOfRangeError(absl::StrCat("length=", length_tokens, " tokens: the ",
                                              fact_tokens.size(), " facts take ", told,
                                              ": ask for fewer with --facts"));
  }
  std::vector<int64_t> places(fact_tokens.size());
  for (int64_t& place : places) place = random.Between(0, length_tokens - told);
  std::sort(places.begin(), places.end());
  StreamPlan plan{.length_tokens = length_tokens};
  int64_t told_before = 0;
  for (size_t i = 0; i < places.size(); ++i) {
    plan.facts.push_back({.fact = static_cast<int>(i), .position_tokens = places[i] + told_before});
    told_before += fact_tokens[i];
  }

  const auto num_facts = static_cast<int>(episode.facts.size());
  std::vector<int> chosen;
  std::set<std::string> asked;  // two wordings may come out the same
  for (size_t i = 0; i < episode.questions.size(); ++i) {
    const tasks::Question& question = episode.questions[i];
    if (!along && (question.until_fact < num_facts || !asked.insert(question.text).second)) {
      continue;
    }
    chosen.push_back(static_cast<int>(i));
  }
  random.Shuffle(chosen);
  std::map<std::string, int64_t> asked_of;  // by task
  std::erase_if(chosen, [&](int i) { return ++asked_of[script.tasks[i]] > max_questions; });
  for (const int i : chosen) {
    if (!along) {
      plan.questions.push_back(
          {.question = i, .position_tokens = length_tokens, .distance_tokens = std::nullopt});
      continue;
    }
    const tasks::Question& question = episode.questions[i];
    const int newest = question.after_fact - 1;
    const int64_t from = plan.facts[newest].position_tokens + fact_tokens[newest];
    const int64_t until = question.until_fact < num_facts
                              ? plan.facts[question.until_fact].position_tokens
                              : length_tokens;
    for (int64_t distance = 0; from + distance <= until;
         distance = distance == 0 ? kFirstDistance : 4 * distance) {
      plan.questions.push_back(
          {.question = i, .position_tokens = from + distance, .distance_tokens = distance});
    }
  }
  std::stable_sort(plan.questions.begin(), plan.questions.end(), [](const auto& a, const auto& b) {
    return a.position_tokens < b.position_tokens;
  });
  return plan;
}

}  // namespace rasq::client
