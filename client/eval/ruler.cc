#include "client/eval/ruler.h"

#include <algorithm>
#include <array>
#include <memory>
#include <type_traits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/commands/flags.h"

namespace rasq::client {
namespace {

using tasks::Episode;
using tasks::Random;

constexpr std::array<absl::string_view, 3> kKinds = {"words", "numbers", "uuids"};
constexpr std::array<absl::string_view, 3> kBetween = {"text", "noise", "needles"};
constexpr int kOthers = 4096;  // needles, about 80K tokens; then they come again

// One list of parameters for reading and writing. `visit(name, field, low, high)` is called for
// each number, `visit(name, field, names)` for each choice.
template <typename Options, typename Visit>
void VisitParameters(Options& o, Visit visit) {
  visit("num_keys", o.num_keys, 1, 64);
  visit("num_values", o.num_values, 1, 64);
  visit("num_queries", o.num_queries, 1, 64);
  visit("keys", o.keys, kKinds);
  visit("values", o.values, kKinds);
  visit("haystack", o.haystack, kBetween);
  visit("num_chains", o.tracking.num_chains, 1, 64);
  visit("num_hops", o.tracking.num_hops, 0, 64);
  visit("num_common", o.common.num_common, 1, 100);
  visit("common_count", o.common.common_count, 2, 1000);
  visit("uncommon_count", o.common.uncommon_count, 1, 999);
  visit("zipf_exponent", o.frequent.exponent, 1.1, 8.0);
  visit("num_frequent", o.frequent.num_asked, 1, 20);
}

struct Reader {
  absl::string_view name, value;
  bool known = false;
  absl::Status status;

  template <typename Number>
  void operator()(absl::string_view field_name, Number& field, Number low, Number high) {
    if (field_name != name) return;
    known = true;
    bool good;
    if constexpr (std::is_same_v<Number, int>) {
      good = absl::SimpleAtoi(value, &field);
    } else {
      good = absl::SimpleAtod(value, &field);
    }
    if (!good || !(field >= low && field <= high)) {
      status = UsageError(absl::StrCat("--ruler ", name, "=", value, ": from ", low, " to ", high));
    }
  }
  template <typename Choice>
  void operator()(absl::string_view field_name, Choice& field,
                  const std::array<absl::string_view, 3>& names) {
    if (field_name != name) return;
    known = true;
    const auto found = std::find(names.begin(), names.end(), value);
    if (found == names.end()) {
      status = UsageError(
          absl::StrCat("--ruler ", name, "=", value, ": not among ", absl::StrJoin(names, ", ")));
      return;
    }
    field = static_cast<Choice>(found - names.begin());
  }
};

struct Writer {
  std::vector<std::string>* parameters;

