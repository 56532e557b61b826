#include "client/eval/stream_run.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/eval/answer_metrics.h"
#include "client/eval/stream_plan.h"
#include "client/tasks/tasks.h"

namespace rasq::client {
namespace {

constexpr int64_t kPieceBytes = 8 << 10;
constexpr int32_t kMaxAnswerTokens = 40;  // as in training
constexpr int32_t kMaxEvidence = 512;     // runs: more than are read at a time

double Seconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + duration.nanos() * 1e-9;
}

class StreamRun {
 public:
  StreamRun(Client* client, const TaskSet& tasks, const Haystack& haystack, const StreamKey& key,
            const StreamRunOptions& options)
      : client_(client),
        options_(options),
        key_(key),
        episode_(tasks.Make(key.task, key.stream)),
        along_(tasks.options().along),
        // Places depend on the length, what is told does not.
        random_(StreamRandom(tasks.options().seed, absl::StrCat(key.task, " ", key.length),
                             key.stream)),
        cursor_(&haystack, random_.Below(haystack.bytes())),
        separator_(random_.Chance(0.5) ? "\n" : " ") {}

  absl::StatusOr<StreamRecord> Run(const std::string& session_id);

 private:
  absl::StatusOr<int64_t> CountTokens(const std::string& text) {
    const absl::StatusOr<std::vector<int32_t>> tokens = client_->Tokenize(text);
    if (!tokens.ok()) return tokens.status();
    return static_cast<int64_t>(tokens->size());
  }
  absl::Status Send(const std::string& text, int64_t tokens);
  // Text up to a position, to a word.
  absl::Status Fill(int64_t position_tokens);
  absl::Status Tell(const PlannedFact& planned);
  absl::Status Ask(const PlannedQuestion& planned);
  // What was sent is in the session's state; stops the append's clock.
  absl::Status Absorb();
  std::optional<double> EvidenceRecall(const tasks::Question& question,
                                       const v1::GenerateSummary& summary) const;

