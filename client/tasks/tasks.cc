#include "client/tasks/tasks.h"

#include "client/tasks/dialogue.h"
#include "client/tasks/key_values.h"
#include "client/tasks/news.h"
#include "client/tasks/people.h"
#include "client/tasks/stories.h"
#include "client/tasks/variable_chains.h"

namespace rasq::tasks {
namespace {

constexpr Frame kMainFrame = {"\nQuestion: ", "\nAnswer:", "\n"};
constexpr std::array<Frame, 7> kOtherFrames = {{{"\nQ: ", "\nA:", "\n"},
                                                {"\n\nQuestion: ", "\n\nAnswer:", "\n\n"},
                                                {"\nUser: ", "\nAssistant:", "\n"},
                                                {"\n", "\nAnswer:", "\n"},
                                                {"\nquestion: ", " answer:", "\n"},
                                                {"\n[question] ", "\n[answer]", "\n"},
                                                {"\nReader: ", "\nReply:", "\n"}}};

}  // namespace

absl::string_view TaskName(Task task) {
  switch (task) {
    case Task::kKeyValues:
      return "key_values";
    case Task::kPeople:
      return "people";
    case Task::kNews:
      return "news";
    case Task::kVariableChains:
      return "variable_chains";
    case Task::kDialogue:
      return "dialogue";
    case Task::kStories:
      return "stories";
  }
  return "";
}

Episode MakeEpisode(Task task, Random& random, Split split, int num_facts) {
  switch (task) {
    case Task::kKeyValues:
      return MakeKeyValues(random, split, num_facts);
    case Task::kPeople:
      return MakePeople(random, split, num_facts);
    case Task::kNews:
      return MakeNews(random, split, num_facts);
    case Task::kVariableChains:
      return MakeVariableChains(random, split, num_facts);
    case Task::kDialogue:
      return MakeDialogue(random, split, num_facts);
    case Task::kStories:
      break;
  }
  // Chosen one after another: arguments have no order of evaluation.
  StoryOptions options;
  options.babi_words = random.Chance(0.5);
  options.ask_at_end = random.Chance(0.5);
  if (random.Chance(options.babi_words ? 0.3 : 0.5)) options.num_facts = num_facts;
  return MakeStory(random, split, options);
}

Frame MainFrame() { return kMainFrame; }

Frame PickFrame(Random& random, Split split) {
  if (split == Split::kHeldOut || random.Chance(0.85)) return kMainFrame;
  return random.Pick(kOtherFrames);
}

}  // namespace rasq::tasks
