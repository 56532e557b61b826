// What an evaluation is made of: text, stories, tasks, plans.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/commands/flags.h"
#include "client/eval/babi_files.h"
#include "client/eval/haystack.h"
#include "client/eval/squad_files.h"
#include "client/eval/stream_plan.h"
#include "client/eval/task_set.h"
#include "tests/client/fake_eval_service.h"
#include "tests/support/files.h"

namespace rasq::client {
namespace {

using tasks::Split;

TEST(HaystackTest, IsReadAroundItsEndInWholeWords) {
  const Haystack haystack = Haystack::FromText("one two  three");
  Haystack::Cursor cursor(&haystack, 0);
  EXPECT_EQ(cursor.Take(1), "\none");
  EXPECT_EQ(cursor.Take(2), " two");
  EXPECT_EQ(cursor.Take(1), "  three");
  EXPECT_EQ(cursor.Take(100), "\none two  three");
  EXPECT_EQ(Haystack::Cursor(&haystack, 2).Take(1), " two");
  // Behind the last whitespace it begins anew.
  EXPECT_EQ(Haystack::Cursor(&haystack, 12).Take(1), "\none");
}

TEST(HaystackTest, LinesAreToldWhole) {
  const Haystack haystack = Haystack::FromLines({"one two", "three four", "five"});
  Haystack::Cursor cursor(&haystack, 3);
  EXPECT_EQ(cursor.Take(1), "\nthree four");
  EXPECT_EQ(cursor.Take(5), "\nfive");
  EXPECT_EQ(cursor.Take(9), "\none two\nthree four");
  // Behind the last line it begins anew.
  EXPECT_EQ(Haystack::Cursor(&haystack, haystack.bytes() - 1).Take(1), "\none two");
}

TEST(HaystackTest, TakesDocumentsOfTheSplit) {
  std::string file;
  for (int i = 0; i < 60; ++i) absl::StrAppend(&file, "@@@DOC\td", i, "\tTitle\ntext-", i, "\n\n");
  const std::string path = TemporaryPath("documents.txt");
  WriteFile(path, file);
  const auto held_out = Haystack::Load({path}, Split::kHeldOut, /*all_documents=*/false);
  const auto training = Haystack::Load({path}, Split::kTraining, /*all_documents=*/false);
  const auto all = Haystack::Load({path}, Split::kHeldOut, /*all_documents=*/true);
  ASSERT_TRUE(held_out.ok() && training.ok() && all.ok()) << held_out.status();
  EXPECT_EQ(held_out->bytes() + training->bytes(), all->bytes());
  EXPECT_GT(training->bytes(), held_out->bytes());
  Haystack::Cursor cursor(&*all, 0);
  EXPECT_TRUE(absl::StartsWith(cursor.Take(1000), "\ntext-0\n\ntext-1\n"));
  EXPECT_NE(all->Describe(), training->Describe());
}

TEST(HaystackTest, ErrorsNameTheFile) {
  const std::string path = TemporaryPath("bad.txt");
  const auto error = [&](const std::string& content) {
    WriteFile(path, content);
    return Haystack::Load({path}, Split::kHeldOut, false).status();
  };
  absl::Status status =
      error(std::string("\xFD"
                        "7zXZ\0 and more",
                        14));
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_TRUE(absl::StrContains(status.message(), path)) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "compressed")) << status;
  status = error("good \xFF bad");
  EXPECT_TRUE(absl::StrContains(status.message(), path)) << status;
  EXPECT_TRUE(absl::StrContains(error(" \n").message(), "no text"));
  EXPECT_TRUE(absl::IsNotFound(Haystack::Load({"/nowhere/x"}, Split::kHeldOut, false).status()));
}

constexpr absl::string_view kStory =
    "1 Mary moved to the bathroom.\n"
    "2 John went to the hallway.\n"
    "3 Where is Mary? \tbathroom\t1\n"
    "4 Daniel went back to the hallway.\n"
    "5 Where is Daniel? \thallway\t4\n"
    "1 Sandra got the milk.\n"
    "2 Where is the milk?\tnowhere\t\n";

