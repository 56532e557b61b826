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
  result.score = result.f1 = result.exact ? 1 : 0;
  result.age_tokens = age;
  result.position_tokens = length;
  result.retrieved_tokens = strategy == "rasq" ? 112 : 0;
  result.time_to_first_token_seconds = 0.004;
  return result;
}

StreamResult Streamed(const std::string& strategy, int64_t length, double seconds) {
  return {.key = {.strategy = strategy, .task = "news", .length = length},
          .questions = 2,
          .append_seconds = seconds,
          .append_tokens_per_second = static_cast<double>(length) / seconds,
          .state_bytes = 5000,
          .token_gaps_us = {2000, 2000, 4000}};
}

NamedResults Example() {
  NamedResults named;
  named.results.runs = {{.model = "tiny",
                         .window_tokens = 400,
                         .split = "held-out",
                         .strategies = {"rasq", "full"},
                         .tasks = {"people", "news"},
                         .settings = {""},
                         .session_options = {""}}};
  // Finished in another order than asked for.
  named.results.questions = {
      Asked("full", "news", 4096, "blue", 100), Asked("rasq", "news", 4096, "red", 100),
      Asked("rasq", "people", 4096, "red", 3000), Asked("rasq", "people", 4096, "blue", 3000),
      Asked("rasq", "people", 8192, "red", 7000)};
  named.results.questions[3].index = 1;
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
  EXPECT_EQ(cells[0].questions, 2);
  EXPECT_EQ(cells[0].score.value, 0.5);
  EXPECT_DOUBLE_EQ(*cells[0].score.error, 0.5);  // of 1 and 0: the root of 0.5 / 2
  EXPECT_EQ(cells[0].f1.value, 0.5);
  EXPECT_EQ(cells[1].length, 8192);
  EXPECT_EQ(cells[3].task, kAllTasks);
  EXPECT_EQ(cells[3].questions, 3);
  EXPECT_EQ(cells[5].method, "full");
  const std::string text = SummaryTable(Example().results);
  EXPECT_TRUE(absl::StrContains(text, "rasq       news               100.0 % of 1              -"))
      << text;
}

TEST(ReportTest, PerplexityHasItsTable) {
  NamedResults named = Example();
  StreamResult& stream = named.results.streams[1];
  stream.scored_tokens = 1024;
  stream.logprob_sum = -1024 * 1.25;
  const std::vector<Table> tables = MakeTables({named});
  const auto table = std::find_if(tables.begin(), tables.end(),
                                  [](const Table& t) { return t.name == "perplexity"; });
  ASSERT_NE(table, tables.end());
  EXPECT_EQ(table->rows,
            (std::vector<std::vector<std::string>>{
                {"rasq", "4096", "1", "1024", "3.490", "3.490", "3.490", "1.2500", "-"}}));
  // Lines of results that know nothing of it are still read, and others as they were written.
  const std::string lines = ToJson(stream).dump() + "\n" + ToJson(named.results.streams[0]).dump();
  const auto read = ParseResults(lines, "x");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->streams[0].scored_tokens, 1024);
  EXPECT_EQ(read->streams[0].logprob_sum, -1280);
  EXPECT_FALSE(read->streams[1].scored_tokens.has_value());
}

