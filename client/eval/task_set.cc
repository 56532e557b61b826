#include "client/eval/task_set.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "client/commands/flags.h"
#include "client/tasks/news.h"
#include "client/tasks/stories.h"
#include "client/tasks/tasks.h"

namespace rasq::client {
namespace {

using tasks::Episode;
using tasks::Random;

// 3 of "qa3", 0 of other tasks.
int BabiTask(absl::string_view name) {
  int number = 0;
  return absl::ConsumePrefix(&name, "qa") && absl::SimpleAtoi(name, &number) ? number : 0;
}

// A story up to one of its questions, and all that it asks there.
Episode PickStory(Random& random, const std::vector<Episode>& stories) {
  Episode episode = random.Pick(stories);
  const int told = random.Pick(episode.questions).after_fact;
  episode.facts.resize(told);
  std::erase_if(episode.questions, [&](const tasks::Question& q) { return q.after_fact != told; });
  return episode;
}

}  // namespace

Random StreamRandom(int64_t seed, absl::string_view use, int64_t stream) {
  uint64_t hash = 0xCBF29CE484222325u;  // FNV-1a
  for (const char c : use) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3u;
  const uint64_t of_seed = Random(static_cast<uint64_t>(seed)).Next();
  const uint64_t of_stream = Random(static_cast<uint64_t>(stream)).Next();
  return Random(Random(of_seed ^ hash).Next() ^ of_stream);
}

std::vector<std::string> TaskSet::Names() const {
  if (options_.along) return {"news"};
  std::vector<std::string> names;
  for (const tasks::Task task : tasks::kTasks) names.emplace_back(tasks::TaskName(task));
  for (int task = 1; options_.babi.empty() && task <= 5; ++task) {
    names.push_back(absl::StrCat("qa", task));
  }
  for (const auto& [task, stories] : options_.babi) {
    if (!stories.empty()) names.push_back(absl::StrCat("qa", task));
  }
  return names;
}

absl::Status TaskSet::Check(const std::vector<std::string>& names) const {
  const std::vector<std::string> known = Names();
  for (const std::string& name : names) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    return UsageError(
        absl::StrCat("--tasks: ", name, " is not among ", absl::StrJoin(known, ", ")));
  }
  return absl::OkStatus();
}

Episode TaskSet::MakeOnce(absl::string_view name, Random& random) const {
  const auto num_facts = static_cast<int>(options_.num_facts);
  const tasks::Source from = {random, options_.split, tasks::Lexicon::BuiltIn()};
  if (options_.along) return tasks::MakeNewsUpdates(from, num_facts);
  if (const int kind = BabiTask(name); kind > 0) {
    if (!options_.babi.empty()) return PickStory(random, options_.babi.at(kind));
    return tasks::MakeStory(from, {.kind = kind, .babi_words = true, .ask_at_end = true});
  }
  for (const tasks::Task task : tasks::kTasks) {
    if (tasks::TaskName(task) != name) continue;
    if (task != tasks::Task::kStories) {
      return tasks::MakeEpisode(task, from, num_facts);
    }
  }
  // Stories in other words than bAbI's.
  return tasks::MakeStory(from, {.ask_at_end = true});
}

Episode TaskSet::Make(absl::string_view name, int64_t stream) const {
  Random random = StreamRandom(options_.seed, name, stream);
  for (;;) {
    Episode episode = MakeOnce(name, random);
    // A few news items may have no update among them.
    if (!episode.questions.empty()) return episode;
  }
}

}  // namespace rasq::client