constexpr absl::string_view kSquad = R"({"version": "v2.0", "data": [
  {"title": "Rivers", "paragraphs": [
    {"context": "The Aare flows\nto the Rhine near Koblenz.", "qas": [
      {"id": "1", "question": "Where does the Aare flow?", "is_impossible": false, "answers": [
        {"text": "the Rhine", "answer_start": 18}, {"text": "the Rhine", "answer_start": 18},
        {"text": "to the Rhine", "answer_start": 15}, {"text": "the Rhone", "answer_start": 18}]},
      {"id": "2", "question": "How long is it?", "is_impossible": true, "answers": []}]},
    {"context": "No questions here.", "qas": []}]},
  {"title": "Lakes", "paragraphs": [
    {"context": "Lake Zug is deep.", "qas": [
      {"id": "3", "question": "Which lake is deep?", "answers": [
        {"text": "Lake Zug", "answer_start": 0}]}]}]}]})";

TEST(SquadFilesTest, ReadsBothVersions) {
  const std::string path = TemporaryPath("squad.json");
  WriteFile(path, std::string(kSquad));
  const auto passages = ReadSquad(path, Split::kHeldOut, /*all=*/true);
  ASSERT_TRUE(passages.ok()) << passages.status();
  ASSERT_EQ(passages->size(), 3u);
  const tasks::Episode& first = passages->front();
  EXPECT_EQ(first.facts[0], "The Aare flows to the Rhine near Koblenz.");
  ASSERT_EQ(first.questions.size(), 1u);  // the other has no answer
  EXPECT_EQ(first.questions[0].answer, "the Rhine");
  // Each once, and only what stands there.
  EXPECT_EQ(first.questions[0].references, (std::vector<std::string>{"the Rhine", "to the Rhine"}));
  EXPECT_TRUE((*passages)[1].questions.empty());

  WriteFile(path, R"({"title": "T", "context": "It is so.", "qas": [{"question": "Is it?",)"
                  R"( "answers": [{"text": "so", "start": 6}]}]})"
                  "\n");
  EXPECT_EQ(ReadSquad(path, Split::kHeldOut, true)->front().questions[0].answer, "so");
  const Split other = tasks::InSplit(Split::kHeldOut, "T") ? Split::kTraining : Split::kHeldOut;
  EXPECT_TRUE(absl::StrContains(ReadSquad(path, other, false).status().message(),
                                "no question of the split"));
}

TEST(SquadFilesTest, ErrorsNamePlaceAndField) {
  const std::string path = TemporaryPath("bad.json");
  const auto error = [&](const std::string& text) {
    WriteFile(path, text);
    const absl::Status status = ReadSquad(path, Split::kHeldOut, true).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    return std::string(status.message());
  };
  EXPECT_TRUE(absl::StrContains(error("{}"), ": data is missing"));
  EXPECT_TRUE(absl::StrContains(error(R"({"data": [{"paragraphs": []}]})"), "data[0]: title"));
  EXPECT_TRUE(absl::StrContains(
      error(R"({"data": [{"title": "t", "paragraphs": [{"context": "c", "qas": [{}]}]}]})"),
      "data[0].paragraphs[0]: question"));
  EXPECT_TRUE(absl::StrContains(error("{\"title\": \"t\", \"context\": 1}"), ":1: context"));
  EXPECT_TRUE(absl::StrContains(error("not json"), ":1: no object"));
}

TEST(BabiFilesTest, ReadsThePublishedForm) {
  const auto stories = ParseBabiText(kStory, "qa1_x_test.txt");
  ASSERT_TRUE(stories.ok()) << stories.status();
  ASSERT_EQ(stories->size(), 2u);
  const tasks::Episode& first = stories->front();
  EXPECT_EQ(first.facts,
            (std::vector<std::string>{"Mary moved to the bathroom.", "John went to the hallway.",
                                      "Daniel went back to the hallway."}));
  ASSERT_EQ(first.questions.size(), 2u);
  EXPECT_EQ(first.questions[1].text, "Where is Daniel?");
  EXPECT_EQ(first.questions[1].answer, "hallway");
  EXPECT_EQ(first.questions[1].after_fact, 3);
  ASSERT_EQ(first.questions[1].evidence.size(), 1u);
  EXPECT_EQ(first.questions[1].evidence[0].fact, 2);
  EXPECT_TRUE(stories->back().questions[0].evidence.empty());

  const auto error = [](absl::string_view text) {
    return std::string(ParseBabiText(text, "f").status().message());
  };
  EXPECT_TRUE(absl::StrContains(error("1 A.\nno number"), "f:2"));
  EXPECT_TRUE(absl::StrContains(error("1 A.\n2 B?\tb\t7"), "f:2: support=7"));
}

