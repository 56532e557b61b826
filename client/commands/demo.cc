#include <cstdio>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "client/commands/answer.h"
#include "client/commands/command.h"
#include "client/commands/json.h"
#include "client/commands/progress.h"
#include "client/stream_generator.h"

namespace rasq::client {
namespace {

// What the stream comes to with the shipped model's tokenizer; the length is then counted in the
// server's tokens.
constexpr double kBytesPerToken = 3.8;
// In the whole stream, however long: their number is what a model has to hold apart, not their age.
constexpr int64_t kFacts = 26;
constexpr int32_t kEvidence = 8;
constexpr int kShownEvidence = 2;
constexpr size_t kMinEvidenceBytes = 8;  // a lone syllable tells a reader nothing
constexpr int32_t kMaxAnswerTokens = 24;

// "817 dollars" is as right as "817".
bool IsRight(absl::string_view answer, absl::string_view value) {
  return absl::ConsumePrefix(&answer, value) && (answer.empty() || answer.front() == ' ');
}

struct DemoOptions {
  int32_t tokens = 100000;
  int32_t questions = 32;
  int64_t seed = 1;
};

class Demo {
 public:
  Demo(const Context& context, const DemoOptions& options)
      : context_(context),
        options_(options),
        client_(context.client),
        generator_(options.seed, static_cast<int64_t>(options.tokens * kBytesPerToken) / kFacts) {}

  absl::Status Run();

 private:
  absl::Status Stream(int64_t until_tokens, AppendStream* stream);
  std::optional<Question> Choose(int64_t number);
  absl::Status Ask(const Question& question, ProgressReporter* reporter);
  void Report(const Question& question, const Answer& answer, bool right) const;
  absl::Status Summarise(const v1::GetModelResponse& model, int64_t final_state_bytes) const;
  // The server's token position of a byte of the stream, between two known ones.
  int64_t PositionTokens(int64_t offset) const;
  Progress GetProgress();

  const Context& context_;
  const DemoOptions options_;
  Client client_;
  StreamGenerator generator_;
  v1::Session session_;
  std::vector<std::pair<int64_t, int64_t>> known_;  // (byte offset, tokens), both growing
  int64_t asked_ = 0;
  int64_t right_ = 0;

