// Curves of a run, from its log: losses, what is found and kept, and answers right by task, over
// the tokens trained on. Drawn by gnuplot, which need be there only for this.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace rasq::train {

// The gnuplot script, data included, that draws PREFIX.svg and PREFIX.png from the text of a
// log.jsonl. Where a run was cut and went on from an earlier save, the later lines hold. A last
// line without an end is left out. kInvalidArgument names the line of `where` that is no log's.
absl::StatusOr<std::string> MakePlotScript(absl::string_view log, absl::string_view where,
                                           absl::string_view prefix);

// Writes curves.gp, curves.svg and curves.png into a run's directory. kFailedPrecondition if there
// is no gnuplot.
absl::Status PlotRun(const std::string& directory);

}  // namespace rasq::train
