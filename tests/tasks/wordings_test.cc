// What is told and asked, over thousands of episodes: answers follow from what was stated, the
// splits share no wording and no word, and wordings are many.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/tasks/dialogue_words.h"
#include "client/tasks/key_values.h"
#include "client/tasks/lexicon_words.h"
#include "client/tasks/news.h"
#include "client/tasks/open_classes.h"
#include "client/tasks/people.h"
#include "client/tasks/statements.h"
#include "client/tasks/stories.h"
#include "client/tasks/story_words.h"
#include "client/tasks/tasks.h"

namespace rasq::tasks {
namespace {

constexpr int kEpisodes = 3000;
constexpr Task kStatingTasks[] = {Task::kKeyValues, Task::kPeople, Task::kNews, Task::kDialogue};

Episode Make(Task task, Split split, uint64_t seed, int num_facts) {
  Random random(seed);
  return MakeEpisode(task, {random, split, Lexicon::BuiltIn()}, num_facts);
}

std::vector<Statement> About(const Episode& episode, const Question& question) {
  std::vector<Statement> statements;
  for (const Statement& statement : episode.statements) {
    if (statement.subject == question.subject && statement.relation == question.relation) {
      statements.push_back(statement);
    }
  }
  return statements;
}

TEST(AnswersTest, FollowFromWhatWasStated) {
  std::map<std::string, int> asked;
  for (const Task task : kStatingTasks) {
    for (const Split split : {Split::kTraining, Split::kHeldOut}) {
      for (uint64_t seed = 0; seed < kEpisodes; ++seed) {
        const Episode episode = Make(task, split, seed, static_cast<int>(1 + seed % 40));
        ASSERT_GE(episode.statements.size(), episode.facts.size());
        for (const Question& question : episode.questions) {
          if (question.subject.empty()) continue;
          SCOPED_TRACE(absl::StrCat(TaskName(task), " ", seed, ": ", question.text));
          const std::vector<Statement> about = About(episode, question);
          ASSERT_FALSE(about.empty());
          EXPECT_TRUE(absl::StrContains(absl::AsciiStrToLower(question.text),
                                        absl::AsciiStrToLower(question.subject)));
          const size_t last = about.size() - 1;
          ++asked[std::string(question.kind)];
          if (question.kind == "first") {
            EXPECT_EQ(question.answer, about[0].value);
          } else if (question.kind == "before") {
            EXPECT_EQ(question.answer, about[last - 1].value);
          } else if (question.kind == "then") {
            // The one statement whose fact bears the time's numbers.
            EXPECT_EQ(std::count_if(about.begin(), about.end(),
                                    [&](const Statement& statement) {
                                      return statement.fact == question.evidence[0].fact &&
                                             statement.value == question.answer;
                                    }),
                      1);
          } else {
            EXPECT_EQ(question.answer, about[last].value);
            EXPECT_EQ(question.evidence[0].fact, about[last].fact);
          }
        }
      }
    }
  }
  for (const auto& kind : {"", "now", "then", "before", "first"})
    EXPECT_GT(asked[kind], 500) << kind;
}

TEST(AnswersTest, FactsSayWhatTheyState) {
  for (const Task task : kStatingTasks) {
    for (const Split split : {Split::kTraining, Split::kHeldOut}) {
      for (uint64_t seed = 0; seed < kEpisodes; ++seed) {
        const Episode episode = Make(task, split, seed, 8);
        for (const Statement& statement : episode.statements) {
          const std::string fact = absl::AsciiStrToLower(episode.facts[statement.fact]);
          EXPECT_TRUE(absl::StrContains(fact, absl::AsciiStrToLower(statement.subject))) << fact;
          EXPECT_TRUE(absl::StrContains(fact, absl::AsciiStrToLower(statement.value))) << fact;
        }
      }
    }
  }
}

TEST(AnswersTest, ChainsLeadToTheirValues) {
  int links = 0;
  for (uint64_t seed = 0; seed < kEpisodes; ++seed) {
    const Split split = seed % 2 == 0 ? Split::kTraining : Split::kHeldOut;
    const Episode episode =
        Make(Task::kVariableChains, split, seed, static_cast<int>(1 + seed % 30));
    for (const Question& question : episode.questions) {
      if (question.subject.empty()) continue;
      std::string at = question.subject;
      for (bool value = false; !value; ++links) {
        const auto stated = std::find_if(episode.statements.begin(), episode.statements.end(),
                                         [&](const Statement& s) { return s.subject == at; });
        ASSERT_NE(stated, episode.statements.end());
        EXPECT_TRUE(absl::StrContains(absl::AsciiStrToLower(episode.facts[stated->fact]),
                                      absl::AsciiStrToLower(stated->value)));
        value = stated->relation == "value";
        at = stated->value;
      }
      EXPECT_EQ(at, question.answer);
    }
  }
  EXPECT_GT(links, 2 * kEpisodes);
}

TEST(AnswersTest, NobodyStatedWhatIsUnknown) {
  int unknown = 0, all = 0;
  for (const Task task : {Task::kKeyValues, Task::kPeople}) {
    for (uint64_t seed = 0; seed < kEpisodes; ++seed) {
      for (const Question& question : Make(task, Split::kHeldOut, seed, 12).questions) {
        EXPECT_NE(question.kind, "unknown");
      }
      const Episode episode = Make(task, Split::kTraining, seed, 12);
      for (const Question& question : episode.questions) {
        ++all;
        if (question.kind != "unknown") continue;
        ++unknown;
        EXPECT_EQ(question.answer, "unknown");
        const std::string& subject = episode.statements[question.evidence[0].fact].subject;
        for (const Statement& statement : episode.statements) {
          EXPECT_FALSE(
              statement.subject == subject &&
              absl::StrContains(question.text, absl::StrCat("the ", statement.relation, " of")))
              << question.text;
        }
      }
    }
  }
  EXPECT_GT(unknown, 300);
  EXPECT_LT(unknown, all / 20);
}

// A text with its subject, relation and values taken out, digits made one, in small letters.
std::string Mask(const Episode& episode, absl::string_view text) {
  std::set<std::string> parts;
  for (const Statement& s : episode.statements) {
    for (const std::string* part : {&s.subject, &s.relation, &s.value}) {
      parts.insert(absl::AsciiStrToLower(*part));
    }
  }
  // The longest first: one may be part of another.
  std::vector<std::string> ordered(parts.begin(), parts.end());
  std::sort(ordered.begin(), ordered.end(),
            [](const auto& a, const auto& b) { return a.size() > b.size(); });
  std::string masked = absl::AsciiStrToLower(text);
  for (const std::string& part : ordered) {
    if (part.size() > 1) masked = absl::StrReplaceAll(masked, {{part, "_"}});
  }
  for (char& c : masked) c = absl::ascii_isdigit(c) ? '0' : c;
  return masked;
}

// The words that grammars put in for colour, and made-up ones: no part of a wording.
std::string MaskWords(const std::string& text) {
  static const std::set<std::string> kOpen = [] {
    std::set<std::string> open;
    for (const WordClass c : {WordClass::kNoun, WordClass::kAdjective, WordClass::kName}) {
      for (const std::string& word : BuiltInWords(c)) open.insert(absl::AsciiStrToLower(word));
    }
    return open;
  }();
  std::string masked, word;
  for (const char c : text + " ") {
    if (absl::ascii_isalpha(c)) {
      word += c;
      continue;
    }
    absl::StrAppend(&masked, kOpen.contains(word) ? "_" : word, std::string(1, c));
    word.clear();
  }
  return masked;
}

// Some wordings are a listed relation's own, and have its name in them: once that is taken out,
// they may look like any.
bool IsListed(const std::string& relation) {
  for (const Words* list : {&KeyValueLabels(), &PeopleTraits(), &NewsTopics()}) {
    if (std::find(list->begin(), list->end(), relation) != list->end()) return true;
  }
  return absl::StartsWith(relation, "wish ");
}

struct Wordings {
  std::set<std::string> facts, questions;
};
Wordings Collect(Task task, Split split) {
  Wordings wordings;
  for (uint64_t seed = 0; seed < kEpisodes; ++seed) {
    const Episode episode = Make(task, split, seed, 10);
    for (const Statement& statement : episode.statements) {
      if (IsListed(statement.relation)) continue;
      wordings.facts.insert(MaskWords(Mask(episode, episode.facts[statement.fact])));
    }
    for (const Question& question : episode.questions) {
      if (!question.subject.empty() && !IsListed(question.relation)) {
        wordings.questions.insert(MaskWords(Mask(episode, question.text)));
      }
    }
  }
  return wordings;
}

class EveryStatingTaskTest : public ::testing::TestWithParam<Task> {};

TEST_P(EveryStatingTaskTest, WordingsAreManyAndNoneIsShared) {
  const Wordings training = Collect(GetParam(), Split::kTraining);
  const Wordings held_out = Collect(GetParam(), Split::kHeldOut);
  EXPECT_GT(training.facts.size(), 5000u);
  EXPECT_GT(training.questions.size(), 400u);
  EXPECT_GT(held_out.questions.size(), 4u);
  for (const std::string& wording : held_out.facts) {
    EXPECT_FALSE(training.facts.contains(wording)) << wording;
  }
  for (const std::string& wording : held_out.questions) {
    EXPECT_FALSE(training.questions.contains(wording)) << wording;
  }
}

INSTANTIATE_TEST_SUITE_P(Tasks, EveryStatingTaskTest, ::testing::ValuesIn(kStatingTasks),
                         [](const auto& param) { return std::string(TaskName(param.param)); });

TEST(GrammarsTest, SplitsShareNoTemplate) {
  const std::vector<std::pair<const Grammar*, const Grammar*>> pairs = {
      {&StatementGrammar(Split::kTraining), &StatementGrammar(Split::kHeldOut)},
      {&DialogueGrammar(Split::kTraining), &DialogueGrammar(Split::kHeldOut)},
      {&StoryGrammar(Split::kTraining), &StoryGrammar(Split::kHeldOut)}};
  for (const auto& [training, held_out] : pairs) {
    const std::vector<absl::string_view> list = training->Templates();
    const std::set<absl::string_view> known(list.begin(), list.end());
    EXPECT_GT(known.size(), 50u);
    for (const absl::string_view wording : held_out->Templates()) {
      EXPECT_FALSE(known.contains(wording)) << wording;
    }
  }
}

TEST(GrammarTest, ExpandsRulesChoicesAndSlots) {
  const Grammar grammar = {{"s", {"@who {v} <it|@who>@end"}},
                           {"who", {"we", "{p}"}},
                           {"end", {". ^then {k} did."}},
                           {"plain", {"~so {v}"}}};
  std::set<std::string> seen;
  Random random(3);
  for (int i = 0; i < 300; ++i) {
    seen.insert(grammar.Say(random, "s", {{"v", "saw"}, {"p", "Ann"}, {"k", "the cat"}}));
  }
  EXPECT_EQ(seen, (std::set<std::string>{
                      "We saw it. Then the cat did.", "We saw we. Then the cat did.",
                      "We saw Ann. Then the cat did.", "Ann saw it. Then the cat did.",
                      "Ann saw we. Then the cat did.", "Ann saw Ann. Then the cat did."}));
  EXPECT_EQ(grammar.Say(random, "plain", {{"v", "be it"}}), "so be it");
  EXPECT_EQ(grammar.SayPattern(random, "{k}: ^{k}", {{"k", "the cat"}}), "The cat: The cat");
  EXPECT_EQ(grammar.Templates().size(), 4u);
}

TEST(LexiconTest, SplitsShareNoWord) {
  const Lexicon& lexicon = Lexicon::BuiltIn();
  for (const WordClass word_class : {WordClass::kNoun, WordClass::kAdjective, WordClass::kName,
                                     WordClass::kRelation, WordClass::kVerb}) {
    std::set<absl::string_view> training;
    Random random(1);
    for (int i = 0; i < 20'000; ++i) {
      training.insert(lexicon.Pick(random, Split::kTraining, word_class));
    }
    EXPECT_EQ(training.size(), lexicon.Size(Split::kTraining, word_class));
    EXPECT_GT(lexicon.Size(Split::kHeldOut, word_class), 10u);
    for (int i = 0; i < 2000; ++i) {
      const absl::string_view word = lexicon.Pick(random, Split::kHeldOut, word_class);
      EXPECT_FALSE(training.contains(word)) << word;
    }
  }
}

TEST(LexiconTest, HarvestsWordsByTheirPlaces) {
  // Words of our own, so that none is in a list; each often enough.
  std::string text;
  for (int i = 0; i < 10; ++i) {
    absl::StrAppend(&text, "We saw the zarb of Glimmy and a zarb, then Glimmy took the quorless ",
                    "zarb. They Glimmy ran prannly. Frobs met the quorless man and prannly. ");
  }
  const Lexicon lexicon = Lexicon::Harvest({text});
  const auto has = [&](WordClass word_class, absl::string_view word) {
    std::set<absl::string_view> words;
    Random random(1);
    for (int i = 0; i < 20'000; ++i) {
      for (const Split split : {Split::kTraining, Split::kHeldOut}) {
        words.insert(lexicon.Pick(random, split, word_class));
      }
    }
    return words.contains(word);
  };
  EXPECT_TRUE(has(WordClass::kNoun, "zarb"));
  EXPECT_FALSE(has(WordClass::kNoun, "prannly"));
  EXPECT_FALSE(has(WordClass::kNoun, "quorless"));
  EXPECT_TRUE(has(WordClass::kAdjective, "quorless"));
  EXPECT_TRUE(has(WordClass::kName, "Glimmy"));
  EXPECT_FALSE(has(WordClass::kName, "Frobs"));  // only where any word has a capital
  EXPECT_FALSE(has(WordClass::kName, "They"));
}

TEST(OpenClassesTest, FormsOfTheSplitsDiffer) {
  for (int form = 0; form < kNumOpenForms; ++form) {
    Random random(form);
    std::set<std::string> training;
    for (int i = 0; i < 3000; ++i) {
      training.insert(MakeFormed({random, Split::kTraining, Lexicon::BuiltIn()},
                                 {.listed = std::nullopt, .open = form}));
    }
    EXPECT_GT(training.size(), 100u) << form;
    for (int i = 0; i < 500; ++i) {
      const std::string value = MakeFormed({random, Split::kHeldOut, Lexicon::BuiltIn()},
                                           {.listed = std::nullopt, .open = form});
      EXPECT_FALSE(training.contains(value)) << form << " " << value;
    }
  }
}

TEST(PluralTest, BySpelling) {
  EXPECT_EQ(Plural("gauge"), "gauges");
  EXPECT_EQ(Plural("entry"), "entries");
  EXPECT_EQ(Plural("day"), "days");
  EXPECT_EQ(Plural("switch"), "switches");
  EXPECT_EQ(Plural("post box"), "post boxes");
}

}  // namespace
}  // namespace rasq::tasks
