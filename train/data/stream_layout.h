// Lays an episode out as a stream of tokens: facts between slices of real text, questions where
// the model can answer them, and what a training step needs to know about both.
//
// The last token of every question begins a segment: the first answer token is predicted from it,
// so it must read what the question retrieved (as the server does when a generation begins).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "client/tasks/episode.h"
#include "client/tasks/random.h"
#include "engine/tokenizer/tokenizer.h"
#include "train/data/corpus.h"

namespace rasq::train {

struct TrainingStream {
  std::vector<int32_t> tokens;  // [num_tokens], the first is BOS if the tokenizer has one
  std::vector<float> weights;   // [num_tokens], of the loss of predicting this token
  struct Evidence {
    int32_t segment;                 // that predicts the answer's first token
    std::vector<int32_t> positions;  // of the tokens that it should read, ascending
  };
  std::vector<Evidence> evidence;  // one for each answer, in the same order
  struct Answer {
    int32_t begin, end;  // tokens; begin % segment_tokens == 1
    int32_t task;        // a StreamTask
  };
  std::vector<Answer> answers;
};

// Weights of the losses: text between and in facts, text that only fills up a segment before a
// question or after the last answer (and the question itself), answers, streams of text alone.
inline constexpr float kTextWeight = 0.5f;
inline constexpr float kPaddingWeight = 0.3f;
inline constexpr float kAnswerWeight = 20.0f;
inline constexpr float kPlainWeight = 1.0f;

// An episode, perhaps put together from several, and the task that each question belongs to.
struct MixedEpisode {
  tasks::Episode episode;
  std::vector<int32_t> tasks;  // [questions]
};

// Mixes the facts of `added` into those of `mixed`, each in its order; questions keep the places
// where they may be asked.
void MixIn(tasks::Random& random, const tasks::Episode& added, int32_t task, MixedEpisode& mixed);

struct LayoutOptions {
  int64_t num_tokens;
  int32_t segment_tokens = 64;
  int64_t max_questions = 16;  // of the episode's, chosen at random
  tasks::Split split = tasks::Split::kTraining;
  bool keep_together = false;  // the facts follow one another, as the turns of a dialogue do
};

class StreamLayout {
 public:
  // Both are borrowed, and may be used by many threads.
  StreamLayout(const Tokenizer* tokenizer, const Corpus* corpus);

  // Nothing if the episode does not fit.
  std::optional<TrainingStream> LayOut(tasks::Random& random, const MixedEpisode& mixed,
                                       const LayoutOptions& options) const;
  // Text alone, from one place of the corpus on.
  TrainingStream Plain(tasks::Random& random, int64_t num_tokens) const;

 private:
  const Tokenizer* tokenizer_;
  const Corpus* corpus_;
  std::vector<bool> ends_sentence_;  // by token id
};

}  // namespace rasq::train