TEST(BabiFilesTest, ReadsFoldersBySplitAndJsonLines) {
  const std::string folder = TemporaryPath("babi");
  std::filesystem::create_directories(folder);
  WriteFile(folder + "/qa1_single_test.txt", std::string(kStory));
  WriteFile(folder + "/qa1_single_train.txt", "1 A.\n2 B?\tb\t1\n");
  WriteFile(folder + "/README.txt", "not a story");
  const auto held_out = ReadBabi(folder, Split::kHeldOut);
  ASSERT_TRUE(held_out.ok()) << held_out.status();
  EXPECT_EQ(held_out->at(1).size(), 2u);
  EXPECT_EQ(ReadBabi(folder, Split::kTraining)->at(1).size(), 1u);
  std::filesystem::remove_all(folder);

  const std::string path = TemporaryPath("babi.jsonl");
  std::string lines;
  for (int i = 0; i < 300; ++i) {
    absl::StrAppend(&lines, R"({"task": "qa5", "story_id": "d)", i,
                    R"(", "lines": [{"n": 1, "text": "A."}, {"n": 2, "question": "B?",)",
                    R"( "answer": "b", "support": [1]}]})", "\n");
  }
  WriteFile(path, lines);
  EXPECT_EQ(ReadBabi(path, Split::kHeldOut)->at(5).size() +
                ReadBabi(path, Split::kTraining)->at(5).size(),
            300u);
  WriteFile(path, R"({"task": "qa1", "story_id": "s"})");
  const Split split =
      tasks::StoryInSplit(Split::kHeldOut, "s") ? Split::kHeldOut : Split::kTraining;
  EXPECT_TRUE(absl::StrContains(ReadBabi(path, split).status().message(), ":1: lines"));
}

// Tokens are words here.
absl::StatusOr<int64_t> CountTokens(const std::string& text) { return CountWords(text); }

Script MakeScript(const TaskSet& tasks, const std::string& name, int64_t stream,
                  int64_t length = 4096) {
  absl::StatusOr<Script> script = tasks.Make(name, stream, length, CountTokens);
  EXPECT_TRUE(script.ok()) << script.status();
  return script.value_or(Script());
}

TEST(TaskSetTest, MakesTheSameEpisodesForTheSameSeed) {
  const TaskSet tasks({.seed = 3}), same({.seed = 3}), other({.seed = 4});
  const std::vector<std::string> names = tasks.Names();
  EXPECT_EQ(names.size(), 19u);
  for (const std::string& name : names) {
    if (name == "perplexity") continue;  // tells and asks nothing
    SCOPED_TRACE(name);
    const tasks::Episode episode = MakeScript(tasks, name, 5).episode;
    EXPECT_FALSE(episode.questions.empty());
    EXPECT_EQ(episode.facts, MakeScript(same, name, 5).episode.facts);
    EXPECT_NE(episode.facts, MakeScript(tasks, name, 6).episode.facts);
    EXPECT_NE(episode.facts, MakeScript(other, name, 5).episode.facts);
    for (const tasks::Question& question : episode.questions) {
      EXPECT_EQ(question.until_fact, static_cast<int>(episode.facts.size()));
    }
  }
}

