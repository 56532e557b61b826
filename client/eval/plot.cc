#include "client/eval/plot.h"

#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <set>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "client/eval/child_process.h"

namespace rasq::client {
namespace {

// Okabe and Ito 2008: told apart by colour-blind readers too. Points differ in shape as well, and
// lines in their dashes once the colours are used up.
constexpr std::array<absl::string_view, 7> kColours = {"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                                       "#E69F00", "#56B4E9", "#000000"};
constexpr std::array<int, 6> kShapes = {7, 5, 9, 11, 13, 4};

// gnuplot's double-quoted strings.
std::string Quote(absl::string_view text) {
  return absl::StrCat("\"", absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"\"", "\\\""}}), "\"");
}

// "4K", "1M" of powers of two; other numbers as they are.
std::string TickLabel(double value) {
  for (const auto& [unit, name] : {std::pair(1048576.0, "M"), std::pair(1024.0, "K")}) {
    if (value >= unit) return absl::StrFormat("%.4g%s", value / unit, name);
  }
  return absl::StrFormat("%.4g", value);
}

// Waits for it; its exit code, or minus the signal that ended it.
absl::StatusOr<int> RunGnuplot(const std::string& script, const std::string& folder) {
  pid_t pid = -1;
  const int error = SpawnChild(
      {"gnuplot", script},
      [&](posix_spawn_file_actions_t* actions) {
        posix_spawn_file_actions_addchdir_np(actions, folder.c_str());
      },
      &pid);
  if (error == ENOENT) {
    return absl::NotFoundError(
        "gnuplot is not installed (Debian: gnuplot-nox); --no-pictures does without");
  }
  if (error != 0) return absl::ErrnoToStatus(error, "gnuplot");
  int state = 0;
  while (waitpid(pid, &state, 0) < 0) {
    if (errno != EINTR) return absl::ErrnoToStatus(errno, "gnuplot");
  }
  return WIFEXITED(state) ? WEXITSTATUS(state) : -WTERMSIG(state);
}

}  // namespace

std::string GnuplotScript(const Plot& plot) {
  std::set<double> ticks;
  std::string data, curves;
  for (size_t i = 0; i < plot.curves.size(); ++i) {
    const Curve& curve = plot.curves[i];
    absl::StrAppend(&data, "$curve", i, " << END\n");
    for (const auto& [x, y] : curve.points) {
      absl::StrAppendFormat(&data, "%.9g %.9g\n", x, y);
      ticks.insert(x);
    }
    data += "END\n";
    absl::StrAppendFormat(&curves,
                          "%s$curve%d using 1:2 with linespoints title %s linecolor rgb %s "
                          "pointtype %d dashtype %d linewidth 2",
                          i == 0 ? "" : ", \\\n     ", i, Quote(curve.name),
                          Quote(kColours[i % kColours.size()]), kShapes[i % kShapes.size()],
                          i / kColours.size() + 1);
  }
  std::string marks;
  for (const double tick : ticks) {
    absl::StrAppendFormat(&marks, "%s%s %.9g", marks.empty() ? "" : ", ", Quote(TickLabel(tick)),
                          tick);
  }
  std::string script = absl::StrCat(
      data, "set title ", Quote(plot.title), " noenhanced\n", "set xlabel ", Quote(plot.x_label),
      " noenhanced\n", "set ylabel ", Quote(plot.y_label), " noenhanced\n",
      "set logscale x 2\nset xtics (", marks, ")\n", "set offsets graph 0.03, graph 0.03, 0, 0\n",
      "set key outside right top Left reverse noenhanced\n",
      "set grid linetype 1 linewidth 1 linecolor rgb \"#CCCCCC\"\n",
      plot.percent ? "set yrange [0:105]\nset ytics 20\n"
      : plot.log_y ? "set logscale y 10\nset format y \"%.0s%c\"\n"
                   : "set yrange [0:]\nset format y \"%.1s%c\"\n");
  for (const auto& [terminal, ending] :
       {std::pair("svg size 900,520 dynamic background rgb \"white\" font \"sans,14\"", "svg"),
        std::pair("pngcairo size 1350,780 background rgb \"white\" font \"sans,14\"", "png")}) {
    absl::StrAppend(&script, "set terminal ", terminal, "\nset output ",
                    Quote(absl::StrCat(plot.name, ".", ending)), "\nplot ", curves, "\n");
  }
  return script;
}

absl::Status Draw(const Plot& plot, const std::string& folder) {
  const std::string name = absl::StrCat(plot.name, ".gp");
  const std::string path = absl::StrCat(folder, "/", name);
  std::ofstream file(path, std::ios::binary);
  file << GnuplotScript(plot);
  file.close();
  if (!file) return absl::ErrnoToStatus(errno, path);
  const absl::StatusOr<int> code = RunGnuplot(name, folder);
  if (!code.ok()) return code.status();
  if (*code == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("gnuplot ", path, ": exit code ", *code));
}

}  // namespace rasq::client