TEST(ReportTest, TablesSayWhatWasMeasured) {
  const std::vector<Table> tables = MakeTables({Example()});
  std::vector<std::string> names;
  for (const Table& table : tables) {
    names.push_back(table.name);
    for (const auto& row : table.rows) EXPECT_EQ(row.size(), table.columns.size()) << table.name;
  }
  EXPECT_EQ(names, (std::vector<std::string>{"tasks", "measures", "retention", "cost", "latency",
                                             "refused"}));
  EXPECT_EQ(tables[0].columns, (std::vector<std::string>{"strategy", "task", "4096", "8192"}));
  EXPECT_EQ(tables[0].rows[0], (std::vector<std::string>{"rasq", "people", "50.0 (9-91) of 2",
                                                         "100.0 (21-100) of 1"}));
  EXPECT_EQ(tables[0].rows[1],
            (std::vector<std::string>{"rasq", "news", "100.0 (21-100) of 1", "-"}));
  // One of two: 0.5, and a standard error of 0.5; none of one answer. Words alone have no BLEU.
  EXPECT_EQ(tables[1].rows[0],
            (std::vector<std::string>{"rasq", "people", "4096", "2", "50.0", "9.5", "90.5", "50.0",
                                      "50.0", "50.0", "50.0", "50.0", "50.0", "0.0", "0.0", "-",
                                      "-", "-"}));
  EXPECT_EQ(tables[1].rows[1][8], "-");
  // Within the window one of one was right; at ages of 2048 to 4095 one of two.
  EXPECT_EQ(tables[2].rows[1],
            (std::vector<std::string>{"rasq", "2048", "4095", "2", "50.0", "9.5", "90.5", "50.0"}));
  // Three gaps took 8 ms. A window of 400 and 112 entries of 8192 are 6.25 %. Twice as long, twice
  // the time.
  EXPECT_EQ(tables[3].rows[1],
            (std::vector<std::string>{"rasq", "8192", "1", "0", "5000", "4096", "4096", "4096",
                                      "375", "112.0", "6.2", "1.000"}));
  EXPECT_EQ(tables[3].rows[2][10], "100.0");
  EXPECT_EQ(tables[3].rows[3][3], "1");  // refused
  EXPECT_EQ(tables[4].rows[1],
            (std::vector<std::string>{"rasq", "8192", "4.0", "4.0", "3", "2.00", "4.00"}));
  EXPECT_EQ(tables[5].rows,
            (std::vector<std::vector<std::string>>{{"full", "8192", "1", "too long"}}));

  NamedResults first = Example(), second = Example();
  first.name = "first", second.name = "second";
  EXPECT_EQ(MakeTables({first, second})[0].rows.back()[0], "second");
}

// The example again, with an ablation that answers one question less, and two values of a setting.
NamedResults WithSettings() {
  NamedResults named = Example();
  named.results.runs[0].settings = {"", "no_dsr", "seed=1", "seed=4"};
  named.results.runs[0].session_options = {"", R"({"ablation": 1})", R"({"seed": 1})",
                                           R"({"seed": 4})"};
  for (const QuestionResult& asked : Example().results.questions) {
    if (asked.key.strategy != "rasq") continue;
    for (const std::string settings : {"no_dsr", "seed=1", "seed=4"}) {
      QuestionResult question = asked;
      question.key.settings = settings;
      if (settings == "no_dsr" && asked.key.task == "news") question.score = 0;
      named.results.questions.push_back(question);
    }
  }
  return named;
}

TEST(ReportTest, SettingsStandBesideTheDefaults) {
  const std::vector<Table> tables = MakeTables({WithSettings()});
  const auto settings = std::find_if(tables.begin(), tables.end(),
                                     [](const Table& table) { return table.name == "settings"; });
  ASSERT_NE(settings, tables.end());
  ASSERT_EQ(settings->rows.size(), 6u);
  // Of three questions one was lost: differences of -1, 0, 0 have a mean of -1/3, a variance of
  // 1/3, and a standard error of 1/3.
  EXPECT_EQ(settings->rows[0],
            (std::vector<std::string>{"rasq", "no_dsr", "4096", "3", "33.3", "-33.3", "33.3"}));
  EXPECT_EQ(settings->rows[3],
            (std::vector<std::string>{"rasq", "seed=1", "8192", "1", "100.0", "0.0", "-"}));
  EXPECT_EQ(tables[0].rows[3][0], "rasq no_dsr");
  EXPECT_EQ(tables[0].rows.back()[0], "full");

  const std::vector<Plot> plots = MakePlots({WithSettings()});
  const auto find = [&](const std::string& name) {
    return *std::find_if(plots.begin(), plots.end(),
                         [&](const Plot& plot) { return plot.name == name; });
  };
  const Plot ablation = find("ablation-rasq");
  ASSERT_EQ(ablation.curves.size(), 2u);
  EXPECT_EQ(ablation.curves[0].name, "defaults");
  EXPECT_NEAR(ablation.curves[0].points[0].second, 200.0 / 3, 1e-9);
  EXPECT_NEAR(ablation.curves[1].points[0].second, 100.0 / 3, 1e-9);
  const Plot sweep = find("sweep-seed");
  ASSERT_EQ(sweep.curves.size(), 2u);
  EXPECT_EQ(sweep.curves[1].name, "rasq, 8192 tokens");
  EXPECT_EQ(sweep.curves[1].points, (std::vector<std::pair<double, double>>{{1, 100}, {4, 100}}));
  EXPECT_EQ(find("strategies").curves.size(), 2u);  // settings have pictures of their own

  const std::string text = MakeMarkdown("", {WithSettings()}, {}, {});
  EXPECT_TRUE(absl::StrContains(text, "\n  - no_dsr: `{\"ablation\": 1}`\n")) << text;
}

