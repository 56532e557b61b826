// A folder of training data, and the mixtures that the recipes ask for.
#include "train/data/training_data.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/support/files.h"
#include "tests/support/temporary_directory.h"

namespace rasq::train {
namespace {

using tasks::Split;

class TrainingDataTest : public ::testing::Test {
 protected:
  TrainingDataTest() {
    std::string text;
    for (int i = 0; i < 200; ++i) {
      absl::StrAppend(&text, "@@@DOC\td", i, "\tTitle\nHere the zarbling of document ", i,
                      " and the zarbling was a zarbling.\n\n");
    }
    WriteFile(absl::StrCat(directory_.path(), "/a.txt"), text);
  }

  const rasq::testing::TemporaryDirectory directory_;
  const std::unique_ptr<Tokenizer> tokenizer_ = Tokenizer::OfBytes();
};

TEST_F(TrainingDataTest, SplitsShareNoDocument) {
  const auto training = TrainingData::ReadDocuments(directory_.path(), Split::kTraining);
  const auto held_out = TrainingData::ReadDocuments(directory_.path(), Split::kHeldOut);
  ASSERT_TRUE(training.ok() && held_out.ok()) << training.status() << held_out.status();
  EXPECT_EQ(training->size() + held_out->size(), 200u);
  EXPECT_GT(training->size(), held_out->size());
  for (const Document& document : *held_out) {
    EXPECT_TRUE(std::none_of(training->begin(), training->end(),
                             [&](const Document& other) { return other.id == document.id; }));
  }
}

// The word stands in no list; it comes into questions from the text alone.
TEST_F(TrainingDataTest, WordsOfTheTextBecomeKeysAndRelations) {
  const auto data = TrainingData::Load(directory_.path(), *tokenizer_, Split::kTraining, 1);
  ASSERT_TRUE(data.ok()) << data.status();
  const auto mixture = (*data)->Mix(Json({{"key_values", 1}}), /*seed=*/1, /*segment_tokens=*/64);
  ASSERT_TRUE(mixture.ok()) << mixture.status();
  int asked = 0;
  for (int64_t i = 0; i < 300; ++i) {
    const std::string text = tokenizer_->Decode((*mixture)->Make(i, 4096).tokens);
    // Behind a question's mark, not in the text.
    for (size_t at = text.find("Question: "); at != std::string::npos;
         at = text.find("Question: ", at + 1)) {
      const std::string question = text.substr(at, text.find('\n', at) - at);
      asked += absl::StrContains(question, "zarbling") ? 1 : 0;
    }
  }
  EXPECT_GT(asked, 0);
}

TEST_F(TrainingDataTest, RecipesAskForKnownTasks) {
  const auto data = TrainingData::Load(directory_.path(), *tokenizer_, Split::kTraining, 1);
  ASSERT_TRUE(data.ok()) << data.status();
  int mixtures = 0;
  for (const auto& file : std::filesystem::directory_iterator(RASQ_SOURCE_DIR "/models/recipes")) {
    const std::string path = file.path().string();
    const auto recipe = ParseJson(ReadFile(path), path);
    ASSERT_TRUE(recipe.ok()) << recipe.status();
    for (const Json& phase : (*recipe)["phases"]) {
      if (!phase.contains("mixture")) continue;
      ++mixtures;
      const auto mixture = (*data)->Mix(phase["mixture"], /*seed=*/1, /*segment_tokens=*/64);
      EXPECT_TRUE(mixture.ok()) << path << " " << mixture.status();
    }
  }
  EXPECT_GE(mixtures, 6);
}

}  // namespace
}  // namespace rasq::train
