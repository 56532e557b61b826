// Tables and pictures of evaluations: what is right per task and length, what is remembered for how
// long, and what it costs.
#pragma once

#include <string>
#include <vector>

#include "client/eval/plot.h"
#include "client/eval/results.h"
#include "client/eval/table.h"

namespace rasq::client {

// Results under the name by which tables tell them apart: empty if there are no others.
struct NamedResults {
  std::string name;
  Results results;
};

// Tables without a row are left out.
std::vector<Table> MakeTables(const std::vector<NamedResults>& all);
// Pictures without at least two points in a curve are left out.
std::vector<Plot> MakePlots(const std::vector<NamedResults>& all);

// Under the title `preface`, Markdown, then what ran, all tables, and the pictures by their file
// names.
std::string MakeMarkdown(const std::string& preface, const std::vector<NamedResults>& all,
                         const std::vector<Table>& tables, const std::vector<Plot>& plots);

}  // namespace rasq::client
