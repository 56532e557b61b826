#include <algorithm>
#include <cstdio>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/commands/command.h"
#include "client/commands/json.h"
#include "client/eval/evaluation.h"
#include "client/eval/summary.h"

namespace rasq::client {
namespace {

constexpr int64_t kMinLength = 256;  // tokens: below, nothing leaves the window

struct EvalFlags {
  std::string tasks;
  std::string lengths = "4096,16384";
  std::string strategies = "rasq";
  std::string split = "held-out";
  std::string results = "eval.jsonl";
  std::vector<std::string> text;
  std::string babi;
  int64_t streams = 8;
  int64_t questions = 8;
  int64_t facts = 32;
  int64_t seed = 1;
  int64_t parallel = 1;
  bool along = false;
  bool all_documents = false;

  void AddTo(FlagSet* flags) {
    flags->Add("tasks", 0, &tasks, "NAME,... of the tasks (default: all that there are)");
    flags->Add("lengths", 0, &lengths, "N,... tokens of a stream (default: 4096,16384)");
    flags->Add("strategies", 0, &strategies,
               "NAME,... rasq, window, full, razor, pyramid, gca (default: rasq)");
    flags->Add("streams", 0, &streams, "N of each task and length (default: 8)");
    flags->Add("questions", 0, &questions, "N of a stream, at most (default: 8)");
    flags->Add("facts", 0, &facts, "N of a stream; stories have their own (default: 32)");
    flags->Add("seed", 0, &seed, "N: the same seed gives the same streams (default: 1)");
    flags->Add("split", 0, &split, "held-out|training: what is told and asked (default: held-out)");
    flags->Add("text", 0, &text, "FILE of plain text to tell it in; may be given again");
    flags->Add("all-documents", 0, &all_documents,
               "take a text's @@@DOC documents whatever split they are of");
    flags->Add("babi", 0, &babi, "PATH of bAbI's folder, or of one of its files");
    flags->Add("along", 0, &along, "ask for news along the stream, behind each update");
    flags->Add("results", 'r', &results, "FILE of JSON lines, gone on with (default: eval.jsonl)");
    flags->Add("parallel", 'p', &parallel, "N sessions at once (default: 1)");
  }
};

std::vector<std::string> SplitList(const std::string& list) {
  return absl::StrSplit(list, ',', absl::SkipEmpty());
}

absl::Status CheckPositive(absl::string_view flag, int64_t value) {
  if (value >= 1) return absl::OkStatus();
  return UsageError(absl::StrCat("--", flag, "=", value, ": at least 1"));
}

// The settings of the header; the server's part is added later.
absl::StatusOr<RunHeader> MakeHeader(const EvalFlags& flags) {
  for (const auto& [name, value] :
       {std::pair("streams", flags.streams), std::pair("questions", flags.questions),
        std::pair("facts", flags.facts), std::pair("parallel", flags.parallel)}) {
    if (absl::Status status = CheckPositive(name, value); !status.ok()) return status;
  }
  if (flags.split != "held-out" && flags.split != "training") {
    return UsageError(absl::StrCat("--split=", flags.split, ": not held-out or training"));
  }
  RunHeader header{.seed = flags.seed,
                   .split = flags.split,
                   .facts = flags.facts,
                   .questions = flags.questions,
                   .along = flags.along,
                   .strategies = SplitList(flags.strategies),
                   .streams = flags.streams,
                   .parallel = flags.parallel};
  for (const std::string& length : SplitList(flags.lengths)) {
    if (!absl::SimpleAtoi(length, &header.lengths.emplace_back()) ||
        header.lengths.back() < kMinLength) {
      return UsageError(absl::StrCat("--lengths: ", length, " is no number from ", kMinLength));
    }
  }
  if (header.lengths.empty()) return UsageError("--lengths: at least one");
  if (header.strategies.empty()) return UsageError("--strategies: at least one");
  for (const std::string& strategy : header.strategies) {
    v1::Strategy known;
    if (!v1::Strategy_Parse(absl::StrCat("STRATEGY_", absl::AsciiStrToUpper(strategy)), &known) ||
        known == v1::STRATEGY_UNSPECIFIED) {
      return UsageError(absl::StrCat("--strategies: ", strategy, " is unknown"));
    }
  }
  return header;
}

void Describe(const v1::GetModelResponse& model, RunHeader* header) {
  header->server_version = model.server_version();
  header->model = model.name();
  header->fingerprint = model.fingerprint();
  header->device = model.device();
  header->dtype = model.dtype();
  header->capacity_tokens = model.buffer_capacity_tokens();
  header->window_tokens = model.window_tokens();
  header->state_bytes = model.session_state_bytes();
}

void PrintSummary(const Context& context, const Results& results) {
  if (!context.json) {
    std::fputs(SummaryTable(results).c_str(), stdout);
    return;
  }
  Json rows = Json::array();
  for (const SummaryCell& cell : Summarise(results)) {
    rows.push_back({{"strategy", cell.strategy},
                    {"task", cell.task},
                    {"length", cell.length},
                    {"questions", cell.share.asked},
                    {"right", cell.share.right}});
  }
  PrintJson({{"results", std::move(rows)}});
}

absl::Status Eval(const Context& context, const EvalFlags& flags) {
  absl::StatusOr<RunHeader> header = MakeHeader(flags);
  if (!header.ok()) return header.status();
  TaskSetOptions options = {
      .split = flags.split == "training" ? tasks::Split::kTraining : tasks::Split::kHeldOut,
      .seed = flags.seed,
      .num_facts = flags.facts,
      .along = flags.along};
  if (!flags.babi.empty()) {
    absl::StatusOr<BabiStories> babi = ReadBabi(flags.babi, options.split);
    if (!babi.ok()) return babi.status();
    options.babi = *std::move(babi);
    header->babi = flags.babi;
  }
  absl::StatusOr<Haystack> haystack =
      flags.text.empty() ? Haystack::MadeUp()
                         : Haystack::Load(flags.text, options.split, flags.all_documents);
  if (!haystack.ok()) return haystack.status();
  header->text = absl::StrCat(flags.text.empty() ? "made up, " : "", haystack->Describe());
  const TaskSet tasks(std::move(options));
  header->tasks = flags.tasks.empty() ? tasks.Names() : SplitList(flags.tasks);
  if (absl::Status status = tasks.Check(header->tasks); !status.ok()) return status;

  const absl::StatusOr<v1::GetModelResponse> model = Client(context.client).GetModel();
  if (!model.ok()) return model.status();
  Describe(*model, &*header);
  absl::StatusOr<ResultFile> file = ResultFile::Open(flags.results, *header);
  if (!file.ok()) return file.status();
  Evaluation evaluation(context.client, *header, &tasks, &*haystack, &*file);
  const absl::Status status = evaluation.Run();
  PrintSummary(context, file->results());
  return status;
}

}  // namespace

absl::Status RunEval(Context& context, const Arguments& arguments) {
  EvalFlags eval_flags;
  FlagSet flags(
      "eval",
      "Measures a server's memory: streams of text with facts in it, and questions at their\n"
      "ends. What is told and asked is held out from training, by default. A run that was\n"
      "broken off goes on where its results end. `rasq report` makes tables and pictures.");
  eval_flags.AddTo(&flags);
  AddGlobalFlags(&context, &flags);
  const absl::StatusOr<Arguments> operands = flags.Parse(arguments);
  if (!operands.ok()) return operands.status();
  if (flags.help_asked()) {
    std::fputs(flags.Help().c_str(), stdout);
    return absl::OkStatus();
  }
  if (!operands->empty()) return UsageError("eval wants no operands");
  return Eval(context, eval_flags);
}

}  // namespace rasq::client
