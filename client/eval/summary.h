// What is right per strategy, task and length.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client/eval/results.h"
#include "client/eval/spread.h"

namespace rasq::client {

inline constexpr char kAllTasks[] = "all";

struct SummaryCell {
  std::string method, task;  // StreamKey::Method
  int64_t length;            // tokens
  int64_t questions = 0;
  Mean score, exact, f1, rouge_l;
  Mean bleu;                            // of all answers together
  std::optional<Mean> babilong;         // of questions that it judges
  std::optional<Mean> evidence_recall;  // of questions with evidence behind the window
};
// Methods and tasks in the order in which runs asked for them, lengths ascending; and, for a
// method with several tasks, those of all together as task kAllTasks. What is asked along the
// stream is left out: adaptation is not memory.
std::vector<SummaryCell> Summarise(const Results& results);

// Scores, a row a task, a column a length; and below them perplexity, adaptation and refusals, if
// there are any.
std::string SummaryTable(const Results& results);

}  // namespace rasq::client
