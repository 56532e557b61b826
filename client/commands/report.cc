#include "client/eval/report.h"

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/commands/command.h"
#include "client/eval/files.h"

namespace rasq::client {
namespace {

absl::Status WriteTextFile(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  return file ? absl::OkStatus() : absl::ErrnoToStatus(errno, path);
}

struct ReportFlags {
  std::string folder = "report", results_md, preface;
  bool no_pictures = false;
};

absl::Status Report(const Arguments& files, const ReportFlags& flags) {
  const std::string& folder = flags.folder;
  std::string preface;
  if (!flags.preface.empty()) {
    absl::StatusOr<std::string> text = ReadTextFile(flags.preface);
    if (!text.ok()) return text.status();
    preface = *std::move(text);
  }
  std::vector<NamedResults> all;
  for (const std::string& path : files) {
    const absl::StatusOr<std::string> text = ReadTextFile(path);
    if (!text.ok()) return text.status();
    absl::StatusOr<Results> results = ParseResults(*text, path);
    if (!results.ok()) return results.status();
    all.push_back({.name = files.size() > 1 ? std::filesystem::path(path).stem().string() : "",
                   .results = *std::move(results)});
  }
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return absl::InternalError(absl::StrCat(folder, ": ", error.message()));

  const std::vector<Table> tables = MakeTables(all);
  const std::vector<Plot> plots = flags.no_pictures ? std::vector<Plot>() : MakePlots(all);
  absl::Status status =
      WriteTextFile(absl::StrCat(folder, "/report.md"), MakeMarkdown(preface, all, tables, plots));
  for (const Table& table : tables) {
    if (!status.ok()) return status;
    status = WriteTextFile(absl::StrCat(folder, "/", table.name, ".csv"), ToCsv(table));
  }
  if (status.ok() && !flags.results_md.empty()) {
    status = WriteTextFile(flags.results_md, MakeMarkdown(preface, all, tables, /*plots=*/{}));
  }
  for (const Plot& plot : plots) {
    if (!status.ok()) return status;
    status = Draw(plot, folder);
  }
  if (status.ok() && !tables.empty()) std::fputs(ToMarkdown(tables.front()).c_str(), stdout);
  return status;
}

}  // namespace

absl::Status RunReport(Context& context, const Arguments& arguments) {
  ReportFlags values;
  FlagSet flags(
      "report FILE...",
      "Makes tables and pictures of results that `rasq eval` wrote: report.md, a CSV file a\n"
      "table, and SVG and PNG pictures by gnuplot. Several files are set side by side.");
  flags.Add("to", 't', &values.folder, "FOLDER to write into (default: report)");
  flags.Add("results-md", 0, &values.results_md,
            "FILE to write the tables to as well, for a repository");
  flags.Add("preface", 0, &values.preface, "FILE of Markdown to put under the title");
  flags.Add("no-pictures", 0, &values.no_pictures, "tables alone: gnuplot is not needed");
  AddGlobalFlags(&context, &flags);
  const absl::StatusOr<Arguments> operands = flags.Parse(arguments);
  if (!operands.ok()) return operands.status();
  if (flags.help_asked()) {
    std::fputs(flags.Help().c_str(), stdout);
    return absl::OkStatus();
  }
  if (operands->empty()) return UsageError("report wants a FILE of results");
  return Report(*operands, values);
}

}  // namespace rasq::client
