// How right an answer is, by all measures that are of a single answer.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "client/eval/results.h"
#include "client/tasks/episode.h"

namespace rasq::client {

// Sets got, score, exact, f1 and babilong. Of questions with several right answers exact match and
// F1 are the best over them (Rajpurkar et al. 2016, arXiv:1606.05250).
void Judge(const tasks::Question& question, absl::string_view task, std::string got,
           QuestionResult* result);

}  // namespace rasq::client
