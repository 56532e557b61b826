#include "client/eval/report.h"

#include <algorithm>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace rasq::client {
namespace {

std::string DescribeRun(const std::string& name, const RunHeader& run) {
  std::string text = absl::StrFormat(
      "- %s%s, fingerprint %s, server %s on %s (%s) in %s, entries in %s; memory of %d entries and "
      "a "
      "window of %d tokens, %d bytes a session; %s split, seed %d, up to %d facts and %d questions "
      "a task, %d streams at once; text: %s; stories: %s",
      name.empty() ? "" : absl::StrCat(name, ": "), run.model, run.fingerprint, run.server_version,
      run.device, run.machine.empty() ? "machine unknown" : run.machine, run.dtype, run.entry_type,
      run.capacity_tokens, run.window_tokens, run.state_bytes, run.split, run.seed, run.facts,
      run.questions, run.parallel, run.text, run.babi.empty() ? "simulated" : run.babi);
  if (!run.server_flags.empty()) absl::StrAppend(&text, "; server started with ", run.server_flags);
  if (!run.passages.empty()) absl::StrAppend(&text, "; passages: ", run.passages);
  if (std::any_of(run.tasks.begin(), run.tasks.end(),
                  [](const std::string& task) { return absl::StrContains(task, "ruler_"); })) {
    absl::StrAppend(&text, "; RULER: ", run.ruler);
  }
  return text + "\n";
}

// The last run of each server that there was, and what the labels of settings mean.
std::string DescribeRuns(const NamedResults& named) {
  std::string text;
  std::set<std::string> servers, labels;
  std::string settings;
  for (auto run = named.results.runs.rbegin(); run != named.results.runs.rend(); ++run) {
    if (servers.insert(run->server_flags).second) text = DescribeRun(named.name, *run) + text;
    for (size_t i = 0; i < std::min(run->settings.size(), run->session_options.size()); ++i) {
      const std::string& label = run->settings[i];
      // Swept values speak for themselves.
      if (run->session_options[i].empty() || absl::StrContains(label, '=')) continue;
      if (!labels.insert(label).second) continue;
      absl::StrAppend(&settings, "  - ", label, ": `", run->session_options[i], "`\n");
    }
  }
  return text + settings;
}

}  // namespace

std::string MakeMarkdown(const std::string& preface, const std::vector<NamedResults>& all,
                         const std::vector<Table>& tables, const std::vector<Plot>& plots) {
  std::string text = "# Evaluation\n\n";
  if (!preface.empty()) absl::StrAppend(&text, preface, "\n");
  for (const NamedResults& named : all) absl::StrAppend(&text, DescribeRuns(named));
  for (const Table& table : tables) absl::StrAppend(&text, "\n", ToMarkdown(table));
  for (const Plot& plot : plots) {
    absl::StrAppend(&text, "\n![", plot.title, "](", plot.name, ".svg)\n");
  }
  return text;
}

}  // namespace rasq::client
