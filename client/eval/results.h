// What an evaluation writes, a JSON object a line: "run" (what was measured, with which settings),
// "question" (one asked), "stream" (one that is finished, behind its questions).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/commands/json.h"

namespace rasq::client {

// A stream of an evaluation.
struct StreamKey {
  std::string strategy;
  std::string settings;  // the label of session options and server flags; empty: the defaults
  std::string task;      // "news+people": of a stream that tells both
  int64_t length = 0;    // tokens asked for
  int64_t stream = 0;    // 0, 1, ...
  auto operator<=>(const StreamKey&) const = default;

  // "rasq", "rasq no_dsr": what is compared with others.
  std::string Method() const { return settings.empty() ? strategy : strategy + " " + settings; }
};

struct RunHeader {
  std::string server_version, model, fingerprint, device, dtype, entry_type;
  std::string machine;          // processor or GPU; empty: unknown
  std::string server_flags;     // with which the server was started here; empty: it ran already
  int64_t capacity_tokens = 0;  // of the buffer
  int64_t window_tokens = 0;
  int64_t state_bytes = 0;  // of a session of strategy rasq
  // What decides the streams of a task. A file holds results of equal ones alone.
  int64_t seed = 0;
  std::string split;
  int64_t facts = 0;      // of a stream, at most
  int64_t questions = 0;  // of a stream, at most
  bool along = false;
  int64_t generate_tokens = 0;  // of the generation that is timed at a stream's end
  std::string text;             // of the text between facts: its size and checksum
  std::string babi;             // files of stories; empty: simulated
  std::string passages;         // file of passages; empty: none
  std::string ruler;            // RULER's parameters, "num_keys=4 num_hops=4 ..."
  // What this run was asked for.
  std::vector<std::string> strategies, tasks;
  std::vector<std::string> settings;         // labels
  std::vector<std::string> session_options;  // of each label, as JSON
  std::vector<int64_t> lengths;
  int64_t streams = 0;
  int64_t parallel = 0;
};

struct QuestionResult {
  StreamKey key;      // its task is the one that asks, of several in a stream
  int64_t index = 0;  // of the question in the stream
  std::string kind;   // "now", "then" of news; else mostly empty
  std::string question, want, got;
  double score = 0;  // 0 to 1, as tasks::Judged says; exact match of most
  bool exact = false;
  double f1 = 0;
  std::optional<double> babilong;          // BABILong's own measure, of bAbI's tasks
  int64_t position_tokens = 0;             // of the stream, when it was asked
  int64_t age_tokens = 0;                  // since the newest fact that it needs
  int64_t oldest_age_tokens = 0;           // since the oldest one
  int64_t replaced_values = 0;             // older values in the evidence, if kind is "now"
  std::optional<int64_t> distance_tokens;  // along the stream: since the update that it asks for
  std::optional<double> evidence_recall;   // share of the facts' tokens behind the window
  double retrieved_tokens = 0;             // mean over the call's retrievals
  int64_t output_tokens = 0;
  double time_to_first_token_seconds = 0;
  double total_seconds = 0;

  bool right() const { return score == 1; }
};

struct StreamResult {
  StreamKey key;
  int64_t questions = 0;
  int64_t context_tokens = 0;  // as the server counts them, before the questions at the end
  double append_seconds = 0;
  double append_tokens_per_second = 0;
  int64_t state_bytes = 0;
  // Between each token of the timed generation and the next, as the client gets them.
  std::vector<int64_t> token_gaps_us;
  // Of the stream's end, of task perplexity: natural logarithm.
  std::optional<int64_t> scored_tokens;
  std::optional<double> logprob_sum;
  std::string refused;  // why the server did not take the stream; empty: it did
};

Json ToJson(const RunHeader& header);
Json ToJson(const QuestionResult& result);
Json ToJson(const StreamResult& result);

struct Results {
  std::vector<RunHeader> runs;
  std::vector<QuestionResult> questions;
  std::vector<StreamResult> streams;
};

// Reads lines of the three types. kInvalidArgument names the line ("path:3") and the field.
absl::StatusOr<Results> ParseResults(absl::string_view lines, absl::string_view path);

}  // namespace rasq::client
