// Pictures of curves, drawn by gnuplot (http://www.gnuplot.info), which must be installed.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace rasq::client {

struct Curve {
  std::string name;
  std::vector<std::pair<double, double>> points;  // x ascending
};
struct Plot {
  std::string name;                     // of its files: "retention"
  std::string title, x_label, y_label;  // x is a logarithm's, to the base of 2
  bool percent = false;                 // y goes from 0 to 100; else from 0 on
  bool log_y = false;                   // y is a logarithm's too, to the base of 10
  std::vector<Curve> curves;            // in the legend's order
};

// Commands that draw NAME.svg and NAME.png into the working folder.
std::string GnuplotScript(const Plot& plot);

// Writes `folder`/NAME.gp and has gnuplot run it there. kNotFound if gnuplot is not installed,
// kInternal if it fails: it then says why on standard error.
absl::Status Draw(const Plot& plot, const std::string& folder);

}  // namespace rasq::client