TEST(TaskSetTest, ResolvesLists) {
  const TaskSet tasks({});
  EXPECT_EQ(tasks.Resolve({})->size(), 11u);  // without RULER's
  EXPECT_EQ(*tasks.Resolve({"ruler"}), RulerNames());
  EXPECT_EQ(*tasks.Resolve({"news+qa1+ruler_vt", "news"}),
            (std::vector<std::string>{"news+qa1+ruler_vt", "news"}));
  const auto error = [&](const std::string& name) {
    const absl::Status status = tasks.Resolve({"news", name}).status();
    EXPECT_TRUE(IsUsageError(status)) << status;
    return std::string(status.message());
  };
  EXPECT_TRUE(absl::StrContains(error("weather"), "weather is not among key_values, people"));
  EXPECT_TRUE(absl::StrContains(error("news+weather"), "weather is not among"));
  EXPECT_TRUE(absl::StrContains(error("qa1+people+qa2"), "qa2 would contradict"));
  EXPECT_TRUE(absl::StrContains(error("news+news"), "news would contradict"));
  EXPECT_TRUE(absl::StrContains(error("news+ruler_cwe"), "ruler_cwe has text of its own"));
  EXPECT_TRUE(absl::StrContains(error("news+perplexity"), "perplexity is of text alone"));
  EXPECT_EQ(*tasks.Resolve({"perplexity"}), std::vector<std::string>{"perplexity"});
  const auto all = tasks.Resolve({});  // only if it is asked for
  EXPECT_EQ(std::count(all->begin(), all->end(), "perplexity"), 0);
}

TEST(TaskSetTest, TasksOfOneStreamAreToldTogether) {
  const TaskSet tasks({.num_facts = 12});
  const Script shared = MakeScript(tasks, "key_values+qa1+news", 2);
  EXPECT_EQ(shared.tasks.size(), shared.episode.questions.size());
  for (const std::string name : {"key_values", "qa1", "news"}) {
    SCOPED_TRACE(name);
    // As when it is told alone: the same facts in the same order, with the same answers.
    const Script alone = MakeScript(tasks, name, 2);
    size_t next = 0;
    for (const std::string& fact : shared.episode.facts) {
      if (next < alone.episode.facts.size() && fact == alone.episode.facts[next]) ++next;
    }
    EXPECT_EQ(next, alone.episode.facts.size());
    size_t asked = 0;
    for (size_t i = 0; i < shared.tasks.size(); ++i) {
      if (shared.tasks[i] != name) continue;
      const tasks::Question& question = shared.episode.questions[i];
      const tasks::Question& own = alone.episode.questions[asked++];
      EXPECT_EQ(question.text, own.text);
      ASSERT_EQ(question.evidence.size(), own.evidence.size());
      for (size_t k = 0; k < own.evidence.size(); ++k) {
        EXPECT_EQ(shared.episode.facts[question.evidence[k].fact],
                  alone.episode.facts[own.evidence[k].fact]);
        EXPECT_LT(question.evidence[k].fact, question.after_fact);
      }
      EXPECT_EQ(question.until_fact, static_cast<int>(shared.episode.facts.size()));
    }
    EXPECT_EQ(asked, alone.episode.questions.size());
    for (const tasks::Statement& own : alone.episode.statements) {
      EXPECT_TRUE(std::any_of(shared.episode.statements.begin(), shared.episode.statements.end(),
                              [&](const tasks::Statement& statement) {
                                return statement.subject == own.subject &&
                                       statement.value == own.value &&
                                       shared.episode.facts[statement.fact] ==
                                           alone.episode.facts[own.fact];
                              }))
          << own.subject;
    }
  }
  EXPECT_FALSE(shared.episode.statements.empty());
}

TEST(TaskSetTest, StoriesFromFilesEndWhereTheyAreAsked) {
  TaskSetOptions options;
  options.babi[1] = *ParseBabiText(kStory, "f");
  const TaskSet tasks(std::move(options));
  EXPECT_TRUE(tasks.Resolve({"qa1"}).ok());
  EXPECT_FALSE(tasks.Resolve({"qa2"}).ok());
  for (int stream = 0; stream < 20; ++stream) {
    const tasks::Episode episode = MakeScript(tasks, "qa1", stream).episode;
    ASSERT_EQ(episode.questions.size(), 1u);
    EXPECT_EQ(episode.questions[0].after_fact, static_cast<int>(episode.facts.size()));
  }
}

