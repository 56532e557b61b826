#include "client/tasks/stories.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/tasks/world.h"

namespace rasq::tasks {
namespace {

using Facts = std::vector<int>;

TEST(WorldTest, ObjectsAreWhereTheirHoldersAre) {
  enum { kAnn, kBen };
  enum { kHall, kAttic, kYard };
  World world(/*num_people=*/2, /*num_objects=*/1);
  EXPECT_FALSE(world.PlaceOf(kAnn).has_value());
  world.Move(/*fact=*/0, kAnn, kHall);
  world.Take(/*fact=*/1, kAnn, /*object=*/0);
  EXPECT_EQ(world.holder(0), kAnn);
  EXPECT_EQ(world.PlaceOfObject(0)->id, kHall);
  EXPECT_EQ(world.PlaceOfObject(0)->facts, (Facts{1, 0}));
  world.Move(/*fact=*/2, kAnn, kAttic);
  EXPECT_EQ(world.PlaceOfObject(0)->facts, (Facts{2, 1}));
  world.Move(/*fact=*/3, kBen, kAttic);
  world.Give(/*fact=*/4, kAnn, /*object=*/0, kBen);
  EXPECT_EQ(world.holder(0), kBen);
  world.Move(/*fact=*/5, kAnn, kHall);  // without it
  EXPECT_EQ(world.PlaceOfObject(0)->id, kAttic);
  world.Move(/*fact=*/6, kBen, kYard);
  world.Drop(/*fact=*/7, kBen, /*object=*/0);
  world.Move(/*fact=*/8, kBen, kHall);
  EXPECT_EQ(world.PlaceOfObject(0)->id, kYard);
  EXPECT_EQ(world.PlaceOfObject(0)->facts, (Facts{7, 6}));
  EXPECT_EQ(world.PlaceBefore(0, kYard)->id, kAttic);
  EXPECT_EQ(world.PlaceBefore(0, kYard)->facts, (Facts{7, 6, 2}));
  EXPECT_EQ(world.PlaceBefore(0, kAttic)->id, kHall);
  EXPECT_FALSE(world.PlaceBefore(0, kHall).has_value());
  EXPECT_EQ(world.PlacesWithBefore(0), (std::vector<int>{kAttic, kYard}));
  ASSERT_EQ(world.gifts().size(), 1u);
  EXPECT_EQ(world.gifts()[0].receiver, kBen);
}

TEST(WorldTest, WhatWasNeverToldIsNotKnown) {
  World world(/*num_people=*/1, /*num_objects=*/1);
  world.Take(/*fact=*/0, /*person=*/0, /*object=*/0);  // wherever that was
  EXPECT_FALSE(world.PlaceOfObject(0).has_value());
  world.Move(/*fact=*/1, /*person=*/0, /*place=*/4);
  EXPECT_EQ(world.PlaceOfObject(0)->id, 4);
  EXPECT_FALSE(world.PlaceBefore(0, 4).has_value());
}

// A reader of bAbI's wordings, made without the simulator.
class Reader {
 public:
  void Read(const std::string& fact) {
    std::vector<std::string> words =
        absl::StrSplit(absl::StripSuffix(absl::StripSuffix(fact, "."), " there"), ' ');
    const std::string& who = words[0];
    const std::string& what = words.back();
    if (words[1] == "gave" || words[1] == "handed" || words[1] == "passed") {
      holder_[words[3]] = what;
    } else if (absl::StrContains(fact, " to the ")) {
      place_[who] = what;
    } else if (words[1] == "got" || words[1] == "took" || words[1] == "grabbed" ||
               words[1] == "picked") {
      holder_[what] = who;
    } else {
      holder_.erase(what);
    }
    for (const auto& [object, person] : holder_) {
      if (!place_.contains(person)) continue;
      std::vector<std::string>& way = way_[object];
      if (way.empty() || way.back() != place_[person]) way.push_back(place_[person]);
    }
  }
  std::string Answer(const std::string& question) const {
    const std::vector<std::string> words = absl::StrSplit(absl::StripSuffix(question, "?"), ' ');
    if (absl::StrContains(question, "before")) {
      const std::vector<std::string>& way = way_.at(words[3]);
      for (size_t i = way.size(); i > 1; --i) {
        if (way[i - 1] == words.back()) return way[i - 2];
      }
      return "";
    }
    if (words[2] == "the") return way_.at(words[3]).back();
    return place_.at(words[2]);
  }

