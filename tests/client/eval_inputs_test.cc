// What an evaluation is made of: text, stories, tasks, plans.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/commands/flags.h"
#include "client/eval/babi_files.h"
#include "client/eval/haystack.h"
#include "client/eval/stream_plan.h"
#include "client/eval/task_set.h"
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
  const Split split = tasks::StoryInSplit(Split::kHeldOut, "s") ? Split::kHeldOut : Split::kTraining;
  EXPECT_TRUE(absl::StrContains(ReadBabi(path, split).status().message(), ":1: lines"));
}

TEST(TaskSetTest, MakesTheSameEpisodesForTheSameSeed) {
  const TaskSet tasks({.seed = 3}), same({.seed = 3}), other({.seed = 4});
  const std::vector<std::string> names = tasks.Names();
  EXPECT_EQ(names.size(), 11u);
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    EXPECT_TRUE(tasks.Check({name}).ok());
    const tasks::Episode episode = tasks.Make(name, 5);
    EXPECT_FALSE(episode.questions.empty());
    EXPECT_EQ(episode.facts, same.Make(name, 5).facts);
    EXPECT_NE(episode.facts, tasks.Make(name, 6).facts);
    EXPECT_NE(episode.facts, other.Make(name, 5).facts);
    for (const tasks::Question& question : episode.questions) {
      EXPECT_EQ(question.until_fact, static_cast<int>(episode.facts.size()));
    }
  }
  EXPECT_TRUE(IsUsageError(tasks.Check({"news", "weather"})));
}

TEST(TaskSetTest, StoriesFromFilesEndWhereTheyAreAsked) {
  TaskSetOptions options;
  options.babi[1] = *ParseBabiText(kStory, "f");
  const TaskSet tasks(std::move(options));
  EXPECT_EQ(tasks.Names().back(), "qa1");
  EXPECT_FALSE(tasks.Check({"qa2"}).ok());
  for (int stream = 0; stream < 20; ++stream) {
    const tasks::Episode episode = tasks.Make("qa1", stream);
    ASSERT_EQ(episode.questions.size(), 1u);
    EXPECT_EQ(episode.questions[0].after_fact, static_cast<int>(episode.facts.size()));
  }
}

TEST(StreamPlanTest, SpreadsFactsAndAsksAtTheEnd) {
  const TaskSet tasks({});
  const tasks::Episode episode = tasks.Make("key_values", 0);
  const std::vector<int64_t> fact_tokens(episode.facts.size(), 10);
  tasks::Random random(1);
  const auto plan = PlanStream(random, episode, fact_tokens, 4096, /*max_questions=*/4, false);
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
  const auto small = PlanStream(random, episode, fact_tokens, 256, 4, false);
  EXPECT_TRUE(absl::StrContains(small.status().message(), "length=256")) << small.status();
}

TEST(StreamPlanTest, AsksBehindUpdatesUntilTheNext) {
  const TaskSet tasks({.num_facts = 8, .along = true});
  const tasks::Episode episode = tasks.Make("news", 1);
  tasks::Random random(2);
  const std::vector<int64_t> fact_tokens(episode.facts.size(), 20);
  const auto plan = PlanStream(random, episode, fact_tokens, 16384, /*max_questions=*/100, true);
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
