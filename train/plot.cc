#include "train/plot.h"

#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "engine/json_reader.h"
#include "kernels/base/status.h"
#include "train/safetensors_writer.h"

extern char** environ;

namespace rasq::train {
namespace {

constexpr int kColumns = 2, kWidth = 1200, kRowHeight = 300;  // pixels

// Names of the log's means that share a picture.
struct Panel {
  const char* title;
  std::vector<const char*> means;
  bool is_share = false;  // of 1
};
const std::vector<Panel>& Panels() {
  static const auto* const panels = new std::vector<Panel>{
      {"loss", {"task", "answer"}},
      {"retrieval loss", {"retrieval"}},
      {"found", {"recall", "alive", "attention_read"}, true},
      {"write gate", {"gate", "keep"}},
      {"entries read", {"budget"}},
      {"compression error", {"compression"}},
      {"policy", {"reward", "explored_budget"}},
  };
  return *panels;
}

using Curve = std::map<int64_t, double>;  // by tokens

struct Log {
  std::map<std::string, Curve> means, right;
  std::map<int64_t, std::string> phases;  // from when on

  void DropFrom(int64_t tokens) {
    for (auto* curves : {&means, &right}) {
      for (auto& [name, curve] : *curves) curve.erase(curve.lower_bound(tokens), curve.end());
    }
    phases.erase(phases.lower_bound(tokens), phases.end());
  }
};

std::string Quoted(absl::string_view text) { return absl::StrReplaceAll(text, {{"'", "''"}}); }
// Underscores would lower what follows them.
std::string Title(absl::string_view name) { return absl::StrReplaceAll(name, {{"_", "\\_"}}); }

absl::StatusOr<Log> ParseLog(absl::string_view text, absl::string_view where) {
  Log log;
  std::vector<absl::string_view> lines = absl::StrSplit(text, '\n');
  lines.pop_back();  // behind the last end of a line
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string place = absl::StrCat(where, ":", i + 1);
    RASQ_ASSIGN_OR_RETURN(const Json line, ParseJson(lines[i], place));
    if (!line.is_object()) return absl::InvalidArgumentError(absl::StrCat(place, ": no object"));
    FieldReader fields(line, place);
    const int64_t tokens = fields.Int("tokens", 0, int64_t{1} << 60);
    const std::string phase = fields.String("phase", "");
    RASQ_RETURN_IF_ERROR(fields.status());
    log.DropFrom(tokens);
    if (log.phases.empty() || log.phases.rbegin()->second != phase) log.phases[tokens] = phase;
    const auto take = [&](const char* field, std::map<std::string, Curve>& curves) {
      const Json* values = fields.Find(field);
      if (values == nullptr || !values->is_object()) return;
      for (const auto& [name, value] : values->items()) {
        if (value.is_number()) curves[name][tokens] = value.get<double>();
      }
    };
    take("means", log.means);
    take("right", log.right);
  }
  return log;
}

class Script {
 public:
  // Curves that have no points are left out, and panels that have no curves.
  void Add(const Panel& panel, const std::vector<std::pair<std::string, const Curve*>>& curves) {
    std::string plots;
    double least = INFINITY, most = -INFINITY;
    for (const auto& [name, curve] : curves) {
      if (curve->empty()) continue;
      absl::StrAppend(&data_, "$curve", num_curves_, " << END\n");
      for (const auto& [tokens, value] : *curve) {
        absl::StrAppendFormat(&data_, "%.6g %.6g\n", static_cast<double>(tokens) / 1e6, value);
        least = std::min(least, value);
        most = std::max(most, value);
      }
      absl::StrAppend(&data_, "END\n");
      absl::StrAppendFormat(&plots, "%s $curve%d using 1:2 with lines linewidth 1.5 title '%s'",
                            plots.empty() ? "plot" : ",", num_curves_++, Quoted(Title(name)));
    }
    if (plots.empty()) return;
    std::string range = panel.is_share ? "0:1.02" : "*:*";
    if (!panel.is_share && least == most) {  // gnuplot warns of a range without a width
      range = absl::StrFormat("%.6g:%.6g", least - 0.5, most + 0.5);
    }
    absl::StrAppendFormat(&panels_, "set title '%s'\nset yrange [%s]\n%s\n", panel.title, range,
                          plots);
    ++num_panels_;
  }

