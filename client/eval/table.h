// A table, and how it is written.
#pragma once

#include <string>
#include <vector>

namespace rasq::client {

struct Table {
  std::string name;   // of its file: "retention"
  std::string title;  // what it shows, in words
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;  // each as long as `columns`
};

// With its title as a heading. Numbers stand to the right.
std::string ToMarkdown(const Table& table);
// RFC 4180, with a line of column names.
std::string ToCsv(const Table& table);

}  // namespace rasq::client
