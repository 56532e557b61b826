// Questions whose answers are spans of a passage: SQuAD's own JSON (Rajpurkar et al. 2016,
// arXiv:1606.05250), or JSON lines {"title", "context", "qas": [{"question", "answers": [{"text",
// "start"}]}]}, with offsets in characters.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/tasks/episode.h"

namespace rasq::train {

// Passages of the split (by title), each an episode with one fact. The evidence is the sentence
// that holds the answer. Questions without an answer are left out, and passages without questions.
// Errors name the file, the line or paragraph, and the field.
absl::StatusOr<std::vector<tasks::Episode>> ReadSpanQuestions(const std::string& path,
                                                              tasks::Split split);

}  // namespace rasq::train