TEST(StreamPlanTest, SpreadsFactsAndAsksAtTheEnd) {
  const TaskSet tasks({});
  const Script script = MakeScript(tasks, "key_values", 0);
  const tasks::Episode& episode = script.episode;
  const std::vector<int64_t> fact_tokens(episode.facts.size(), 10);
  tasks::Random random(1);
  const auto plan = PlanStream(random, script, fact_tokens, 4096, /*max_questions=*/4, false);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->facts.size(), episode.facts.size());
  for (size_t i = 0; i < plan->facts.size(); ++i) {
    EXPECT_EQ(plan->facts[i].fact, static_cast<int>(i));
    const int64_t end =
        i + 1 < plan->facts.size() ? plan->facts[i + 1].position_tokens : int64_t{4096};
    EXPECT_LE(plan->facts[i].position_tokens + 10, end);
  }
  EXPECT_LT(plan->facts.front().position_tokens, 1024);
  EXPECT_GT(plan->facts.back().position_tokens, 3072);
  ASSERT_EQ(plan->questions.size(), 4u);
  EXPECT_EQ(plan->questions[0].position_tokens, 4096);
  EXPECT_FALSE(plan->questions[0].distance_tokens.has_value());
  const auto small = PlanStream(random, script, fact_tokens, 256, 4, false);
  EXPECT_TRUE(absl::StrContains(small.status().message(), "length=256")) << small.status();
}

TEST(StreamPlanTest, AsksSoManyOfEachTaskAndLeavesNoTextBetweenFactsAlone) {
  const TaskSet tasks({});
  const Script shared = MakeScript(tasks, "key_values+people", 0);
  const std::vector<int64_t> fact_tokens(shared.episode.facts.size(), 10);
  tasks::Random random(1);
  const auto plan = PlanStream(random, shared, fact_tokens, 4096, /*max_questions=*/3, false);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->length_tokens, 4096);
  std::map<std::string, int> asked;
  for (const PlannedQuestion& question : plan->questions) ++asked[shared.tasks[question.question]];
  EXPECT_EQ(asked, (std::map<std::string, int>{{"key_values", 3}, {"people", 3}}));

  const Script alone = {
      .episode = {.facts = {"a", "b"}}, .tasks = {}, .own_text = nullptr, .facts_alone = true};
  const auto lists = PlanStream(random, alone, {7, 9}, 1000, 3, false);
  EXPECT_EQ(lists->length_tokens, 16);
  EXPECT_EQ(lists->facts[0].position_tokens, 0);
  EXPECT_EQ(lists->facts[1].position_tokens, 7);
}

TEST(StreamPlanTest, AsksBehindUpdatesUntilTheNext) {
  const TaskSet tasks({.num_facts = 8, .along = true});
  const Script script = MakeScript(tasks, "news", 1);
  const tasks::Episode& episode = script.episode;
  tasks::Random random(2);
  const std::vector<int64_t> fact_tokens(episode.facts.size(), 20);
  const auto plan = PlanStream(random, script, fact_tokens, 16384, /*max_questions=*/100, true);
  ASSERT_TRUE(plan.ok()) << plan.status();
  int64_t far = 0;
  for (const PlannedQuestion& planned : plan->questions) {
    const tasks::Question& question = episode.questions[planned.question];
    EXPECT_EQ(question.kind, "now");
    EXPECT_GE(question.evidence.size(), 2u);
    const PlannedFact& newest = plan->facts[question.after_fact - 1];
    EXPECT_EQ(planned.position_tokens, newest.position_tokens + 20 + *planned.distance_tokens);
    if (question.until_fact < static_cast<int>(plan->facts.size())) {
      EXPECT_LE(planned.position_tokens, plan->facts[question.until_fact].position_tokens);
    }
    far += *planned.distance_tokens >= 256 ? 1 : 0;
  }
  EXPECT_GE(plan->questions.size(), 4u);
  EXPECT_GT(far, 0);
}

}  // namespace
}  // namespace rasq::client
