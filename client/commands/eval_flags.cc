#include "client/commands/eval_flags.h"

#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/eval/squad_files.h"
#include "rasq/v1/session.pb.h"

namespace rasq::client {
namespace {

constexpr int64_t kMinLength = 256;  // tokens: below, nothing leaves the window

std::vector<std::string> SplitList(const std::string& list) {
  return absl::StrSplit(list, ',', absl::SkipEmpty());
}

absl::Status CheckAtLeast(absl::string_view flag, int64_t value, int64_t least) {
  if (value >= least) return absl::OkStatus();
  return UsageError(absl::StrCat("--", flag, "=", value, ": at least ", least));
}

absl::Status CheckNumbers(const EvalFlags& flags) {
  using Number = std::pair<const char*, int64_t>;
  for (const auto& [name, value] :
       {Number("streams", flags.streams), Number("questions", flags.questions),
        Number("facts", flags.facts), Number("parallel", flags.parallel)}) {
    if (absl::Status status = CheckAtLeast(name, value, 1); !status.ok()) return status;
  }
  return CheckAtLeast("generate-tokens", flags.generate_tokens, 0);
}

// The strategies that the protocol knows; whether a server does is seen when it is asked.
absl::StatusOr<std::vector<std::string>> ParseStrategies(const std::string& list) {
  std::vector<std::string> strategies = SplitList(list);
  if (strategies.empty()) return UsageError("--strategies: at least one");
  for (const std::string& strategy : strategies) {
    v1::Strategy value;
    const std::string name = absl::StrCat("STRATEGY_", absl::AsciiStrToUpper(strategy));
    if (!v1::Strategy_Parse(name, &value) || value == v1::STRATEGY_UNSPECIFIED ||
        absl::AsciiStrToLower(strategy) != strategy) {
      return UsageError(absl::StrCat("--strategies: ", strategy, " is no strategy"));
    }
  }
  return strategies;
}

absl::StatusOr<std::vector<int64_t>> ParseLengths(const std::string& list) {
  std::vector<int64_t> lengths;
  for (const std::string& length : SplitList(list)) {
    if (!ParseTokens(length, &lengths.emplace_back()) || lengths.back() < kMinLength) {
      return UsageError(absl::StrCat("--lengths: ", length, " is no number from ", kMinLength));
    }
  }
  if (lengths.empty()) return UsageError("--lengths: at least one");
  return lengths;
}

absl::StatusOr<TaskSetOptions> ReadTasks(const EvalFlags& flags, tasks::Split split) {
  TaskSetOptions options = {
      .split = split, .seed = flags.seed, .num_facts = flags.facts, .along = flags.along};
  absl::StatusOr<RulerOptions> ruler = ParseRuler(flags.ruler);
  if (!ruler.ok()) return ruler.status();
  options.ruler = *ruler;
  if (!flags.babi.empty()) {
    absl::StatusOr<BabiStories> babi = ReadBabi(flags.babi, split);
    if (!babi.ok()) return babi.status();
    options.babi = *std::move(babi);
  }
  if (!flags.squad.empty()) {
    absl::StatusOr<std::vector<tasks::Episode>> passages =
        ReadSquad(flags.squad, split, flags.all_documents);
    if (!passages.ok()) return passages.status();
    options.passages = *std::move(passages);
  }
  return options;
}

}  // namespace

void EvalFlags::AddTo(FlagSet* flags) {
  flags->Add(
      "tasks", 0, &tasks,
      "NAME,... of the tasks; A+B in the same streams; ruler: all of RULER's; perplexity: of "
      "the text (default: all but these)");
  flags->Add("lengths", 0, &lengths, "N,... tokens of a stream; 4K is 4096 (default: 4K,16K)");
  flags->Add("strategies", 0, &strategies, "NAME,... that the protocol has (default: rasq)");
  flags->Add("session-options", 0, &session_options,
             "LABEL={JSON} of SessionOptions, measured beside the defaults; may be given again");
  flags->Add("sweep", 0, &sweeps,
             "NAME=VALUE,... of a session option, or of a flag of --server; may be given again");
  flags->Add("skip-defaults", 0, &skip_defaults, "only --session-options and --sweep");
  flags->Add("server", 0, &server, "PROGRAM to start and measure, instead of a server that runs");
  flags->Add("server-flag", 0, &server_flags, "NAME=VALUE for --server; may be given again");
  flags->Add("machine", 0, &machine, "NAME of the server's hardware (default: this machine's)");
  flags->Add("streams", 0, &streams, "N of each task and length (default: 8)");
  flags->Add("questions", 0, &questions, "N of each task in a stream, at most (default: 8)");
  flags->Add("facts", 0, &facts, "N of a task in a stream; some have their own (default: 32)");
  flags->Add("generate-tokens", 0, &generate_tokens,
             "N to generate and time at a stream's end (default: 64)");
  flags->Add("seed", 0, &seed, "N: the same seed gives the same streams (default: 1)");
  flags->Add("split", 0, &split, "held-out|training: what is told and asked (default: held-out)");
  flags->Add("text", 0, &text, "FILE of plain text to tell it in; may be given again");
  flags->Add("all-documents", 0, &all_documents,
             "take @@@DOC documents and --squad's articles whatever split they are of");
  flags->Add("babi", 0, &babi, "PATH of bAbI's folder, or of one of its files");
  flags->Add("squad", 0, &squad, "FILE of SQuAD's JSON, for the tasks squad and ruler_qa");
  flags->Add("ruler", 0, &ruler, "NAME=VALUE of RULER's parameters; may be given again");
  flags->Add("along", 0, &along, "ask for news along the stream, behind each update");
  flags->Add("results", 'r', &results, "FILE of JSON lines, gone on with (default: eval.jsonl)");
  flags->Add("parallel", 'p', &parallel, "N sessions at once (default: 1)");
}

bool ParseTokens(absl::string_view text, int64_t* tokens) {
  int64_t unit = 1;
  if (absl::ConsumeSuffix(&text, "K")) unit = 1 << 10;
  if (unit == 1 && absl::ConsumeSuffix(&text, "M")) unit = 1 << 20;
  if (!absl::SimpleAtoi(text, tokens)) return false;
  using Limits = std::numeric_limits<int64_t>;
  if (*tokens < Limits::min() / unit || *tokens > Limits::max() / unit) return false;
  *tokens *= unit;
  return true;
}

absl::StatusOr<EvalPlan> MakePlan(const EvalFlags& flags) {
  if (absl::Status status = CheckNumbers(flags); !status.ok()) return status;
  if (flags.split != "held-out" && flags.split != "training") {
    return UsageError(absl::StrCat("--split=", flags.split, ": not held-out or training"));
  }
  const tasks::Split split =
      flags.split == "training" ? tasks::Split::kTraining : tasks::Split::kHeldOut;
  absl::StatusOr<std::vector<std::string>> strategies = ParseStrategies(flags.strategies);
  if (!strategies.ok()) return strategies.status();
  absl::StatusOr<std::vector<int64_t>> lengths = ParseLengths(flags.lengths);
  if (!lengths.ok()) return lengths.status();
  absl::StatusOr<std::vector<Setting>> settings =
      MakeSettings(flags.session_options, flags.sweeps, flags.skip_defaults);
  if (!settings.ok()) return settings.status();
  for (const Setting& setting : *settings) {
    if (!setting.server_flag.empty() && flags.server.empty()) {
      return UsageError(absl::StrCat("--sweep=", setting.server_flag,
                                     ": no session option, and no --server to start with it"));
    }
  }
  if (!flags.server_flags.empty() && flags.server.empty()) {
    return UsageError("--server-flag: there is no --server to start with it");
  }
  absl::StatusOr<TaskSetOptions> options = ReadTasks(flags, split);
  if (!options.ok()) return options.status();
  absl::StatusOr<std::vector<std::string>> names =
      TaskSet(*options).Resolve(SplitList(flags.tasks));
  if (!names.ok()) return names.status();
  absl::StatusOr<Haystack> haystack = flags.text.empty()
                                          ? Haystack::MadeUp()
                                          : Haystack::Load(flags.text, split, flags.all_documents);
  if (!haystack.ok()) return haystack.status();
  RunHeader header = {
      .machine = flags.machine,
      .seed = flags.seed,
      .split = flags.split,
      .facts = flags.facts,
      .questions = flags.questions,
      .along = flags.along,
      .generate_tokens = flags.generate_tokens,
      .text = absl::StrCat(flags.text.empty() ? "made up, " : "", haystack->Describe()),
      .babi = flags.babi,
      .passages = flags.squad,
      .ruler = Describe(options->ruler),
      .strategies = *std::move(strategies),
      .tasks = *std::move(names),
      .lengths = *std::move(lengths),
      .streams = flags.streams,
      .parallel = flags.parallel};
  return EvalPlan{.header = std::move(header),
                  .settings = *std::move(settings),
                  .tasks = *std::move(options),
                  .haystack = *std::move(haystack)};
}

}  // namespace rasq::client
