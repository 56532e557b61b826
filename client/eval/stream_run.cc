#include "client/eval/stream_run.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "client/eval/judge.h"
#include "client/eval/perplexity.h"
#include "client/eval/settings.h"
#include "client/eval/stream_plan.h"
#include "client/tasks/tasks.h"

namespace rasq::client {
namespace {

constexpr int64_t kPieceBytes = 8 << 10;
constexpr int64_t kMinAnswerTokens = 40;  // as in training
constexpr int64_t kSpareTokens = 16;      // of an answer, beyond those of the right one
constexpr int64_t kSlackTokens = 16;      // a place of a text may be missed by so many
constexpr int32_t kMaxEvidence = 512;     // runs: more than are read at a time

double Seconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + duration.nanos() * 1e-9;
}

class StreamRun {
 public:
  StreamRun(Client* client, const TaskSet& tasks, const Haystack& haystack, const StreamKey& key,
            const StreamRunOptions& options)
      : client_(client),
        tasks_(tasks),
        haystack_(haystack),
        options_(options),
        key_(key),
        // Places depend on the length, what is told does not.
        random_(StreamRandom(tasks.options().seed, absl::StrCat(key.task, " ", key.length),
                             key.stream)),
        start_(random_.Below(haystack.bytes())),
        separator_(random_.Chance(0.5) ? "\n" : " ") {}

  // Makes what will be told and asked.
  absl::Status Prepare();
  // Once, after Prepare.
  absl::StatusOr<StreamRecord> Run(const std::string& session_id);

 private:
  absl::StatusOr<int64_t> CountTokens(const std::string& text) const {
    const absl::StatusOr<std::vector<int32_t>> tokens = client_->Tokenize(text);
    if (!tokens.ok()) return tokens.status();
    return static_cast<int64_t>(tokens->size());
  }
  absl::Status Send(const std::string& text, int64_t tokens);
  // Text up to a position, to a word.
  absl::Status Fill(int64_t position_tokens);
  absl::Status Tell(const PlannedFact& planned);
  absl::Status Ask(const PlannedQuestion& planned);
  // Generates so many tokens, whatever they say, and keeps the times between them.
  absl::Status TimeGeneration();
  // From now on what is sent is scored.
  absl::Status BeginScores();
  absl::Status EndScores(const AppendProgress& progress);
  // What was sent is in the session's state; stops the append's clock.
  absl::Status Absorb();
  std::optional<double> EvidenceRecall(const tasks::Question& question,
                                       const v1::GenerateSummary& summary) const;

  Client* const client_;
  const TaskSet& tasks_;
  const Haystack& haystack_;
  const StreamRunOptions& options_;
  const StreamKey key_;
  tasks::Random random_;
  const int64_t start_;  // byte of the haystack
  std::string separator_;

