#include "client/stream_generator.h"

#include <gtest/gtest.h>

#include <set>

namespace rasq::client {
namespace {

using Wanted = StreamGenerator::Wanted;

constexpr int64_t kBytesPerFact = 2000;

TEST(StreamGeneratorTest, TheSameSeedGivesTheSameStreamAndQuestions) {
  StreamGenerator a(7, kBytesPerFact), b(7, kBytesPerFact), other(8, kBytesPerFact);
  std::string text;
  for (int i = 0; i < 20; ++i) {
    const std::string part = a.Next(5000);
    ASSERT_EQ(part, b.Next(5000));
    text += part;
    const auto from_a = a.Ask(0, a.offset(), Wanted::kAny);
    const auto from_b = b.Ask(0, b.offset(), Wanted::kAny);
    ASSERT_EQ(from_a.has_value(), from_b.has_value());
    if (from_a.has_value()) {
      EXPECT_EQ(from_a->text, from_b->text);
    }
  }
  EXPECT_EQ(a.offset(), static_cast<int64_t>(text.size()));
  EXPECT_NE(other.Next(5000), text.substr(0, 5000));
}

// Every question can be answered from the text before it, and its answer is the newest one.
TEST(StreamGeneratorTest, EveryAnswerStandsBeforeItsQuestion) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    StreamGenerator generator(seed, kBytesPerFact);
    std::string text;
    int asked = 0, updated = 0;
    for (int i = 0; i < 60; ++i) {
      text += generator.Next(4000);
      const Wanted wanted = static_cast<Wanted>(i % 3);
      const auto question = generator.Ask(0, generator.offset(), wanted);
      if (!question.has_value()) continue;
      ++asked;
      updated += question->replaced_values > 0 ? 1 : 0;
      // Stated where it says, with the answer in it, and not otherwise later.
      const std::string stated = text.substr(question->fact_offset);
      const size_t at = stated.find(question->fact);
      ASSERT_LT(at, 10u) << question->fact;  // behind the time, if it is news
      ASSERT_NE(question->fact.find(question->answer), std::string::npos) << question->fact;
      const std::string before_value =
          question->fact.substr(0, question->fact.find(question->answer));
      const size_t last = text.rfind(before_value);
      EXPECT_EQ(text.compare(last, question->fact.size(), question->fact), 0)
          << "a newer value than " << question->fact;
      if (wanted == Wanted::kUpdated) {
        EXPECT_GT(question->replaced_values, 0);
        EXPECT_NE(text.find(before_value), last);
      }
    }
    EXPECT_GT(asked, 50) << "seed=" << seed;
    EXPECT_GT(updated, 5) << "seed=" << seed;
  }
}

TEST(StreamGeneratorTest, AsksWithinTheRange) {
  StreamGenerator generator(3, kBytesPerFact);
  generator.Next(200000);
  for (int i = 0; i < 20; ++i) {
    const auto question = generator.Ask(50000, 120000, Wanted::kAny);
    ASSERT_TRUE(question.has_value());
    EXPECT_GE(question->fact_offset, 50000);
    EXPECT_LT(question->fact_offset, 120000);
  }
  EXPECT_FALSE(generator.Ask(500, 500, Wanted::kAny).has_value());
}

TEST(StreamGeneratorTest, AsksForSomethingElseFirst) {
  StreamGenerator generator(4, kBytesPerFact);
  generator.Next(60000);
  std::set<std::string> asked;
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(asked.insert(generator.Ask(0, 60000, Wanted::kAny)->text).second);
  }
}

// Facts come as often as asked for: news that replaces older news is stated twice.
TEST(StreamGeneratorTest, FactsComeAtTheirRate) {
  StreamGenerator generator(5, /*bytes_per_fact=*/10000);
  const std::string text = generator.Next(400000);
  std::set<std::string> facts;
  for (int i = 0; i < 200; ++i) facts.insert(generator.Ask(0, 400000, Wanted::kAny)->fact);
  EXPECT_GE(facts.size(), 20u);
  EXPECT_LE(facts.size(), 45u);
  EXPECT_GE(text.size(), 400000u);
  EXPECT_LT(text.size(), 402000u);
}

}  // namespace
}  // namespace rasq::client