 private:
  std::map<std::string, std::string> place_, holder_;
  std::map<std::string, std::vector<std::string>> way_;  // of an object
};

TEST(StoriesTest, AReaderOfBabisWordsFindsTheSameAnswers) {
  for (const int kind : {1, 2, 3}) {
    for (uint64_t seed = 0; seed < 300; ++seed) {
      Random random(seed);
      const StoryOptions options{.kind = kind, .babi_words = true, .ask_at_end = seed % 2 == 0};
      const Episode story = MakeStory({random, Split::kTraining, Lexicon::BuiltIn()}, options);
      Reader reader;
      size_t told = 0;
      for (const Question& question : story.questions) {
        while (told < static_cast<size_t>(question.until_fact)) reader.Read(story.facts[told++]);
        ASSERT_EQ(reader.Answer(question.text), question.answer)
            << "qa" << kind << " seed " << seed << ": " << question.text;
        EXPECT_EQ(question.evidence.size(), static_cast<size_t>(kind));
      }
    }
  }
}

TEST(StoriesTest, GiftsNameWhatIsAskedFor) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Random random(seed);
    const Episode story = MakeStory({random, Split::kTraining, Lexicon::BuiltIn()},
                                    {.kind = 5, .babi_words = true, .ask_at_end = true});
    for (const Question& question : story.questions) {
      const std::string& fact = story.facts[question.evidence[0].fact];
      EXPECT_TRUE(absl::StrContains(fact, " to ")) << fact;
      // No word of the question that is a name contradicts the fact.
      for (absl::string_view name : {"Bill", "Fred", "Jeff", "Mary", "football", "apple", "milk"}) {
        if (absl::StrContains(question.text, name)) {
          EXPECT_TRUE(absl::StrContains(fact, name)) << fact;
        }
      }
    }
  }
}

// Stories in all wordings, followed through what their facts state, made without the simulator.
class Follower {
 public:
  explicit Follower(const Episode& story) : story_(story) {}

  void ReadTo(int num_facts) {
    for (; next_ < story_.statements.size() && story_.statements[next_].fact < num_facts; ++next_) {
      const auto& [fact, who, act, what] = story_.statements[next_];
      const std::string text = absl::AsciiStrToLower(story_.facts[fact]);
      EXPECT_TRUE(absl::StrContains(text, absl::AsciiStrToLower(who))) << text;
      EXPECT_TRUE(absl::StrContains(text, absl::AsciiStrToLower(what))) << text;
      if (act == "moves") place_[who] = what;
      if (act == "takes" || act == "receives") holder_[what] = who;
      if (act == "drops") holder_.erase(what);
      if (act == "gives") gifts_.push_back({.giver = who, .receiver = "", .object = what});
      if (act == "receives") gifts_.back().receiver = who;
      if (act == "gives") continue;  // until it is known who has it
      for (const auto& [object, person] : holder_) {
        if (!place_.contains(person)) continue;
        std::vector<std::string>& way = way_[object];
        if (way.empty() || way.back() != place_[person]) way.push_back(place_[person]);
      }
    }
  }

  std::string Answer(const Question& question) {
    if (question.relation == "where_person") return place_[question.subject];
    const std::vector<std::string>& way = way_[question.subject];
    if (question.relation == "where_object") return way.back();
    if (question.relation == "where_before") {
      for (size_t i = way.size(); i > 1; --i) {
        if (Names(question.text, absl::StrCat("the ", way[i - 1]))) return way[i - 2];
      }
      return "";
    }
    for (size_t i = gifts_.size(); i > 0; --i) {
      const Gift& gift = gifts_[i - 1];
      const auto asks_of = [&](const std::string& name) { return Names(question.text, name); };
      const bool object = asks_of(gift.object), giver = gift.giver == question.subject;
      const bool receiver = asks_of(gift.receiver);
      if (question.relation == "what_given" && giver && receiver) return gift.object;
      if (question.relation == "who_gave_to" && object && receiver) return gift.giver;
      if (question.relation == "to_whom" && object && giver) return gift.receiver;
      if (question.relation == "who_gave" && object) return gift.giver;
      if (question.relation == "who_received" && object) return gift.receiver;
    }
    return "";
  }