  template <typename Number>
  void operator()(absl::string_view name, const Number& field, Number, Number) {
    parameters->push_back(absl::StrCat(name, "=", field));
  }
  template <typename Choice>
  void operator()(absl::string_view name, const Choice& field,
                  const std::array<absl::string_view, 3>& names) {
    parameters->push_back(absl::StrCat(name, "=", names[static_cast<size_t>(field)]));
  }
};

Script MakeNeedleScript(const std::string& name, Random& random, tasks::Split split,
                        const RulerOptions& options) {
  const bool others = options.haystack == RulerOptions::Between::kNeedles;
  tasks::NeedleOptions needles = {
      .keys = options.keys, .values = options.values, .num_others = others ? kOthers : 0};
  if (name == "ruler_multikey") needles.num_keys = options.num_keys;
  if (name == "ruler_multivalue") needles.num_values = options.num_values;
  if (name == "ruler_multiquery") needles.num_keys = needles.num_queries = options.num_queries;
  tasks::Needles made = tasks::MakeNeedles(random, split, needles);
  Script script = ScriptOf(std::move(made.episode), name);
  if (others) script.own_text = std::make_shared<Haystack>(Haystack::FromLines(made.others));
  return script;
}

// The episode that `make` makes of so many words that they take `length_tokens`.
template <typename Make>
absl::StatusOr<Script> MakeOfLength(const std::string& name, int64_t length_tokens,
                                    int64_t min_words, const TokenCounter& count_tokens,
                                    Make make) {
  constexpr int kRounds = 3;  // the numbers in a list get longer with it, the words do not
  int64_t num_words = std::max(min_words, length_tokens / 4), tokens = 0;
  Episode episode;
  for (int round = 0; round < kRounds; ++round) {
    if (round > 0) num_words = std::max(min_words, num_words * length_tokens / tokens);
    episode = make(num_words);
    if (episode.questions.empty()) break;
    const absl::StatusOr<int64_t> count = count_tokens(absl::StrJoin(episode.facts, "\n"));
    if (!count.ok()) return count.status();
    tokens = std::max<int64_t>(1, *count);
  }
  if (episode.questions.empty() || tokens > length_tokens + length_tokens / 10) {
    return absl::OutOfRangeError(absl::StrCat("length=", length_tokens,
                                              " tokens: too few for the counts of ", name,
                                              "; change them with --ruler"));
  }
  Script script = ScriptOf(std::move(episode), name);
  script.facts_alone = true;
  return script;
}

bool CountsWords(absl::string_view name) { return name == "ruler_cwe" || name == "ruler_fwe"; }

}  // namespace

absl::StatusOr<RulerOptions> ParseRuler(const std::vector<std::string>& parameters) {
  RulerOptions options;
  for (const std::string& parameter : parameters) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(parameter, absl::MaxSplits('=', 1));
    Reader reader{.name = parts.first, .value = parts.second};
    VisitParameters(options, [&](auto&&... field) { reader(field...); });
    if (!reader.known)
      return UsageError(absl::StrCat("--ruler ", parameter, ": no such parameter"));
    if (!reader.status.ok()) return reader.status;
  }
  if (options.common.common_count <= options.common.uncommon_count) {
    return UsageError(absl::StrCat("--ruler common_count=", options.common.common_count,
                                   ": not above uncommon_count=", options.common.uncommon_count));
  }
  return options;
}

std::string Describe(const RulerOptions& options) {
  std::vector<std::string> parameters;
  Writer writer{.parameters = &parameters};
  VisitParameters(options, [&](auto&&... field) { writer(field...); });
  return absl::StrJoin(parameters, " ");
}

const std::vector<std::string>& RulerNames() {
  static const auto& names =
      *new std::vector<std::string>({"ruler_single", "ruler_multikey", "ruler_multivalue",
                                     "ruler_multiquery", "ruler_vt", "ruler_cwe", "ruler_fwe"});
  return names;
}

bool RulerTextIsOwn(absl::string_view name, const RulerOptions& options) {
  return CountsWords(name) || options.haystack != RulerOptions::Between::kText;
}

absl::StatusOr<Script> MakeRuler(const std::string& name, Random& random, tasks::Split split,
                                 const RulerOptions& options, int64_t length_tokens,
                                 const TokenCounter& count_tokens) {
  if (name == "ruler_cwe") {
    return MakeOfLength(name, length_tokens, tasks::MinCommonWordsEntries(options.common),
                        count_tokens, [&](int64_t num_words) {
                          Random same = random;
                          return tasks::MakeCommonWords(same, split, options.common, num_words);
                        });
  }
  if (name == "ruler_fwe") {
    return MakeOfLength(name, length_tokens, /*min_words=*/1, count_tokens, [&](int64_t num_words) {
      Random same = random;
      return tasks::MakeFrequentWords(same, split, options.frequent, num_words);
    });
  }
  Script script = name == "ruler_vt"
                      ? ScriptOf(tasks::MakeVariableTracking(random, split, options.tracking), name)
                      : MakeNeedleScript(name, random, split, options);
  // Between assignments other needles would hide nothing.
  if (options.haystack != RulerOptions::Between::kText && script.own_text == nullptr) {
    script.own_text = std::make_shared<Haystack>(Haystack::FromLines(tasks::NoiseSentences()));
  }
  return script;
}

}  // namespace rasq::client