TEST(ReportTest, ValuesThatChangeHaveTheirTables) {
  NamedResults named = Example();
  QuestionResult now = Asked("rasq", "news", 8192, "red", 500);
  now.kind = "now", now.replaced_values = 1;
  named.results.questions.push_back(now);
  now.score = 0, now.index = 1;
  named.results.questions.push_back(now);
  now.distance_tokens = 64;
  named.results.questions.push_back(now);
  now.distance_tokens = 256, now.score = 1;
  named.results.questions.push_back(now);
  const std::vector<Table> tables = MakeTables({named});
  const auto find = [&](const std::string& name) {
    return *std::find_if(tables.begin(), tables.end(),
                         [&](const Table& table) { return table.name == name; });
  };
  // One of two at the end, whose interval is that of any one of two; none was asked at a time.
  EXPECT_EQ(find("temporal").rows,
            (std::vector<std::vector<std::string>>{
                {"rasq", "8192", "2", "50.0", "9.5", "90.5", "0", "-", "-", "-"}}));
  // One update, first right after 256 tokens; z^2 / (1 + z^2) = 79.3 %.
  EXPECT_EQ(find("adaptation").rows,
            (std::vector<std::vector<std::string>>{
                {"rasq", "1", "256", "0", "64", "1", "0.0", "0.0", "79.3"},
                {"rasq", "1", "256", "0", "256", "1", "100.0", "20.7", "100.0"}}));
}

TEST(ReportTest, WritesMarkdownAndCsv) {
  const Table table = {.name = "t",
                       .title = "A table",
                       .columns = {"what", "how much"},
                       .rows = {{"a|b", "-1.5"}, {"c, \"d\"", "-"}}};
  EXPECT_EQ(ToMarkdown(table),
            "## A table\n\n| what | how much |\n| --- | ---: |\n| a\\|b | -1.5 |\n"
            "| c, \"d\" | - |\n");
  EXPECT_EQ(ToCsv(table), "what,how much\r\na|b,-1.5\r\n\"c, \"\"d\"\"\",-\r\n");
  const std::string text = MakeMarkdown("Alone on its machine.\n", {Example()}, {table}, {});
  EXPECT_TRUE(
      absl::StartsWith(text, "# Evaluation\n\nAlone on its machine.\n\n- tiny, fingerprint "))
      << text;
  EXPECT_TRUE(absl::StrContains(text, "(machine unknown)")) << text;
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
  ASSERT_NE(find("token-efficiency"), plots.end());
  EXPECT_EQ(find("token-efficiency")->curves[0].points,
            (std::vector<std::pair<double, double>>{{4096, 12.5}, {8192, 6.25}}));
  ASSERT_NE(find("scaling"), plots.end());
  ASSERT_EQ(find("scaling")->curves.size(), 1u);
  EXPECT_EQ(find("scaling")->curves[0].name, "rasq, exponent 1.00");
  EXPECT_EQ(find("token-gaps")->curves[0].points[0].second, 4);
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
