// All tasks by name, and the frames in which questions are put.
#pragma once

#include <array>
#include <string>

#include "absl/strings/string_view.h"
#include "client/tasks/episode.h"
#include "client/tasks/lexicon.h"
#include "client/tasks/random.h"

namespace rasq::tasks {

enum class Task { kKeyValues, kPeople, kNews, kVariableChains, kDialogue, kStories };
inline constexpr std::array<Task, 6> kTasks = {Task::kKeyValues, Task::kPeople,
                                               Task::kNews,      Task::kVariableChains,
                                               Task::kDialogue,  Task::kStories};
absl::string_view TaskName(Task task);

// An episode of about `num_facts` > 0 facts, the same for the same state of `from.random` and the
// same lexicon. Stories may be in bAbI's words and lengths, whatever `num_facts` is.
Episode MakeEpisode(Task task, const Source& from, int num_facts);

// What stands around a question and behind its answer: opening + question + closing, and
// " " + answer + end.
struct Frame {
  absl::string_view opening, closing, end;
};
// "\nQuestion: ...\nAnswer:", in which the evaluation asks everything.
Frame MainFrame();
// The main one most of the time; others in training.
Frame PickFrame(Random& random, Split split);

}  // namespace rasq::tasks
