// An endless supply of training streams: tasks in the proportions asked for, in text of a corpus.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/tasks/episode.h"
#include "client/tasks/lexicon.h"
#include "client/tasks/random.h"
#include "client/tasks/tasks.h"
#include "engine/tokenizer/tokenizer.h"
#include "train/data/babi.h"
#include "train/data/corpus.h"
#include "train/data/stream_layout.h"

namespace rasq::train {

enum StreamTask : int32_t {
  kTextStream,  // of a plain stream; no answer has it
  kKeyValuesStream,
  kPeopleStream,
  kNewsStream,
  kVariableChainsStream,
  kDialogueStream,
  kStoriesStream,  // made up
  kBabiStream,     // from a file
  kSpansStream,    // questions about passages
  kSlotsStream,    // questions about dialogues from a file
  kNumStreamTasks,
};
absl::string_view StreamTaskName(StreamTask task);

struct MixtureOptions {
  uint64_t seed = 1;
  tasks::Split split = tasks::Split::kTraining;
  int32_t segment_tokens = 64;
  // How often each task comes, relative to each other; 0: never. Those for which there is no data
  // count as 0. Updates and stories are learned late, so they come more often.
  std::array<double, kNumStreamTasks> weights = {1, 2, 2.5, 3, 1.2, 1, 4, 2, 1, 0.3};
  double second_episode = 0.3;  // share of streams with two tasks mixed, where there is room
};

// What streams are made of.
struct MixtureData {
  const Tokenizer* tokenizer = nullptr;  // borrowed, as is the corpus
  const Corpus* corpus = nullptr;
  const tasks::Lexicon* lexicon = &tasks::Lexicon::BuiltIn();  // borrowed
  std::vector<BabiStory> babi;
  std::vector<tasks::Episode> passages;   // of one fact each
  std::vector<tasks::Episode> dialogues;  // whose facts follow one another
};

class StreamMixture {
 public:
  // kInvalidArgument if a weight is negative or none is left above 0, if segments have fewer than
  // 8 tokens, or if there is no tokenizer or text.
  static absl::StatusOr<StreamMixture> Create(MixtureData data, const MixtureOptions& options);

  // Stream number `index` >= 0, of exactly `num_tokens` > 0: a function of seed, index and
  // num_tokens, whichever thread calls. Falls back on fewer facts, and then on plain text, where a
  // task does not fit.
  TrainingStream Make(int64_t index, int64_t num_tokens) const;

 private:
  StreamMixture(MixtureData data, const MixtureOptions& options);

  StreamTask PickTask(tasks::Random& random) const;
  tasks::Episode MakeEpisode(StreamTask task, tasks::Random& random, int num_facts) const;
  tasks::Episode PickBabi(tasks::Random& random) const;
  tasks::Episode PickPassages(tasks::Random& random, int num_facts) const;

  MixtureData data_;
  MixtureOptions options_;
  StreamLayout layout_;
  std::array<std::vector<int32_t>, kNumBabiTasks> babi_of_task_;  // indices
};

}  // namespace rasq::train
