#include "train/recipe.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/budget_head.h"

namespace rasq::train {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string With(const std::string& fields) {
  return R"({"phases": [{"name": "a", "tokens": 100, "stream_tokens": 64, "streams": 1},
                        {"name": "b", "tokens": 300, "stream_tokens": 64, "streams": 1}])" +
         fields + "}";
}

TEST(RecipeTest, RatesRiseHoldAndFall) {
  const auto recipe =
      ParseRecipe(With(R"(, "warmup_tokens": 50, "decay_tokens": 200, "final_rate": 0.1)"), "r");
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  EXPECT_EQ(recipe->tokens(), 400);
  EXPECT_DOUBLE_EQ(recipe->RateFactor(25), 0.5);
  EXPECT_DOUBLE_EQ(recipe->RateFactor(100), 1);
  EXPECT_DOUBLE_EQ(recipe->RateFactor(300), 0.5);
  EXPECT_DOUBLE_EQ(recipe->RateFactor(400), 0.1);
}

TEST(RecipeTest, BudgetFactors) {
  const auto recipe = ParseRecipe(With(R"(, "budget_factors": [0.25, 1])"), "r");
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  EXPECT_THAT(recipe->budget_factors, ElementsAre(0.25f, 1.0f));
  const auto ones = [](int32_t count) {
    return absl::StrCat(", \"budget_factors\": [",
                        absl::StrJoin(std::vector<int32_t>(count, 1), ", "), "]");
  };
  EXPECT_TRUE(ParseRecipe(With(ones(kMaxBudgetFactors)), "r").ok());
  EXPECT_FALSE(ParseRecipe(With(ones(kMaxBudgetFactors + 1)), "r").ok());
  for (const char* bad : {"[]", "2", "[0]", "[1, -2]", "[\"1\"]", "[1025]"}) {
    const absl::Status status =
        ParseRecipe(With(std::string(R"(, "budget_factors": )") + bad), "r").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(std::string(status.message()), HasSubstr("budget_factors")) << bad;
  }
}

TEST(RecipeTest, SummarySlots) {
  const auto recipe = ParseRecipe(With(R"(, "summary_slots": 8, "summary_decay": 0.9)"), "r");
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  EXPECT_EQ(recipe->summary_slots, 8);
  EXPECT_EQ(recipe->summary_decay, 0.9f);
  EXPECT_EQ(ParseRecipe(With(""), "r")->summary_slots, 0);
  EXPECT_EQ(ParseRecipe(With(R"(, "summary_slots": 1)"), "r")->summary_decay, 0.99f);
}

TEST(RecipeTest, Clusters) {
  const auto recipe = ParseRecipe(With(R"(, "clusters": 16, "cluster_min_entries": 0)"), "r");
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  EXPECT_EQ(recipe->clusters, 16);
  EXPECT_EQ(recipe->read_clusters, std::nullopt);
  EXPECT_EQ(recipe->cluster_min_entries, 0);
  EXPECT_EQ(ParseRecipe(With(""), "r")->clusters, std::nullopt);
  EXPECT_TRUE(ParseRecipe(With(R"(, "clusters": 0, "summary_slots": 4)"), "r").ok());
}

TEST(RecipeTest, MemoryErrorsNameFieldAndValue) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"("summary_slots": 33)", "summary_slots=33"},
      {R"("summary_slots": -1)", "summary_slots=-1"},
      {R"("summary_slots": "4")", "summary_slots=\"4\""},
      {R"("summary_slots": 4, "summary_decay": 1)", "summary_decay=1"},
      {R"("summary_decay": 0.5)", "summary_decay=0.5"},
      {R"("summary_slots": 4, "clusters": 8)", "summary_slots=4"},
      {R"("clusters": 65)", "clusters=65"},
      {R"("clusters": 8, "read_clusters": 0)", "read_clusters=0"},
      {R"("read_clusters": 2)", "read_clusters=2"},
      {R"("clusters": 8, "cluster_min_entries": -1)", "cluster_min_entries=-1"},
      {R"("cluster_min_entries": 64)", "cluster_min_entries=64"}};
  for (const auto& [fields, want] : cases) {
    const absl::Status status = ParseRecipe(With(", " + fields), "r").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << fields;
    EXPECT_THAT(std::string(status.message()), HasSubstr(want)) << fields;
  }
}

TEST(RecipeTest, ErrorsNameThePhase) {
  const absl::Status status =
      ParseRecipe(
          R"({"phases": [{"name": "a", "tokens": 100, "stream_tokens": 64, "streams": 0}]})",
          "r.json")
          .status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("r.json: phases[0]"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("streams"));
}

}  // namespace
}  // namespace rasq::train
