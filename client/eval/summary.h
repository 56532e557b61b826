// What is right per strategy, task and length.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client/eval/memory_metrics.h"
#include "client/eval/results.h"

namespace rasq::client {

inline constexpr char kAllTasks[] = "all";

struct SummaryCell {
  std::string strategy, task;
  int64_t length;                         // tokens
  Share share;                            // exact matches
  double f1 = 0, rouge_l = 0;             // means
  double bleu = 0;                        // of all answers together
  std::optional<double> evidence_recall;  // mean over questions with evidence behind the window
};
// Strategies and tasks in the order in which runs asked for them, lengths ascending; and, for a
// strategy with several tasks, those of all together as task kAllTasks. What is asked along the
// stream is left out: adaptation is not memory.
std::vector<SummaryCell> Summarise(const Results& results);

// Exact match; a row a task, a column a length.
std::string SummaryTable(const Results& results);

}  // namespace rasq::client
