#include "client/eval/judge.h"

#include <algorithm>
#include <utility>

#include "client/eval/answer_metrics.h"
#include "client/eval/task_set.h"

namespace rasq::client {
namespace {

double Score(const tasks::Question& question, const std::string& got, bool exact) {
  if (question.judged == tasks::Judged::kEqual || question.references.empty()) {
    return exact ? 1 : 0;
  }
  const double share = ContainedShare(got, question.references);
  return question.judged == tasks::Judged::kContainsAny && share > 0 ? 1 : share;
}

}  // namespace

void Judge(const tasks::Question& question, absl::string_view task, std::string got,
           QuestionResult* result) {
  result->exact = ExactMatch(got, question.answer);
  result->f1 = TokenF1(got, question.answer);
  if (question.judged != tasks::Judged::kContainsAll) {
    for (const std::string& reference : question.references) {
      result->exact = result->exact || ExactMatch(got, reference);
      result->f1 = std::max(result->f1, TokenF1(got, reference));
    }
  }
  result->score = Score(question, got, result->exact);
  if (const auto match = BabilongMatch(BabiTask(task), question.text, got, question.answer);
      match.has_value()) {
    result->babilong = *match ? 1 : 0;
  }
  result->got = std::move(got);
}

}  // namespace rasq::client
