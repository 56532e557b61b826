#include "client/eval/task_set.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/commands/flags.h"
#include "client/eval/passages.h"
#include "client/eval/perplexity.h"
#include "client/tasks/news.h"
#include "client/tasks/stories.h"
#include "client/tasks/tasks.h"

namespace rasq::client {
namespace {

using tasks::Episode;
using tasks::Random;

bool IsRuler(const std::string& name) {
  const std::vector<std::string>& all = RulerNames();
  return std::find(all.begin(), all.end(), name) != all.end();
}
bool IsOfPassages(absl::string_view name) { return name == "squad" || name == "ruler_qa"; }

// A story up to one of its questions, and all that it asks there.
Episode PickStory(Random& random, const std::vector<Episode>& stories) {
  Episode episode = random.Pick(stories);
  const int told = random.Pick(episode.questions).after_fact;
  episode.facts.resize(told);
  std::erase_if(episode.questions, [&](const tasks::Question& q) { return q.after_fact != told; });
  return episode;
}

}  // namespace

int BabiTask(absl::string_view name) {
  int number = 0;
  return absl::ConsumePrefix(&name, "qa") && absl::SimpleAtoi(name, &number) ? number : 0;
}

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
  if (!options_.passages.empty()) names.emplace_back("squad");
  names.insert(names.end(), RulerNames().begin(), RulerNames().end());
  if (!options_.passages.empty()) names.emplace_back("ruler_qa");
  names.emplace_back(kPerplexityTask);
  return names;
}

absl::Status TaskSet::CheckShared(const std::string& names) const {
  const std::vector<std::string> known = Names(), parts = absl::StrSplit(names, '+');
  int stories = 0;
  for (const std::string& name : parts) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      return UsageError(
          absl::StrCat("--tasks: ", name, " is not among ", absl::StrJoin(known, ", ")));
    }
    if (parts.size() == 1) continue;
    if (name == kPerplexityTask) {
      return UsageError(absl::StrCat("--tasks: ", names, ": ", name, " is of text alone"));
    }
    if (IsOfPassages(name) || (IsRuler(name) && RulerTextIsOwn(name, options_.ruler))) {
      return UsageError(absl::StrCat("--tasks: ", names, ": ", name, " has text of its own"));
    }
    stories += name == "stories" || BabiTask(name) > 0 ? 1 : 0;
    if (stories > 1 || std::count(parts.begin(), parts.end(), name) > 1) {
      return UsageError(absl::StrCat("--tasks: ", names, ": ", name,
                                     " would contradict another task of the stream"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> TaskSet::Resolve(
    const std::vector<std::string>& list) const {
  std::vector<std::string> names;
  for (const std::string& name : Names()) {
    const bool ruler = absl::StartsWith(name, "ruler_");
    const bool scored = name == kPerplexityTask;
    if (list.empty() ? !ruler && !scored
                     : ruler && std::count(list.begin(), list.end(), "ruler") > 0) {
      names.push_back(name);
    }
  }
  for (const std::string& name : list) {
    if (name == "ruler") continue;
    if (absl::Status status = CheckShared(name); !status.ok()) return status;
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

Episode TaskSet::MakeOnce(absl::string_view name, Random& random) const {
  const int32_t num_facts = options_.num_facts;
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

absl::StatusOr<Script> TaskSet::MakePart(const std::string& name, int64_t stream,
                                         int64_t length_tokens,
                                         const TokenCounter& count_tokens) const {
  if (name == kPerplexityTask) return Script{.scored = true};
  Random random = StreamRandom(options_.seed, name, stream);
  if (IsOfPassages(name)) return MakePassages(name, random, options_.passages, length_tokens);
  if (IsRuler(name)) {
    return MakeRuler(name, random, options_.split, options_.ruler, length_tokens, count_tokens);
  }
  for (;;) {
    Episode episode = MakeOnce(name, random);
    // A few news items may have no update among them.
    if (!episode.questions.empty()) return ScriptOf(std::move(episode), name);
  }
}

absl::StatusOr<Script> TaskSet::Make(const std::string& name, int64_t stream, int64_t length_tokens,
                                     const TokenCounter& count_tokens) const {
  const std::vector<std::string> parts = absl::StrSplit(name, '+');
  absl::StatusOr<Script> script = MakePart(parts[0], stream, length_tokens, count_tokens);
  Random random = StreamRandom(options_.seed, name, stream);
  for (size_t i = 1; i < parts.size() && script.ok(); ++i) {
    const absl::StatusOr<Script> part = MakePart(parts[i], stream, length_tokens, count_tokens);
    if (!part.ok()) return part.status();
    script = Merge(random, *script, *part);
  }
  return script;
}

}  // namespace rasq::client
