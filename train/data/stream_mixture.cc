#include "train/data/stream_mixture.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace rasq::train {
namespace {

using tasks::Episode;
using tasks::Random;

constexpr int32_t kMinSegmentTokens = 8;
constexpr double kFirstFiveBabi = 0.75;  // share of bAbI's tasks 1 to 5 among its stories
constexpr int64_t kTokensPerFact = 40;   // of a stream, at most so many facts
constexpr int64_t kMinFacts = 4;
constexpr int64_t kMaxFacts = 400;
constexpr int64_t kMaxQuestions = 40;
constexpr int64_t kRoomForTwo = 2048;  // tokens

// Of made-up tasks.
tasks::Task TaskOf(StreamTask task) { return tasks::kTasks[task - kKeyValuesStream]; }
static_assert(kStoriesStream - kKeyValuesStream + 1 == tasks::kTasks.size());

// Facts of both may be told between each other: what the others say is about something else.
bool MayMix(StreamTask task) { return task >= kKeyValuesStream && task <= kVariableChainsStream; }

}  // namespace

absl::string_view StreamTaskName(StreamTask task) {
  switch (task) {
    case kTextStream:
      return "text";
    case kBabiStream:
      return "babi";
    case kSpansStream:
      return "spans";
    case kSlotsStream:
      return "slots";
    default:
      return tasks::TaskName(TaskOf(task));
  }
}

absl::StatusOr<StreamMixture> StreamMixture::Create(MixtureData data,
                                                    const MixtureOptions& options) {
  if (data.tokenizer == nullptr || data.corpus == nullptr || data.corpus->num_tokens() == 0) {
    return absl::InvalidArgumentError("a mixture needs a tokenizer and text");
  }
  if (options.segment_tokens < kMinSegmentTokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("segment_tokens=", options.segment_tokens, " is below ", kMinSegmentTokens));
  }
  StreamMixture mixture(std::move(data), options);
  double sum = 0;
  for (const double weight : mixture.options_.weights) {
    if (!(weight >= 0)) {
      return absl::InvalidArgumentError(absl::StrCat("weight=", weight, " of a task"));
    }
    sum += weight;
  }
  if (!(sum > 0)) return absl::InvalidArgumentError("no task has a weight above 0");
  return mixture;
}

StreamMixture::StreamMixture(MixtureData data, const MixtureOptions& options)
    : data_(std::move(data)), options_(options), layout_(data_.tokenizer, data_.corpus) {
  for (size_t i = 0; i < data_.babi.size(); ++i) {
    babi_of_task_[data_.babi[i].task - 1].push_back(static_cast<int32_t>(i));
  }
  if (data_.babi.empty()) options_.weights[kBabiStream] = 0;
  if (data_.passages.empty()) options_.weights[kSpansStream] = 0;
  if (data_.dialogues.empty()) options_.weights[kSlotsStream] = 0;
}

StreamTask StreamMixture::PickTask(Random& random) const {
  double sum = 0;
  for (const double weight : options_.weights) sum += weight;
  double dice = random.Unit() * sum;
  int32_t task = 0, last = 0;
  for (; task < kNumStreamTasks; ++task) {
    if (options_.weights[task] == 0) continue;
    last = task;
    dice -= options_.weights[task];
    if (dice < 0) break;
  }
  return static_cast<StreamTask>(last);
}

Episode StreamMixture::PickBabi(Random& random) const {
  std::array<int, kNumBabiTasks> present;
  int first_five = 0, all = 0;
  for (int task = 0; task < kNumBabiTasks; ++task) {
    if (babi_of_task_[task].empty()) continue;
    present[all++] = task;
    first_five += task < 5 ? 1 : 0;
  }
  const bool low = first_five > 0 && (first_five == all || random.Chance(kFirstFiveBabi));
  const int pick =
      static_cast<int>(low ? random.Below(first_five) : random.Between(first_five, all - 1));
  Episode episode = data_.babi[random.Pick(babi_of_task_[present[pick]])].episode;
  // Along the story; or one question, at the end of what it is about.
  if (random.Chance(0.5)) {
    tasks::Question question = random.Pick(episode.questions);
    episode.facts.resize(question.after_fact);
    episode.questions = {std::move(question)};
  }
  return episode;
}

Episode StreamMixture::PickPassages(Random& random, int num_facts) const {
  MixedEpisode mixed;
  const int64_t count = std::max(1, num_facts / 6);  // they are longer than made-up facts
  for (int64_t i = 0; i < count; ++i) MixIn(random, random.Pick(data_.passages), 0, mixed);
  return std::move(mixed.episode);
}

Episode StreamMixture::MakeEpisode(StreamTask task, Random& random, int num_facts) const {
  switch (task) {
    case kBabiStream:
      return PickBabi(random);
    case kSpansStream:
      return PickPassages(random, num_facts);
    case kSlotsStream:
      return random.Pick(data_.dialogues);
    default:
      return tasks::MakeEpisode(TaskOf(task), {random, options_.split, *data_.lexicon}, num_facts);
  }
}

TrainingStream StreamMixture::Make(int64_t index, int64_t num_tokens) const {
  // Neighbouring states of splitmix64 give unrelated numbers, but the streams of one seed must not
  // be those of the next, shifted.
  Random seeds(options_.seed);
  Random random(seeds.Next() ^ Random(static_cast<uint64_t>(index)).Next());
  const StreamTask task = PickTask(random);
  if (task == kTextStream) return layout_.Plain(random, num_tokens);

  const int64_t room = std::clamp<int64_t>(num_tokens / kTokensPerFact, kMinFacts, kMaxFacts);
  // As often few as many: of long streams some have more facts than a bounded memory has room for.
  int num_facts = static_cast<int>(1 + random.LogUniform(room - 1));
  const bool may_mix = MayMix(task) && num_tokens >= kRoomForTwo;
  const LayoutOptions layout = {
      .num_tokens = num_tokens,
      .segment_tokens = options_.segment_tokens,
      .max_questions = random.Between(
          3, std::clamp<int64_t>(num_tokens * 2 / (5 * options_.segment_tokens), 5, kMaxQuestions)),
      .split = options_.split,
      .keep_together = task == kSlotsStream || (task == kDialogueStream && random.Chance(0.5))};
  // Each try asks for fewer facts; what has a size of its own is drawn anew.
  constexpr int kTries = 6;
  for (int i = 0; i < kTries; ++i, num_facts = std::max(1, num_facts / 2)) {
    MixedEpisode mixed{.episode = MakeEpisode(task, random, num_facts)};
    mixed.tasks.assign(mixed.episode.questions.size(), task);
    if (may_mix && i == 0 && random.Chance(options_.second_episode)) {
      const StreamTask other = PickTask(random);
      if (other != task && other != kTextStream && other != kSlotsStream) {
        MixIn(random, MakeEpisode(other, random, num_facts), other, mixed);
      }
    }
    if (std::optional<TrainingStream> stream = layout_.LayOut(random, mixed, layout)) {
      return *std::move(stream);
    }
  }
  return layout_.Plain(random, num_tokens);
}

}  // namespace rasq::train
