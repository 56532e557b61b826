// A table, and how it and its numbers are written.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace rasq::client {

struct Table {
  std::string name;   // of its file: "retention"
  std::string title;  // what it shows, in words
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;  // each as long as `columns`
};

std::string Number(double value, int decimals);
// "81.3" of 0.813; "-" of none.
std::string Percent(double share);
std::string Percent(const std::optional<double>& share);

// With its title as a heading. Numbers stand to the right.
std::string ToMarkdown(const Table& table);
// RFC 4180, with a line of column names.
std::string ToCsv(const Table& table);

}  // namespace rasq::client
