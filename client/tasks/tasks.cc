#include "client/tasks/tasks.h"

#include "client/tasks/dialogue.h"
#include "client/tasks/key_values.h"
#include "client/tasks/news.h"
#include "client/tasks/people.h"
#include "client/tasks/stories.h"
#include "client/tasks/variable_chains.h"

namespace rasq::tasks {
namespace {

constexpr double kMainFrameShare = 0.75;  // in training
constexpr Frame kMainFrame = {"\nQuestion: ", "\nAnswer:", "\n"};
constexpr std::array<Frame, 20> kOtherFrames = {{{"\nQ: ", "\nA:", "\n"},
                                                 {"\n\nQuestion: ", "\n\nAnswer:", "\n\n"},
                                                 {"\nUser: ", "\nAssistant:", "\n"},
                                                 {"\n", "\nAnswer:", "\n"},
                                                 {"\nquestion: ", " answer:", "\n"},
                                                 {"\n[question] ", "\n[answer]", "\n"},
                                                 {"\nReader: ", "\nReply:", "\n"},
                                                 {"\n\nQ: ", " A:", "\n"},
                                                 {"\n", "", "\n"},
                                                 {" ", "", "."},
                                                 {"\n- ", "\n-", "\n"},
                                                 {"\nHuman: ", "\n\nAI:", "\n\n"},
                                                 {"\n> ", "\n", "\n"},
                                                 {"\nQUESTION: ", "\nANSWER:", "\n"},
                                                 {"\n### Question\n", "\n### Answer\n", "\n"},
                                                 {"\n\"", "\" -", "\n"},
                                                 {"\nAsk: ", "\nSay:", "\n"},
                                                 {"\nQuestion: ", " Answer:", "\n"},
                                                 {"\nTask: ", "\nResult:", "\n"},
                                                 {"\nAnswer the question: ", "\nAnswer:", "\n"}}};

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

Episode MakeEpisode(Task task, const Source& from, int num_facts) {
  switch (task) {
    case Task::kKeyValues:
      return MakeKeyValues(from, num_facts);
    case Task::kPeople:
      return MakePeople(from, num_facts);
    case Task::kNews:
      return MakeNews(from, num_facts);
    case Task::kVariableChains:
      return MakeVariableChains(from, num_facts);
    case Task::kDialogue:
      return MakeDialogue(from, num_facts);
    case Task::kStories:
      break;
  }
  // Chosen one after another: arguments have no order of evaluation.
  Random& random = from.random;
  StoryOptions options;
  options.babi_words = random.Chance(0.5);
  options.ask_at_end = random.Chance(0.5);
  if (random.Chance(options.babi_words ? 0.3 : 0.5)) options.num_facts = num_facts;
  return MakeStory(from, options);
}

Frame MainFrame() { return kMainFrame; }

Frame PickFrame(Random& random, Split split) {
  if (split == Split::kHeldOut || random.Chance(kMainFrameShare)) return kMainFrame;
  return random.Pick(kOtherFrames);
}

}  // namespace rasq::tasks