  Script script_;
  StreamPlan plan_;
  std::optional<Haystack::Cursor> cursor_;
  std::string session_id_;
  std::unique_ptr<AppendStream> append_;
  absl::Time busy_since_ = absl::InfiniteFuture();  // the append's clock runs since then
  std::vector<int64_t> fact_tokens_;
  std::vector<int64_t> fact_starts_;  // of those told
  int64_t position_ = 0;              // tokens sent
  int64_t sent_bytes_ = 0;
  StreamRecord record_;
};

absl::Status StreamRun::Send(const std::string& text, int64_t tokens) {
  if (options_.stop()) return absl::CancelledError("another stream failed");
  if (busy_since_ == absl::InfiniteFuture()) busy_since_ = absl::Now();
  if (absl::Status status = append_->Write(text); !status.ok()) return status;
  position_ += tokens;
  sent_bytes_ += static_cast<int64_t>(text.size());
  options_.on_tokens(tokens);
  return absl::OkStatus();
}

absl::Status StreamRun::Fill(int64_t position_tokens) {
  while (position_ < position_tokens) {
    // Short of what should do, and the rest again, down to the last word.
    const double bytes_per_token =
        position_ == 0 ? 3.5 : static_cast<double>(sent_bytes_) / static_cast<double>(position_);
    const int64_t left = position_tokens - position_;
    int64_t bytes = std::clamp<int64_t>(
        static_cast<int64_t>(static_cast<double>(left) * bytes_per_token * 0.9), 1, kPieceBytes);
    const Haystack::Cursor before = *cursor_;
    std::string text(cursor_->Take(bytes));
    absl::StatusOr<int64_t> tokens = CountTokens(text);
    // The text may be denser here than before. Where scores begin and end must be met to a word.
    while (tokens.ok() && *tokens > left + (script_.scored ? 0 : kSlackTokens) && bytes > 1) {
      bytes /= 2;
      cursor_.emplace(before);
      text = std::string(cursor_->Take(bytes));
      tokens = CountTokens(text);
    }
    if (!tokens.ok()) return tokens.status();
    if (absl::Status status = Send(text, *tokens); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status StreamRun::Tell(const PlannedFact& planned) {
  if (absl::Status status = Fill(planned.position_tokens); !status.ok()) return status;
  fact_starts_.push_back(position_);
  return Send(absl::StrCat(separator_, script_.episode.facts[planned.fact]),
              fact_tokens_[planned.fact]);
}

absl::Status StreamRun::Absorb() {
  if (absl::Status status = append_->Flush(); !status.ok()) return status;
  if (busy_since_ != absl::InfiniteFuture()) {
    record_.stream.append_seconds += absl::ToDoubleSeconds(absl::Now() - busy_since_);
  }
  busy_since_ = absl::InfiniteFuture();
  return absl::OkStatus();
}

absl::Status StreamRun::BeginScores() {
  if (absl::Status status = Absorb(); !status.ok()) return status;
  if (const auto finished = append_->Finish(); !finished.ok()) return finished.status();
  append_ = client_->StartAppend(session_id_, {.score = true});
  return absl::OkStatus();
}

absl::Status StreamRun::EndScores(const AppendProgress& progress) {
  if (progress.scored_tokens == 0) {
    return absl::UnimplementedError("score=true: the server has scored nothing");
  }
  if (!std::isfinite(progress.logprob_sum)) {
    return absl::InternalError(absl::StrCat("logprob_sum=", progress.logprob_sum,
                                            ": the model gave a token no chance at all"));
  }
  record_.stream.scored_tokens = progress.scored_tokens;
  record_.stream.logprob_sum = progress.logprob_sum;
  return absl::OkStatus();
}

std::optional<double> StreamRun::EvidenceRecall(const tasks::Question& question,
                                                const v1::GenerateSummary& summary) const {
  const double bytes_per_token =
      static_cast<double>(sent_bytes_) / static_cast<double>(std::max<int64_t>(1, position_));
  std::vector<int> facts;
  for (const tasks::Span& span : question.evidence) facts.push_back(span.fact);
  std::sort(facts.begin(), facts.end());
  facts.erase(std::unique(facts.begin(), facts.end()), facts.end());
  double left = 0, read = 0;  // tokens
  for (const int fact : facts) {
    const auto begin = static_cast<double>(fact_starts_[fact]);
    const double end = begin + static_cast<double>(fact_tokens_[fact]);
    if (end + static_cast<double>(options_.window_tokens) > static_cast<double>(position_)) {
      continue;
    }
    left += end - begin;
    // Runs do not overlap. A run's length in tokens follows from its text's.
    for (const v1::Evidence& run : summary.evidence()) {
      const auto from = static_cast<double>(run.position());
      const double tokens = std::max(1.0, static_cast<double>(run.text().size()) / bytes_per_token);
      read += std::max(0.0, std::min(end, from + tokens) - std::max(begin, from));
    }
  }
  if (left == 0) return std::nullopt;
  return std::min(1.0, read / left);
}

absl::Status StreamRun::Ask(const PlannedQuestion& planned) {
  if (absl::Status status = Fill(planned.position_tokens); !status.ok()) return status;
  if (absl::Status status = Absorb(); !status.ok()) return status;
  const tasks::Question& question = script_.episode.questions[planned.question];
  const tasks::Frame frame = tasks::MainFrame();
  v1::GenerateRequest request;
  request.set_session_id(session_id_);
  request.mutable_prompt()->set_text(absl::StrCat(frame.opening, question.text, frame.closing));
  request.set_commit_output(v1::COMMIT_OUTPUT_DISCARD);
  const absl::StatusOr<int64_t> answer_tokens = CountTokens(absl::StrCat(" ", question.answer));
  if (!answer_tokens.ok()) return answer_tokens.status();
  request.mutable_stop()->set_max_new_tokens(
      static_cast<int32_t>(std::max(kMinAnswerTokens, *answer_tokens + kSpareTokens)));
  request.mutable_stop()->add_stop_strings(std::string(frame.end));
  request.set_evidence(kMaxEvidence);
  std::string output;
  const absl::StatusOr<v1::GenerateSummary> summary = client_->Generate(
      request, [&](const v1::GenerateResponse& piece) { output += piece.text(); });
  if (!summary.ok()) return summary.status();

  int newest = -1, oldest = static_cast<int>(script_.episode.facts.size());
  for (const tasks::Span& span : question.evidence) {
    newest = std::max(newest, span.fact);
    oldest = std::min(oldest, span.fact);
  }
  // Stories from a file may name no evidence: then all of it was needed.
  if (newest < 0) newest = static_cast<int>(fact_starts_.size()) - 1, oldest = 0;
  const auto age = [&](int fact) { return position_ - fact_starts_[fact] - fact_tokens_[fact]; };
  const bool now = question.kind == "now";
  StreamKey key = key_;
  key.task = script_.tasks[planned.question];
  QuestionResult result = {
      .key = std::move(key),
      .index = planned.question,
      .kind = std::string(question.kind),
      .question = question.text,
      .want = question.answer,
      .position_tokens = position_,
      .age_tokens = age(newest),
      .oldest_age_tokens = age(oldest),
      .replaced_values = now ? static_cast<int64_t>(question.evidence.size()) - 1 : 0,
      .distance_tokens = planned.distance_tokens,
      .evidence_recall = EvidenceRecall(question, *summary),
      .retrieved_tokens = summary->retrieved_tokens(),
      .output_tokens = summary->output_tokens(),
      .time_to_first_token_seconds = Seconds(summary->time_to_first_token()),
      .total_seconds = Seconds(summary->total_time())};
  const std::vector<std::string> lines =
      absl::StrSplit(output, absl::MaxSplits(std::string(frame.end), 1));
  Judge(question, result.key.task, std::string(absl::StripAsciiWhitespace(lines[0])), &result);
  record_.questions.push_back(std::move(result));
  return absl::OkStatus();
}

absl::Status StreamRun::TimeGeneration() {
  const auto wanted = static_cast<int32_t>(options_.generate_tokens);
  v1::GenerateRequest request;
  request.set_session_id(session_id_);
  request.mutable_prompt()->set_text("\n");
  request.set_commit_output(v1::COMMIT_OUTPUT_DISCARD);
  request.mutable_stop()->set_max_new_tokens(wanted);
  request.mutable_stop()->set_min_new_tokens(wanted);
  request.mutable_stop()->set_ignore_eos(true);
  absl::Time before = absl::InfiniteFuture();
  return client_
      ->Generate(request,
                 [&](const v1::GenerateResponse& piece) {
                   if (piece.tokens_size() == 0) return;
                   const absl::Time now = absl::Now();
                   if (before != absl::InfiniteFuture()) {
                     // A message may bring several tokens.
                     record_.stream.token_gaps_us.insert(
                         record_.stream.token_gaps_us.end(), piece.tokens_size(),
                         absl::ToInt64Microseconds(now - before) / piece.tokens_size());
                   }
                   before = now;
                 })
      .status();
}

absl::Status StreamRun::Prepare() {
  const auto count_tokens = [this](const std::string& text) { return CountTokens(text); };
  absl::StatusOr<Script> script = tasks_.Make(key_.task, key_.stream, key_.length, count_tokens);
  if (!script.ok()) return script.status();
  script_ = *std::move(script);
  if (script_.own_text != nullptr) {
    cursor_.emplace(script_.own_text.get(), random_.Below(script_.own_text->bytes()));
  } else {
    cursor_.emplace(&haystack_, start_);
  }
  if (script_.own_text != nullptr || script_.facts_alone) separator_ = "\n";  // of lines
  for (const std::string& fact : script_.episode.facts) {
    const absl::StatusOr<int64_t> tokens = CountTokens(absl::StrCat(separator_, fact));
    if (!tokens.ok()) return tokens.status();
    fact_tokens_.push_back(*tokens);
  }
  absl::StatusOr<StreamPlan> plan = PlanStream(random_, script_, fact_tokens_, key_.length,
                                               options_.max_questions, tasks_.options().along);
  if (!plan.ok()) return plan.status();
  plan_ = *std::move(plan);
  return absl::OkStatus();
}

absl::StatusOr<StreamRecord> StreamRun::Run(const std::string& session_id) {
  session_id_ = session_id;
  append_ = client_->StartAppend(session_id);
  size_t next_fact = 0;
  const auto tell_until = [&](int64_t position) -> absl::Status {
    for (; next_fact < plan_.facts.size() && plan_.facts[next_fact].position_tokens < position;
         ++next_fact) {
      if (absl::Status status = Tell(plan_.facts[next_fact]); !status.ok()) return status;
    }
    return absl::OkStatus();
  };
  record_.stream.key = key_;
  for (const PlannedQuestion& question : plan_.questions) {
    absl::Status status = tell_until(question.position_tokens);
    if (status.ok()) status = Ask(question);
    if (!status.ok()) return status;
  }
  absl::Status status = tell_until(plan_.length_tokens);
  if (script_.scored) {
    if (status.ok()) status = Fill(plan_.length_tokens - ScoredShare(plan_.length_tokens));
    if (status.ok()) status = BeginScores();
  }
  if (status.ok()) status = Fill(plan_.length_tokens);
  if (status.ok()) status = Absorb();
  if (status.ok() && options_.generate_tokens > 0) status = TimeGeneration();
  if (!status.ok()) return status;
  const absl::StatusOr<AppendProgress> finished = append_->Finish();
  if (!finished.ok()) return finished.status();
  if (script_.scored) status = EndScores(*finished);
  if (!status.ok()) return status;

  const absl::StatusOr<v1::Session> session = client_->GetSession(session_id_);
  if (!session.ok()) return session.status();
  StreamResult& stream = record_.stream;
  stream.questions = static_cast<int64_t>(record_.questions.size());
  stream.context_tokens = session->context_tokens();
  stream.state_bytes = session->state_bytes();
  if (stream.append_seconds > 0) {
    stream.append_tokens_per_second = static_cast<double>(position_) / stream.append_seconds;
  }
  return std::move(record_);
}

// Whether a server has no such strategy or options, or the strategy has met its end: those that
// keep a constant state have none.
bool IsRefusal(const StreamKey& key, const absl::Status& status, bool created) {
  if (!created && absl::IsUnimplemented(status)) return true;
  if (created && (key.strategy == "rasq" || key.strategy == "window")) return false;
  return absl::IsFailedPrecondition(status) || absl::IsInvalidArgument(status) ||
         absl::IsOutOfRange(status) || (created && absl::IsResourceExhausted(status));
}

StreamRecord Refused(const StreamKey& key, const absl::Status& status, int64_t state_bytes) {
  StreamRecord record;
  record.stream.key = key;
  record.stream.state_bytes = state_bytes;
  record.stream.refused = std::string(status.message());
  return record;
}

}  // namespace

absl::StatusOr<StreamRecord> RunStream(Client* client, Client* cleaner, const TaskSet& tasks,
                                       const Haystack& haystack, const StreamKey& key,
                                       const StreamRunOptions& options) {
  v1::Strategy strategy;
  if (!v1::Strategy_Parse(absl::StrCat("STRATEGY_", absl::AsciiStrToUpper(key.strategy)),
                          &strategy)) {
    return absl::InvalidArgumentError(absl::StrCat("strategy=", key.strategy, " is unknown"));
  }
  const absl::StatusOr<v1::SessionOptions> session_options =
      ParseSessionOptions(options.session_options);
  if (!session_options.ok()) return session_options.status();
  v1::CreateSessionRequest request;
  *request.mutable_options() = *session_options;
  request.mutable_options()->set_strategy(strategy);
  (*request.mutable_labels())["made-by"] = "rasq-eval";
  StreamRun run(client, tasks, haystack, key, options);
  if (absl::Status status = run.Prepare(); !status.ok()) {
    if (absl::IsOutOfRange(status)) return Refused(key, status, /*state_bytes=*/0);
    return status;
  }
  const absl::StatusOr<v1::Session> session = client->CreateSession(request);
  if (!session.ok()) {
    if (!IsRefusal(key, session.status(), /*created=*/false)) return session.status();
    return Refused(key, session.status(), /*state_bytes=*/0);
  }

  absl::StatusOr<StreamRecord> record = run.Run(session->session_id());
  const absl::Status deleted = cleaner->DeleteSession(session->session_id());
  if (!record.ok() && IsRefusal(key, record.status(), /*created=*/true)) {
    return Refused(key, record.status(), session->state_bytes());
  }
  if (record.ok() && !deleted.ok()) return deleted;
  return record;
}

}  // namespace rasq::client
