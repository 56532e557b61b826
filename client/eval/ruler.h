// RULER's task families (Hsieh et al. 2024, arXiv:2404.06654) as streams.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/eval/script.h"
#include "client/tasks/needles.h"
#include "client/tasks/random.h"
#include "client/tasks/variable_tracking.h"
#include "client/tasks/word_counts.h"

namespace rasq::client {

// Names and defaults as in the paper, where it has them.
struct RulerOptions {
  int num_keys = 4;     // of ruler_multikey; each is asked for alone
  int num_values = 4;   // of ruler_multivalue's key
  int num_queries = 4;  // keys of ruler_multiquery, asked for at once
  tasks::NeedleKind keys = tasks::NeedleKind::kWords;
  tasks::NeedleKind values = tasks::NeedleKind::kNumbers;
  // What stands between needles and assignments: the text of the run, one thought again and again,
  // or needles of other keys.
  enum class Between { kText, kNoise, kNeedles };
  Between haystack = Between::kText;
  tasks::VariableTrackingOptions tracking;
  tasks::CommonWordsOptions common;
  tasks::FrequentWordsOptions frequent;
};

// Of "num_keys=8", "haystack=noise" and so on. A usage error names what is wrong.
absl::StatusOr<RulerOptions> ParseRuler(const std::vector<std::string>& parameters);
// All parameters in that form, with spaces between.
std::string Describe(const RulerOptions& options);

// ruler_single, ruler_multikey, ruler_multivalue, ruler_multiquery, ruler_vt, ruler_cwe, ruler_fwe.
// Its questions about passages are in passages.h.
const std::vector<std::string>& RulerNames();
// Whether all of a task's text is its own, so that no other task can stand in it.
bool RulerTextIsOwn(absl::string_view name, const RulerOptions& options);

// Counts a text's tokens.
using TokenCounter = std::function<absl::StatusOr<int64_t>(const std::string&)>;

// Lists of words get about `length_tokens`; kOutOfRange if these are too few for the counts that
// are asked about. REQUIRES: `name` is one of them.
absl::StatusOr<Script> MakeRuler(const std::string& name, tasks::Random& random, tasks::Split split,
                                 const RulerOptions& options, int64_t length_tokens,
                                 const TokenCounter& count_tokens);

}  // namespace rasq::client
