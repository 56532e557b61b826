// Tables and pictures of results that are known.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/eval/plot.h"
#include "client/eval/report.h"
#include "client/eval/series.h"
#include "client/eval/summary.h"
#include "client/eval/table.h"
#include "tests/support/files.h"
#include "tests/support/temporary_directory.h"

namespace rasq::client {
namespace {

QuestionResult Asked(const std::string& strategy, const std::string& task, int64_t length,
                     const std::string& got, int64_t age) {
  QuestionResult result{
      .key = {.strategy = strategy, .task = task, .length = length}, .want = "red", .got = got};
  result.exact = got == "red";
  result.f1 = result.exact ? 1 : 0;
  result.age_tokens = age;
  result.time_to_first_token_seconds = 0.004;
  return result;
}

StreamResult Streamed(const std::string& strategy, int64_t length, double seconds) {
  return {.key = {.strategy = strategy, .task = "news", .length = length},
          .questions = 2,
          .append_seconds = seconds,
          .append_tokens_per_second = static_cast<double>(length) / seconds,
          .state_bytes = 5000};
}

NamedResults Example() {
  NamedResults named;
  named.results.runs = {{.model = "tiny",
                         .window_tokens = 400,
                         .split = "held-out",
                         .strategies = {"rasq", "full"},
                         .tasks = {"people", "news"}}};
  // Finished in another order than asked for.
  named.results.questions = {
      Asked("full", "news", 4096, "blue", 100), Asked("rasq", "news", 4096, "red", 100),
      Asked("rasq", "people", 4096, "red", 3000), Asked("rasq", "people", 4096, "blue", 3000),
      Asked("rasq", "people", 8192, "red", 7000)};
  named.results.streams = {Streamed("full", 4096, 1), Streamed("rasq", 4096, 1),
                           Streamed("rasq", 8192, 2)};
  StreamResult refused = Streamed("full", 8192, 1);
  refused.refused = "too long";
  named.results.streams.push_back(refused);
  return named;
}

TEST(SummaryTest, HasACellATaskAndLength) {
  const std::vector<SummaryCell> cells = Summarise(Example().results);
  ASSERT_EQ(cells.size(), 6u);  // of rasq: people, people, news, all, all; of full: news
  EXPECT_EQ(cells[0].task, "people");
  EXPECT_EQ(cells[0].share.right, 1);
  EXPECT_EQ(cells[0].share.asked, 2);
  EXPECT_EQ(cells[0].f1, 0.5);
  EXPECT_EQ(cells[1].length, 8192);
  EXPECT_EQ(cells[3].task, kAllTasks);
  EXPECT_EQ(cells[3].share.asked, 3);
  EXPECT_EQ(cells[5].strategy, "full");
  const std::string text = SummaryTable(Example().results);
  EXPECT_TRUE(absl::StrContains(text, "rasq       news               100.0 % of 1              -"))
      << text;
}

TEST(ReportTest, TablesSayWhatWasMeasured) {
  const std::vector<Table> tables = MakeTables({Example()});
  std::vector<std::string> names;
  for (const Table& table : tables) {
    names.push_back(table.name);
    for (const auto& row : table.rows) EXPECT_EQ(row.size(), table.columns.size()) << table.name;
  }
  EXPECT_EQ(names, (std::vector<std::string>{"tasks", "measures", "retention", "cost"}));
  EXPECT_EQ(tables[0].columns, (std::vector<std::string>{"strategy", "task", "4096", "8192"}));
  EXPECT_EQ(tables[0].rows[0], (std::vector<std::string>{"rasq", "people", "50.0 (9-91) of 2",
                                                         "100.0 (21-100) of 1"}));
  EXPECT_EQ(tables[0].rows[1],
            (std::vector<std::string>{"rasq", "news", "100.0 (21-100) of 1", "-"}));
  // Within the window one of one was right; at ages of 2048 to 4095 one of two.
  EXPECT_EQ(tables[2].rows[1],
            (std::vector<std::string>{"rasq", "2048", "4095", "2", "50.0", "50.0"}));
  // Twice as long, twice the time.
  EXPECT_EQ(tables[3].rows[1], (std::vector<std::string>{"rasq", "8192", "1", "0", "5000", "4096",
                                                         "4.0", "4.0", "0.0", "1.000"}));
  EXPECT_EQ(tables[3].rows[3][3], "1");  // refused

  NamedResults first = Example(), second = Example();
  first.name = "first", second.name = "second";
  EXPECT_EQ(MakeTables({first, second})[0].rows.back()[0], "second");
}

TEST(ReportTest, WritesMarkdownAndCsv) {
  const Table table = {.name = "t",
                       .title = "A table",
                       .columns = {"what", "how much"},
                       .rows = {{"a|b", "1.5"}, {"c, \"d\"", "-"}}};
  EXPECT_EQ(ToMarkdown(table),
            "## A table\n\n| what | how much |\n| --- | ---: |\n| a\\|b | 1.5 |\n"
            "| c, \"d\" | - |\n");
  EXPECT_EQ(ToCsv(table), "what,how much\r\na|b,1.5\r\n\"c, \"\"d\"\"\",-\r\n");
  const std::string text = MakeMarkdown({Example()}, {table}, {});
  EXPECT_TRUE(absl::StrContains(text, "- tiny, fingerprint ")) << text;
  EXPECT_TRUE(absl::StrContains(text, "## A table")) << text;
}

TEST(ReportTest, CurvesFollowTheResults) {
  const std::vector<Plot> plots = MakePlots({Example()});
  const auto find = [&](const std::string& name) {
    return std::find_if(plots.begin(), plots.end(), [&](const Plot& p) { return p.name == name; });
  };
  ASSERT_NE(find("tasks-rasq"), plots.end());
  EXPECT_EQ(find("tasks-rasq")->curves[0].points,
            (std::vector<std::pair<double, double>>{{4096, 50}, {8192, 100}}));
  ASSERT_NE(find("throughput"), plots.end());
  EXPECT_EQ(find("throughput")->curves[1].name, "full");
  EXPECT_EQ(find("throughput")->curves[1].points.size(), 1u);  // what was refused has no speed
  EXPECT_EQ(find("adaptation"), plots.end());
  EXPECT_EQ(find("tasks-full"), plots.end());  // a point is no curve
}

const Plot kPlot = {.name = "p",
                    .title = "A \"title\"",
                    .x_label = "x",
                    .y_label = "y",
                    .percent = true,
                    .curves = {{.name = "c_1", .points = {{4096, 10}, {1048576, 90}}}}};

TEST(PlotTest, ScriptHasDataTicksAndBothPictures) {
  const std::string script = GnuplotScript(kPlot);
  for (const char* part : {"4096 10\n1048576 90\nEND\n", R"("4K" 4096, "1M" 1048576)",
                           R"(set title "A \"title\"")", "p.svg", "p.png", R"(title "c_1")"}) {
    EXPECT_TRUE(absl::StrContains(script, part)) << part << "\n" << script;
  }
}

TEST(PlotTest, DrawsBothPictures) {
  if (std::system("command -v gnuplot > /dev/null") != 0) GTEST_SKIP() << "gnuplot is missing";
  const testing::TemporaryDirectory folder;
  const absl::Status status = Draw(kPlot, folder.path());
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_TRUE(absl::StrContains(ReadFile(folder.path() + "/p.svg"), "<svg"));
  EXPECT_TRUE(absl::StrContains(ReadFile(folder.path() + "/p.png").substr(0, 8), "PNG"));
}

TEST(PlotTest, AnAbsentGnuplotIsNamed) {
  const testing::TemporaryDirectory folder;
  const std::string path = std::getenv("PATH");
  setenv("PATH", folder.path().c_str(), /*overwrite=*/1);
  const absl::Status status = Draw(kPlot, folder.path());
  setenv("PATH", path.c_str(), /*overwrite=*/1);
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "gnuplot-nox")) << status;
}

}  // namespace
}  // namespace rasq::client
