#include <cmath>
#include <cstdio>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/commands/command.h"
#include "client/commands/input.h"
#include "client/commands/json.h"
#include "client/commands/progress.h"

namespace rasq::client {
namespace {

// Sends one file from its beginning to its end, and what is added to it later if `follow`.
absl::Status AppendFile(const Context& context, InputFile* file, bool follow,
                        AppendStream* stream) {
  for (;;) {
    std::string text;
    const absl::StatusOr<bool> more = file->Read(*context.interrupt, &text);
    if (absl::Status status = stream->Write(text); !status.ok()) return status;
    if (!more.ok()) return more.status();
    if (*more) continue;
    if (follow) {
      const absl::StatusOr<bool> grown = file->WaitForMore(*context.interrupt);
      if (!grown.ok()) return grown.status();
      if (*grown) continue;
    }
    break;
  }
  std::string text;
  absl::Status status = file->Finish(&text);
  if (absl::Status written = stream->Write(text); !written.ok()) return written;
  return status;
}

absl::Status AppendFiles(const Context& context, std::vector<InputFile>* files, bool follow,
                         AppendStream* stream) {
  for (size_t i = 0; i < files->size() && !context.interrupt->interrupted(); ++i) {
    const bool last = i + 1 == files->size();
    absl::Status status = AppendFile(context, &(*files)[i], follow && last, stream);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RunAppend(Context& context, const Arguments& arguments) {
  bool follow = false, create = false, quiet = false, score = false;
  std::string invalid_name = "refuse";
  FlagSet flags(
      "append SESSION [FILE...]",
      "Appends files (- or none: standard input) to a session, over a stream that resumes\n"
      "after a broken connection. Progress goes to standard error.");
  AddGlobalFlags(&context, &flags);
  flags.Add("follow", 'f', &follow, "go on with what is added to the last file, until Ctrl-C");
  flags.Add("create", 'c', &create, "create the session if it is not there");
  flags.Add("invalid-utf8", 0, &invalid_name,
            "refuse|replace bytes that are not UTF-8 (default: refuse)");
  flags.Add("score", 0, &score, "print how likely the model found the text: its perplexity");
  flags.Add("quiet", 'q', &quiet, "show no progress");
  const absl::StatusOr<Arguments> operands = flags.Parse(arguments);
  if (!operands.ok()) return operands.status();
  if (flags.help_asked()) {
    std::fputs(flags.Help().c_str(), stdout);
    return absl::OkStatus();
  }
  if (operands->empty()) return UsageError("append wants a SESSION");
  if (invalid_name != "refuse" && invalid_name != "replace") {
    return UsageError(absl::StrCat("--invalid-utf8=", invalid_name, ": not refuse or replace"));
  }
  const auto invalid =
      invalid_name == "refuse" ? Utf8Decoder::Invalid::kRefuse : Utf8Decoder::Invalid::kReplace;
  const std::string& session_id = operands->front();

  // Every file is opened before anything is sent: a wrong name appends nothing.
  std::vector<InputFile> files;
  int64_t total_bytes = 0;
  Arguments names(operands->begin() + 1, operands->end());
  if (names.empty()) names.push_back("-");
  for (const std::string& name : names) {
    absl::StatusOr<InputFile> file = InputFile::Open(name, invalid);
    if (!file.ok()) return file.status();
    total_bytes += file->SizeBytes();
    files.push_back(*std::move(file));
  }

  Client client(context.client);
  if (create) {
    v1::CreateSessionRequest request;
    request.set_session_id(session_id);
    const absl::StatusOr<v1::Session> session = client.CreateSession(request);
    if (!session.ok() && !absl::IsAlreadyExists(session.status())) return session.status();
  }
  const absl::Time start = absl::Now();
  const std::unique_ptr<AppendStream> stream = client.StartAppend(session_id, {.score = score});
  std::unique_ptr<ProgressReporter> reporter;
  if (!quiet) {
    reporter = std::make_unique<ProgressReporter>([&] {
      const AppendProgress p = stream->progress();
      return Progress{.done = p.acknowledged_bytes,
                      .total = follow ? 0 : total_bytes,
                      .unit = "bytes",
                      .tokens = p.appended_tokens,
                      .busy = absl::Now() - start};
    });
  }
  // The first Ctrl-C ends the input, and what was read is sent to its end; a second one stops the
  // program.
  context.interrupt->Watch(nullptr);
  // Finished after an error too: what came before a bad byte is in the session then.
  absl::Status status = AppendFiles(context, &files, follow, stream.get());
  const absl::StatusOr<AppendProgress> done = stream->Finish();
  reporter.reset();
  if (!status.ok()) return status;
  if (!done.ok()) return done.status();

  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  const bool scored = done->scored_tokens > 0;
  const double loss = -done->logprob_sum / static_cast<double>(done->scored_tokens);
  if (context.json) {
    Json result = {{"session_id", session_id},
                   {"bytes", done->acknowledged_bytes},
                   {"tokens", done->appended_tokens},
                   {"context_tokens", done->context_tokens},
                   {"next_offset", done->next_offset},
                   {"reconnects", done->reconnects},
                   {"seconds", seconds},
                   {"tokens_per_second", static_cast<double>(done->appended_tokens) / seconds}};
    if (score) {
      result["scored_tokens"] = done->scored_tokens;
      result["mean_negative_log_likelihood"] = scored ? Json(loss) : Json();
      result["perplexity"] = scored ? Json(std::exp(loss)) : Json();
    }
    PrintJson(result);
  } else {
    absl::PrintF("%s: %d bytes, %d tokens appended in %.1f s; %d tokens in all\n", session_id,
                 done->acknowledged_bytes, done->appended_tokens, seconds, done->context_tokens);
    if (scored) {
      absl::PrintF("%d tokens scored: mean negative log-likelihood %.4f nats, perplexity %.3f\n",
                   done->scored_tokens, loss, std::exp(loss));
    } else if (score) {
      absl::PrintF("no tokens scored\n");
    }
  }
  return absl::OkStatus();
}

}  // namespace rasq::client