 private:
  struct Gift {
    std::string giver, receiver, object;
  };
  // In whole words.
  static bool Names(absl::string_view text, absl::string_view name) {
    const std::string words = absl::StrCat(" ", absl::AsciiStrToLower(text), " ");
    const std::string part = absl::AsciiStrToLower(name);
    for (size_t at = words.find(part); at != std::string::npos; at = words.find(part, at + 1)) {
      if (!absl::ascii_isalnum(words[at - 1]) && !absl::ascii_isalnum(words[at + part.size()])) {
        return true;
      }
    }
    return false;
  }

  const Episode& story_;
  size_t next_ = 0;
  std::map<std::string, std::string> place_, holder_;
  std::map<std::string, std::vector<std::string>> way_;  // of an object
  std::vector<Gift> gifts_;
};

TEST(StoriesTest, AnswersFollowInAllWordings) {
  std::map<std::string, int> asked;
  for (const Split split : {Split::kTraining, Split::kHeldOut}) {
    for (const int kind : {1, 2, 3, 5}) {
      for (uint64_t seed = 0; seed < 800; ++seed) {
        Random random(seed);
        const StoryOptions options{.kind = kind, .num_facts = 40, .ask_at_end = seed % 2 == 0};
        const Episode story = MakeStory({random, split, Lexicon::BuiltIn()}, options);
        Follower follower(story);
        for (const Question& question : story.questions) {
          follower.ReadTo(question.until_fact);
          ++asked[question.relation];
          EXPECT_EQ(follower.Answer(question), question.answer) << question.text;
        }
      }
    }
  }
  for (const auto& relation : {"where_person", "where_object", "where_before", "what_given",
                               "who_gave_to", "to_whom", "who_gave", "who_received"}) {
    EXPECT_GT(asked[relation], 200) << relation;
  }
}

// Worked out by hand from the rules of a map: a question and its fact name one pair of places.
TEST(StoriesTest, MapsAnswerInBothDirections) {
  const std::map<std::string, std::string> opposite = {
      {"north", "south"}, {"south", "north"}, {"west", "east"}, {"east", "west"}};
  for (uint64_t seed = 0; seed < 300; ++seed) {
    Random random(seed);
    const Episode map =
        MakeStory({random, Split::kTraining, Lexicon::BuiltIn()}, {.kind = 4, .babi_words = true});
    ASSERT_EQ(map.facts.size(), 2u);
    for (const Question& question : map.questions) {
      // "The A is S of the B."
      const std::vector<std::string> fact =
          absl::StrSplit(absl::StripSuffix(map.facts[question.evidence[0].fact], "."), ' ');
      const std::string &a = fact[1], &side = fact[3], &b = fact[6];
      // "What is S of the X?" or "What is the X S of?"
      const std::vector<std::string> words =
          absl::StrSplit(absl::StripSuffix(question.text, "?"), ' ');
      if (words[2] == "the") {
        if (words[3] == a) {
          EXPECT_EQ(words[4], side);
          EXPECT_EQ(question.answer, b);
        } else {
          EXPECT_EQ(words[4], opposite.at(side));
          EXPECT_EQ(question.answer, a);
        }
      } else if (words[5] == b) {
        EXPECT_EQ(words[2], side);
        EXPECT_EQ(question.answer, a);
      } else {
        EXPECT_EQ(words[2], opposite.at(side));
        EXPECT_EQ(question.answer, b);
      }
    }
  }
}

TEST(StoriesTest, LengthsAreLikeBabis) {
  const auto mean_facts = [](int kind) {
    Random random(11);
    double facts = 0;
    for (int i = 0; i < 400; ++i) {
      facts += MakeStory({random, Split::kTraining, Lexicon::BuiltIn()},
                         {.kind = kind, .babi_words = true})
                   .facts.size();
    }
    return facts / 400;
  };
  // bAbI's own means are 10, 22.0, 74.5 and 27.3.
  EXPECT_EQ(mean_facts(1), 10);
  EXPECT_NEAR(mean_facts(2), 22, 4);
  EXPECT_NEAR(mean_facts(3), 74.5, 10);
  EXPECT_NEAR(mean_facts(5), 27.3, 6);
}

}  // namespace
}  // namespace rasq::tasks