  std::string Finish(const std::map<int64_t, std::string>& phases, absl::string_view prefix) const {
    const int rows = (num_panels_ + kColumns - 1) / kColumns, height = rows * kRowHeight;
    std::string script = absl::StrCat(
        data_, "set xlabel 'million tokens'\nset grid linecolor rgb 'gray80'\n",
        "set key outside right top\nset rmargin 24\n");  // frames of one width, whatever the keys
    for (const auto& [tokens, name] : phases) {          // where each but the first phase begins
      if (tokens == phases.begin()->first) continue;
      const double x = static_cast<double>(tokens) / 1e6;
      absl::StrAppendFormat(&script,
                            "set arrow from %.6g, graph 0 to %.6g, graph 1 nohead dashtype 2 "
                            "linecolor rgb 'gray50'\n",
                            x, x);
      absl::StrAppendFormat(&script,
                            "set label '%s' at %.6g, graph 0.97 right rotate offset 0.8,0 "
                            "font ',8' textcolor rgb 'gray50'\n",
                            Quoted(Title(name)), x);
    }
    for (const char* kind : {"svg", "png"}) {
      absl::StrAppendFormat(
          &script, "set terminal %s size %d,%d background rgb 'white'\nset output '%s.%s'\n",
          kind == absl::string_view("svg") ? "svg" : "pngcairo", kWidth, height, prefix, kind);
      absl::StrAppendFormat(&script, "set multiplot layout %d,%d\n%sunset multiplot\n", rows,
                            kColumns, panels_);
    }
    return script + "unset output\n";
  }

 private:
  std::string data_, panels_;
  int num_curves_ = 0, num_panels_ = 0;
};

absl::Status RunGnuplot(std::string script) {
  std::string name = "gnuplot";
  char* arguments[] = {name.data(), script.data(), nullptr};
  pid_t child;
  if (posix_spawnp(&child, arguments[0], nullptr, nullptr, arguments, environ) != 0) {
    return absl::FailedPreconditionError("gnuplot: not found in PATH; Debian's gnuplot-nox has it");
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    return absl::InternalError(absl::StrCat("gnuplot ", script, ": status=", status));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> MakePlotScript(absl::string_view text, absl::string_view where,
                                           absl::string_view prefix) {
  RASQ_ASSIGN_OR_RETURN(Log log, ParseLog(text, where));
  if (log.means.empty()) return absl::InvalidArgumentError(absl::StrCat(where, ": no line yet"));
  Script script;
  for (const Panel& panel : Panels()) {
    std::vector<std::pair<std::string, const Curve*>> curves;
    for (const char* name : panel.means) curves.emplace_back(name, &log.means[name]);
    script.Add(panel, curves);
  }
  std::vector<std::pair<std::string, const Curve*>> tasks;
  for (const auto& [name, curve] : log.right) tasks.emplace_back(name, &curve);
  script.Add({.title = "answers right", .means = {}, .is_share = true}, tasks);
  return script.Finish(log.phases, Quoted(prefix));
}

absl::Status PlotRun(const std::string& directory) {
  const std::string log = absl::StrCat(directory, "/log.jsonl");
  const std::string prefix = absl::StrCat(directory, "/curves");
  RASQ_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(log));
  RASQ_ASSIGN_OR_RETURN(const std::string script, MakePlotScript(text, log, prefix));
  RASQ_RETURN_IF_ERROR(WriteTextFile(prefix + ".gp", script));
  return RunGnuplot(prefix + ".gp");
}

}  // namespace rasq::train
