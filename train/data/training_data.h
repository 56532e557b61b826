// A folder of texts and questions, by the names of its files:
//   babi*.jsonl       stories (babi.h)
//   qa_*.jsonl, *.json  questions about passages (span_questions.h)
//   dialogue_*.jsonl  dialogues: their turns are text, their slots, where they have any, questions
//   *.txt             text
// each plain or compressed (.xz).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/json_reader.h"
#include "train/data/stream_mixture.h"

namespace rasq::train {

class TrainingData {
 public:
  // Borrows the tokenizer. Errors name the file; kInvalidArgument if there is no text.
  static absl::StatusOr<std::unique_ptr<TrainingData>> Load(const std::string& directory,
                                                            const Tokenizer& tokenizer,
                                                            tasks::Split split, int num_threads);

  // Streams of these data. `proportions` is an object with the weights of tasks, by the names of
  // StreamTaskName; the others are 0. Null: MixtureOptions' own. Borrows the data.
  absl::StatusOr<std::shared_ptr<const StreamMixture>> Mix(const Json& proportions, uint64_t seed,
                                                           int32_t segment_tokens) const;

  // The texts of a directory alone, dialogues included. Errors as Load's.
  static absl::StatusOr<std::vector<Document>> ReadDocuments(const std::string& directory,
                                                             tasks::Split split);

  int64_t num_text_tokens() const { return corpus_->num_tokens(); }

 private:
  TrainingData() = default;
  MixtureData data_;
  tasks::Split split_ = tasks::Split::kTraining;
  std::unique_ptr<Corpus> corpus_;
  std::unique_ptr<tasks::Lexicon> lexicon_;  // harvested from the texts
};

}  // namespace rasq::train