  Client* const client_;
  const StreamRunOptions& options_;
  const StreamKey key_;
  const tasks::Episode episode_;
  const bool along_;
  tasks::Random random_;
  Haystack::Cursor cursor_;
  const std::string separator_;

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
    const auto bytes = static_cast<int64_t>(static_cast<double>(position_tokens - position_) *
                                            bytes_per_token * 0.9);
    const std::string text(cursor_.Take(std::clamp<int64_t>(bytes, 1, kPieceBytes)));
    const absl::StatusOr<int64_t> tokens = CountTokens(text);
    if (!tokens.ok()) return tokens.status();
    if (absl::Status status = Send(text, *tokens); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status StreamRun::Tell(const PlannedFact& planned) {
  if (absl::Status status = Fill(planned.position_tokens); !status.ok()) return status;
  fact_starts_.push_back(position_);
  return Send(absl::StrCat(separator_, episode_.facts[planned.fact]), fact_tokens_[planned.fact]);
}

absl::Status StreamRun::Absorb() {
  if (absl::Status status = append_->Flush(); !status.ok()) return status;
  if (busy_since_ != absl::InfiniteFuture()) {
    record_.stream.append_seconds += absl::ToDoubleSeconds(absl::Now() - busy_since_);
  }
  busy_since_ = absl::InfiniteFuture();
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
  const tasks::Question& question = episode_.questions[planned.question];
  const tasks::Frame frame = tasks::MainFrame();
  v1::GenerateRequest request;
  request.set_session_id(session_id_);
  request.mutable_prompt()->set_text(absl::StrCat(frame.opening, question.text, frame.closing));
  request.set_commit_output(v1::COMMIT_OUTPUT_DISCARD);
  request.mutable_stop()->set_max_new_tokens(kMaxAnswerTokens);
  request.mutable_stop()->add_stop_strings(std::string(frame.end));
  request.set_evidence(kMaxEvidence);
  std::string output;
  const absl::StatusOr<v1::GenerateSummary> summary = client_->Generate(
      request, [&](const v1::GenerateResponse& piece) { output += piece.text(); });
  if (!summary.ok()) return summary.status();

  int newest = -1, oldest = static_cast<int>(episode_.facts.size());
  for (const tasks::Span& span : question.evidence) {
    newest = std::max(newest, span.fact);
    oldest = std::min(oldest, span.fact);
  }
  // Stories from a file may name no evidence: then all of it was needed.
  if (newest < 0) newest = static_cast<int>(fact_starts_.size()) - 1, oldest = 0;
  const auto age = [&](int fact) { return position_ - fact_starts_[fact] - fact_tokens_[fact]; };
  const std::string got(absl::StripAsciiWhitespace(
      absl::string_view(output).substr(0, absl::string_view(output).find(frame.end))));
  const bool now = question.kind == "now";
  record_.questions.push_back(
      {.key = key_,
       .index = planned.question,
       .kind = std::string(question.kind),
       .question = question.text,
       .want = question.answer,
       .got = got,
       .exact = ExactMatch(got, question.answer),
       .f1 = TokenF1(got, question.answer),
       .position_tokens = position_,
       .age_tokens = age(newest),
       .oldest_age_tokens = age(oldest),
       .replaced_values = now ? static_cast<int64_t>(question.evidence.size()) - 1 : 0,
       .distance_tokens = planned.distance_tokens,
       .evidence_recall = EvidenceRecall(question, *summary),
       .retrieved_tokens = summary->retrieved_tokens(),
       .time_to_first_token_seconds = Seconds(summary->time_to_first_token()),
       .total_seconds = Seconds(summary->total_time())});
  return absl::OkStatus();
}

absl::StatusOr<StreamRecord> StreamRun::Run(const std::string& session_id) {
  session_id_ = session_id;
  append_ = client_->StartAppend(session_id);
  for (const std::string& fact : episode_.facts) {
    const absl::StatusOr<int64_t> tokens = CountTokens(absl::StrCat(separator_, fact));
    if (!tokens.ok()) return tokens.status();
    fact_tokens_.push_back(*tokens);
  }
  const absl::StatusOr<StreamPlan> plan =
      PlanStream(random_, episode_, fact_tokens_, key_.length, options_.max_questions, along_);
  if (!plan.ok()) return plan.status();

  size_t next_fact = 0;
  const auto tell_until = [&](int64_t position) -> absl::Status {
    for (; next_fact < plan->facts.size() && plan->facts[next_fact].position_tokens < position;
         ++next_fact) {
      if (absl::Status status = Tell(plan->facts[next_fact]); !status.ok()) return status;
    }
    return absl::OkStatus();
  };
  record_.stream.key = key_;
  for (const PlannedQuestion& question : plan->questions) {
    absl::Status status = tell_until(question.position_tokens);
    if (status.ok()) status = Ask(question);
    if (!status.ok()) return status;
  }
  absl::Status status = tell_until(key_.length);
  if (status.ok()) status = Fill(key_.length);
  if (status.ok()) status = Absorb();
  if (!status.ok()) return status;
  if (const auto finished = append_->Finish(); !finished.ok()) return finished.status();

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

// Whether a strategy that has no constant state has met its end.
bool RefusesLength(const StreamKey& key, const absl::Status& status) {
  return key.strategy != "rasq" && key.strategy != "window" &&
         (absl::IsFailedPrecondition(status) || absl::IsInvalidArgument(status) ||
          absl::IsOutOfRange(status) || absl::IsResourceExhausted(status));
}

}  // namespace

absl::StatusOr<StreamRecord> RunStream(Client* client, Client* cleaner, const TaskSet& tasks,
                                       const Haystack& haystack, const StreamKey& key,
                                       const StreamRunOptions& options) {
  v1::CreateSessionRequest request;
  v1::Strategy strategy;
  if (!v1::Strategy_Parse(absl::StrCat("STRATEGY_", absl::AsciiStrToUpper(key.strategy)),
                          &strategy)) {
    return absl::InvalidArgumentError(absl::StrCat("strategy=", key.strategy, " is unknown"));
  }
  request.mutable_options()->set_strategy(strategy);
  request.mutable_options()->set_retrieval_budget_gain(-1);  // the model's
  (*request.mutable_labels())["made-by"] = "rasq-eval";
  const absl::StatusOr<v1::Session> session = client->CreateSession(request);
  if (!session.ok()) return session.status();

  absl::StatusOr<StreamRecord> record =
      StreamRun(client, tasks, haystack, key, options).Run(session->session_id());
  const absl::Status deleted = cleaner->DeleteSession(session->session_id());
  if (!record.ok() && RefusesLength(key, record.status())) {
    StreamRecord refused;
    refused.stream.key = key;
    refused.stream.state_bytes = session->state_bytes();
    refused.stream.refused = std::string(record.status().message());
    return refused;
  }
  if (record.ok() && !deleted.ok()) return deleted;
  return record;
}

}  // namespace rasq::client