  std::mutex mu_;
  Progress progress_;  // guarded by mu_
};

Progress Demo::GetProgress() {
  const std::lock_guard<std::mutex> lock(mu_);
  return progress_;
}

int64_t Demo::PositionTokens(int64_t offset) const {
  for (size_t i = 1; i < known_.size(); ++i) {
    const auto& [from, from_tokens] = known_[i - 1];
    const auto& [to, to_tokens] = known_[i];
    if (offset < to) return from_tokens + (offset - from) * (to_tokens - from_tokens) / (to - from);
  }
  return known_.back().second;
}

absl::Status Demo::Stream(int64_t until_tokens, AppendStream* stream) {
  // In parts, so that the bar moves; each is in the state before its time is taken.
  constexpr int64_t kPartBytes = 8 << 10;
  for (;;) {
    const int64_t missing = until_tokens - known_.back().second;
    if (missing <= 0) return absl::OkStatus();
    const std::string text = generator_.Next(
        std::min(kPartBytes, static_cast<int64_t>(static_cast<double>(missing) * kBytesPerToken)));
    const absl::Time start = absl::Now();
    absl::Status status = stream->Write(text);
    if (status.ok()) status = stream->Flush();
    if (!status.ok()) return status;
    const int64_t tokens = stream->progress().appended_tokens;
    known_.emplace_back(generator_.offset(), tokens);
    const std::lock_guard<std::mutex> lock(mu_);
    progress_.busy += absl::Now() - start;
    progress_.done = progress_.tokens = tokens;
  }
}

std::optional<Question> Demo::Choose(int64_t number) {
  using Wanted = StreamGenerator::Wanted;
  const int64_t now = generator_.offset();
  struct Range {
    int64_t from, to;
    Wanted wanted;
  };
  // In turn: what was just said, what was said long ago, what has changed, keys and people.
  const Range ranges[] = {{now * 9 / 10, now, Wanted::kAny},
                          {0, now / 2, Wanted::kAny},
                          {0, now, Wanted::kUpdated},
                          {0, now * 3 / 4, Wanted::kLookUp}};
  const Range& range = ranges[number % std::size(ranges)];
  std::optional<Question> question = generator_.Ask(range.from, range.to, range.wanted);
  if (!question.has_value()) question = generator_.Ask(0, now, Wanted::kAny);
  return question;
}

absl::Status Demo::Ask(const Question& question, ProgressReporter* reporter) {
  v1::GenerateRequest request;
  request.set_session_id(session_.session_id());
  request.set_commit_output(v1::COMMIT_OUTPUT_DISCARD);
  request.mutable_stop()->set_max_new_tokens(kMaxAnswerTokens);
  request.set_evidence(kEvidence);
  ApplyPromptTemplate(PromptTemplate::kQa, question.text, &request);
  const absl::StatusOr<Answer> answer =
      Generate(&client_, request, PromptTemplate::kQa, /*stream=*/false);
  if (!answer.ok()) return answer.status();
  const bool right = IsRight(answer->text, question.answer);
  ++asked_;
  right_ += right ? 1 : 0;
  reporter->Print([&] { Report(question, *answer, right); });
  return absl::OkStatus();
}

void Demo::Report(const Question& question, const Answer& answer, bool right) const {
  const int64_t position = answer.summary.context_tokens();
  const int64_t age = std::max<int64_t>(0, position - PositionTokens(question.fact_offset));
  if (context_.json) {
    Json evidence = Json::array();
    for (const v1::Evidence& e : answer.summary.evidence()) evidence.push_back(ToJson(e));
    PrintJson({{"event", "question"},
               {"position", position},
               {"age_tokens", age},
               {"replaced_values", question.replaced_values},
               {"question", question.text},
               {"answer", answer.text},
               {"truth", question.answer},
               {"right", right},
               {"evidence", std::move(evidence)}});
    return;
  }
  const std::string updates =
      question.replaced_values == 0
          ? ""
          : absl::StrCat(", newer than ", question.replaced_values,
                         question.replaced_values == 1 ? " other value" : " other values");
  absl::PrintF("@%-7d %s  %s\n", position, right ? "right" : "WRONG", question.text);
  absl::PrintF("         %s%s; said %d tokens ago%s\n", answer.text,
               right ? "" : absl::StrCat(" (it is ", question.answer, ")"), age, updates);
  int shown = 0;
  for (const v1::Evidence& e : answer.summary.evidence()) {
    const std::string text = OneLine(e.text(), 80);
    if (text.size() < kMinEvidenceBytes || shown == kShownEvidence) continue;
    ++shown;
    absl::PrintF("         read @%d: %s\n", e.position(), text);
  }
}

absl::Status Demo::Summarise(const v1::GetModelResponse& model, int64_t final_state_bytes) const {
  const double seconds = absl::ToDoubleSeconds(progress_.busy);
  const double rate = static_cast<double>(progress_.tokens) / seconds;
  const bool enough = right_ * 10 >= asked_ * 8;
  const bool constant = session_.state_bytes() == final_state_bytes;
  if (context_.json) {
    PrintJson({{"event", "summary"},
               {"asked", asked_},
               {"right", right_},
               {"appended_tokens", progress_.tokens},
               {"append_seconds", seconds},
               {"append_tokens_per_second", rate},
               {"state_bytes_start", session_.state_bytes()},
               {"state_bytes_end", final_state_bytes},
               {"device", model.device()},
               {"model", model.name()},
               {"seed", options_.seed}});
  } else {
    absl::PrintF("answers        %d of %d right\n", right_, asked_);
    absl::PrintF("appended       %d tokens in %.1f s: %.0f tokens/s\n", progress_.tokens, seconds,
                 rate);
    absl::PrintF("session state  %d bytes at the start, %d at the end\n", session_.state_bytes(),
                 final_state_bytes);
    absl::PrintF("device         %s\n", model.device());
  }
  if (!constant) return absl::InternalError("the session's state changed its size");
  if (!enough) return absl::InternalError("fewer than 8 of 10 answers are right");
  return absl::OkStatus();
}

absl::Status Demo::Run() {
  const absl::StatusOr<v1::GetModelResponse> model = client_.GetModel();
  if (!model.ok()) return model.status();
  v1::CreateSessionRequest request;
  (*request.mutable_labels())["made-by"] = "rasq-demo";
  absl::StatusOr<v1::Session> session = client_.CreateSession(request);
  if (!session.ok()) return session.status();
  session_ = *std::move(session);

  // Even after Ctrl-C the session goes, by a client that Ctrl-C does not touch.
  ClientOptions cleaner_options = context_.client;
  cleaner_options.cancellation = nullptr;
  cleaner_options.deadline = absl::Seconds(10);
  Client cleaner(cleaner_options);
  const absl::Status status = [&]() -> absl::Status {
    const std::unique_ptr<AppendStream> stream = client_.StartAppend(session_.session_id());
    known_.emplace_back(0, 0);
    {
      const std::lock_guard<std::mutex> lock(mu_);
      progress_.total = options_.tokens;
      progress_.unit = "tokens";
    }
    {
      ProgressReporter reporter([this] { return GetProgress(); });
      for (int64_t i = 1; i <= options_.questions; ++i) {
        absl::Status step = Stream(options_.tokens * i / options_.questions, stream.get());
        if (!step.ok()) return step;
        const std::optional<Question> question = Choose(i);
        if (!question.has_value()) continue;
        if (step = Ask(*question, &reporter); !step.ok()) return step;
      }
    }
    if (absl::StatusOr<AppendProgress> done = stream->Finish(); !done.ok()) return done.status();
    const absl::StatusOr<v1::Session> end = client_.GetSession(session_.session_id());
    if (!end.ok()) return end.status();
    return Summarise(*model, end->state_bytes());
  }();
  const absl::Status deleted = cleaner.DeleteSession(session_.session_id());
  return status.ok() ? deleted : status;
}

}  // namespace

absl::Status RunDemo(Context& context, const Arguments& arguments) {
  DemoOptions options;
  FlagSet flags(
      "demo",
      "Streams made-up news, dialogue and prose into a new session, and asks on the way\n"
      "about what was said just now and long ago, and about what has changed since. Fails\n"
      "if fewer than 8 of 10 answers are right.");
  flags.Add("tokens", 0, &options.tokens, "N to stream (default: 100000)");
  flags.Add("questions", 0, &options.questions, "N to ask (default: 32)");
  flags.Add("seed", 0, &options.seed, "N of the stream (default: 1)");
  AddGlobalFlags(&context, &flags);
  const absl::StatusOr<Arguments> operands = flags.Parse(arguments);
  if (!operands.ok()) return operands.status();
  if (flags.help_asked()) {
    std::fputs(flags.Help().c_str(), stdout);
    return absl::OkStatus();
  }
  if (!operands->empty()) return UsageError("demo wants no operands");
  if (options.tokens < 1000) {
    return UsageError(absl::StrCat("--tokens=", options.tokens, ": at least 1000"));
  }
  if (options.questions < 1) {
    return UsageError(absl::StrCat("--questions=", options.questions, ": at least 1"));
  }
  return Demo(context, options).Run();
}

}  // namespace rasq::client
