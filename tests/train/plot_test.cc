#include "train/plot.h"

#include <cstdlib>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/files.h"
#include "tests/support/temporary_directory.h"

namespace rasq::train {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Line(int64_t tokens, const std::string& phase, double task, double right) {
  return absl::StrCat(R"({"step": 1, "tokens": )", tokens, R"(, "phase": ")", phase,
                      R"(", "means": {"task": )", task, R"(, "gate": null}, "right": {"news": )",
                      right, "}}\n");
}

TEST(PlotTest, LaterLinesHold) {
  const std::string log = Line(1000000, "a", 4, 0.1) + Line(2000000, "a", 3, 0.2) +
                          Line(3000000, "b", 2, 0.3) + Line(2000000, "b", 2.5, 0.4) +
                          R"({"step": 9, "tok)";
  const auto script = MakePlotScript(log, "log.jsonl", "out's/curves");
  ASSERT_TRUE(script.ok()) << script.status();
  EXPECT_THAT(*script, AllOf(HasSubstr("1 4\n2 2.5\nEND"), HasSubstr("1 0.1\n2 0.4\nEND"),
                             HasSubstr("set arrow from 2, graph 0"), HasSubstr("'news'"),
                             HasSubstr("'out''s/curves.png'"), Not(HasSubstr("'gate'")),
                             Not(HasSubstr("set arrow from 3"))));
}

TEST(PlotTest, ErrorsNameTheLine) {
  const auto broken = MakePlotScript(Line(1, "a", 1, 1) + "{]\n", "log.jsonl", "x");
  EXPECT_THAT(std::string(broken.status().message()), HasSubstr("log.jsonl:2"));
  const auto without = MakePlotScript("{\"step\": 3}\n", "log.jsonl", "x");
  EXPECT_THAT(std::string(without.status().message()), HasSubstr("tokens"));
  EXPECT_FALSE(MakePlotScript("", "log.jsonl", "x").ok());
}

TEST(PlotTest, DrawsBothPictures) {
  const rasq::testing::TemporaryDirectory directory;
  EXPECT_EQ(PlotRun(directory.path()).code(), absl::StatusCode::kNotFound);
  WriteFile(directory.path() + "/log.jsonl", Line(1000, "a", 4, 0.1) + Line(2000, "a", 3, 0.2));

  const std::string path = std::getenv("PATH");
  setenv("PATH", directory.path().c_str(), /*overwrite=*/1);
  const absl::Status absent = PlotRun(directory.path());
  setenv("PATH", path.c_str(), /*overwrite=*/1);
  EXPECT_EQ(absent.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(absent.message()), HasSubstr("gnuplot"));

  const absl::Status drawn = PlotRun(directory.path());
  if (absl::IsFailedPrecondition(drawn)) GTEST_SKIP() << drawn;
  ASSERT_TRUE(drawn.ok()) << drawn;
  EXPECT_THAT(ReadFile(directory.path() + "/curves.svg"), HasSubstr("</svg>"));
  EXPECT_THAT(ReadFile(directory.path() + "/curves.png"), HasSubstr("PNG"));
}

}  // namespace
}  // namespace rasq::train
