// The real text between facts, as tokens.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/tasks/episode.h"
#include "client/tasks/random.h"
#include "engine/tokenizer/tokenizer.h"
#include "train/data/text_file.h"

namespace rasq::train {

class Corpus {
 public:
  // The documents of all files (*.txt, and the dialogues of *.jsonl; both also with .xz) that
  // belong to the split, tokenised by `num_threads`; the result does not depend on their number.
  // Errors name the file; kInvalidArgument if no token is left.
  static absl::StatusOr<Corpus> Load(const std::vector<std::string>& paths,
                                     const Tokenizer& tokenizer, tasks::Split split,
                                     int num_threads);
  // The same from documents, whatever split they are of. REQUIRES: some text.
  static Corpus FromDocuments(const std::vector<Document>& documents, const Tokenizer& tokenizer,
                              int num_threads);

  int64_t num_tokens() const { return static_cast<int64_t>(tokens_.size()); }
  absl::Span<const int32_t> tokens() const { return tokens_; }
  // Where documents begin, ascending, the first at 0.
  absl::Span<const int64_t> document_starts() const { return document_starts_; }

  // Appends `count` tokens from a random place on, across documents, from the end on to the begin;
  // or in a few pieces from places as far from each other as can be, so of several files. No token
  // comes twice unless there are fewer than `count`.
  void AppendSlice(tasks::Random& random, int64_t count, std::vector<int32_t>& tokens) const;

 private:
  // From the place `from` on, around the end.
  void AppendRun(int64_t from, int64_t count, std::vector<int32_t>& tokens) const;

  std::vector<int32_t> tokens_;
  std::vector<int64_t> document_starts_;
};

}  // namespace rasq::train
