// What a stream tells and asks, of one task or of several.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "client/eval/haystack.h"
#include "client/tasks/episode.h"
#include "client/tasks/random.h"

namespace rasq::client {

struct Script {
  tasks::Episode episode;
  std::vector<std::string> tasks;  // that each question is of
  // Between the facts stands the text of the run, or the script's own, or none at all.
  std::shared_ptr<const Haystack> own_text;
  bool facts_alone = false;
  bool scored = false;  // nothing is told or asked: the end of the text is scored
};

Script ScriptOf(tasks::Episode episode, const std::string& task);

// Tells all facts of both, each one's in their order, and asks all questions. REQUIRES: both stand
// in the text of the run.
Script Merge(tasks::Random& random, const Script& a, const Script& b);

}  // namespace rasq::client
