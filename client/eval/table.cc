#include "client/eval/table.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

namespace rasq::client {
namespace {

std::string MarkdownLine(const std::vector<std::string>& cells) {
  const auto escape = [](std::string* out, const std::string& cell) {
    absl::StrAppend(out, absl::StrReplaceAll(cell, {{"|", "\\|"}}));
  };
  return absl::StrCat("| ", absl::StrJoin(cells, " | ", escape), " |\n");
}

// Cells may be missing, but one is a number.
bool IsNumeric(const Table& table, size_t column) {
  bool some = false;
  for (const std::vector<std::string>& row : table.rows) {
    if (row[column].empty() || row[column] == "-") continue;
    const size_t digit = row[column].front() == '-' ? 1 : 0;
    if (!absl::ascii_isdigit(row[column][digit])) return false;
    some = true;
  }
  return some;
}

}  // namespace

std::string Number(double value, int decimals) { return absl::StrFormat("%.*f", decimals, value); }
std::string Percent(double share) { return Number(100 * share, 1); }
std::string Percent(const std::optional<double>& share) {
  return share.has_value() ? Percent(*share) : "-";
}

std::string ToMarkdown(const Table& table) {
  std::vector<std::string> rules;
  for (size_t i = 0; i < table.columns.size(); ++i) {
    rules.push_back(IsNumeric(table, i) ? "---:" : "---");
  }
  std::string text =
      absl::StrCat("## ", table.title, "\n\n", MarkdownLine(table.columns), MarkdownLine(rules));
  for (const std::vector<std::string>& row : table.rows) text += MarkdownLine(row);
  return text;
}

std::string ToCsv(const Table& table) {
  const auto line = [](const std::vector<std::string>& cells) {
    const auto quote = [](std::string* out, const std::string& cell) {
      if (cell.find_first_of(",\"\r\n") == std::string::npos) {
        absl::StrAppend(out, cell);
      } else {
        absl::StrAppend(out, "\"", absl::StrReplaceAll(cell, {{"\"", "\"\""}}), "\"");
      }
    };
    return absl::StrCat(absl::StrJoin(cells, ",", quote), "\r\n");
  };
  std::string text = line(table.columns);
  for (const std::vector<std::string>& row : table.rows) text += line(row);
  return text;
}

}  // namespace rasq::client
