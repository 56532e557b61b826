// The callers' side of the engine: Append and Generate, checked, tokenized and accepted.
#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/check_range.h"
#include "engine/engine_impl.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

int64_t ContentSize(const Content& content) {
  if (const auto* text = std::get_if<std::string>(&content)) return text->size();
  if (const auto* ids = std::get_if<std::vector<int32_t>>(&content)) return ids->size();
  if (const auto* rows = std::get_if<EmbeddingRows>(&content)) return rows->rows;
  return 0;
}

}  // namespace

absl::Status Engine::Impl::CheckContent(const Content& content) const {
  if (const auto* ids = std::get_if<std::vector<int32_t>>(&content)) {
    const int32_t last = model_->config().vocab - 1;
    const auto bad =
        std::find_if(ids->begin(), ids->end(), [last](int32_t id) { return id < 0 || id > last; });
    if (bad != ids->end()) {
      return CheckRange(absl::StrCat("content.token_ids.ids[", bad - ids->begin(), "]"), *bad, 0,
                        last);
    }
  }
  if (const auto* rows = std::get_if<EmbeddingRows>(&content)) {
    const int64_t hidden = model_->config().hidden;
    if (rows->rows < 0 || static_cast<int64_t>(rows->values.size()) != rows->rows * hidden) {
      return absl::InvalidArgumentError(absl::StrCat("content.embeddings: rows=", rows->rows,
                                                     " with ", rows->values.size(),
                                                     " values: must be ", hidden, " a row"));
    }
    for (size_t i = 0; i < rows->values.size(); ++i) {
      if (!std::isfinite(rows->values[i])) {
        return absl::InvalidArgumentError(
            absl::StrCat("content.embeddings: value ", i, " is not finite"));
      }
    }
  }
  return absl::OkStatus();
}

std::vector<std::shared_ptr<const Input>> Engine::Impl::ToInput(Content content, bool pinned,
                                                                bool& begun, TextStream& text,
                                                                int64_t& num_tokens) const {
  std::vector<std::shared_ptr<const Input>> inputs;
  const auto add = [&](Input input) {
    num_tokens += input.size();
    if (input.size() > 0) inputs.push_back(std::make_shared<Input>(std::move(input)));
  };
  if (auto* said = std::get_if<std::string>(&content)) {
    if (said->empty()) return inputs;
    Input input{.pinned = pinned};
    if (pinned) {  // a text of its own: what is held back before it is not pinned
      Input before;
      text.Finish(before.ids);
      add(std::move(before));
    }
    if (!begun && tokenizer_->add_bos()) input.ids.push_back(tokenizer_->bos_token_id());
    text.Append(*said, input.ids);
    if (pinned) text.Finish(input.ids);
    add(std::move(input));
  } else {
    if (ContentSize(content) == 0) return inputs;
    Input before;
    text.Finish(before.ids);
    add(std::move(before));
    Input input{.pinned = pinned};
    if (auto* ids = std::get_if<std::vector<int32_t>>(&content)) {
      input.ids = std::move(*ids);
    } else if (auto* rows = std::get_if<EmbeddingRows>(&content)) {
      input.ids.assign(rows->rows, -1);
      input.embeddings = std::move(rows->values);
    }
    add(std::move(input));
  }
  begun = true;
  return inputs;
}

absl::StatusOr<AppendReceipt> Engine::Impl::Append(
    AppendRequest request, std::function<void(absl::StatusOr<AppendResult>)> on_absorbed) {
  if (std::holds_alternative<std::monostate>(request.content)) {
    return absl::InvalidArgumentError("content: is not set");
  }
  RASQ_RETURN_IF_ERROR(CheckContent(request.content));
  SessionPtr session;
  {
    MutexLock lock(mu_);
    RASQ_ASSIGN_OR_RETURN(session, FindUsable(request.session));
  }
  RASQ_RETURN_IF_ERROR(CheckHistoryContent(*session, request.content));
  RASQ_RETURN_IF_ERROR(CheckScore(*session, request));
  const StreamShape& shape = session->layout->shape;
  if (request.pinned && !session->layout->has_memory()) {
    return absl::FailedPreconditionError("pinned=true: the session's strategy keeps no memory");
  }

  MutexLock input_lock(session->input_mu);
  if (request.offset >= 0 && request.offset != session->next_offset) {
    return absl::OutOfRangeError(
        absl::StrCat("offset=", request.offset, ": next_offset is ", session->next_offset));
  }
  // Works on copies: a refusal further down must leave no trace.
  TextStream text = session->text;
  bool begun = session->begun;
  const int64_t next_offset = session->next_offset + ContentSize(request.content);
  WorkItem item;
  item.input = ToInput(std::move(request.content), request.pinned, begun, text, item.num_tokens);
  const int64_t pinned_tokens = session->pinned_tokens + (request.pinned ? item.num_tokens : 0);
  if (pinned_tokens > shape.capacity / 2 && request.pinned) {
    return absl::ResourceExhaustedError(absl::StrCat("pinned: ", pinned_tokens,
                                                     " tokens in all, at most ", shape.capacity / 2,
                                                     " of the buffer may be"));
  }
  AppendReceipt receipt{.accepted_tokens = item.num_tokens, .next_offset = next_offset};
  item.mark = {.next_offset = next_offset,
               .pinned_tokens = pinned_tokens,
               .held_text = std::string(text.held()),
               .begun = begun};
  item.score = request.score;
  item.on_absorbed = std::move(on_absorbed);
  item.accept_time = absl::Now();
  {
    MutexLock lock(mu_);
    RASQ_RETURN_IF_ERROR(FindUsable(session->name).status());
    RASQ_RETURN_IF_ERROR(LogHealth());
    const int64_t backlog = session->accepted_tokens - session->absorbed_tokens + item.num_tokens;
    if (backlog > options_.max_backlog_tokens) {
      return absl::ResourceExhaustedError(
          absl::StrCat("backlog_tokens=", backlog, " with this call's ", item.num_tokens,
                       ": a session may have ", options_.max_backlog_tokens));
    }
    if (backlog_tokens_ + item.num_tokens > options_.max_total_backlog_tokens) {
      return absl::ResourceExhaustedError(
          absl::StrCat("backlog_tokens of all sessions=", backlog_tokens_ + item.num_tokens,
                       " with this call's ", item.num_tokens, ": the server may have ",
                       options_.max_total_backlog_tokens));
    }
    const int64_t context = session->accepted_tokens + item.num_tokens;
    const int32_t most = session->layout->max_context();
    if (most > 0 && context > most) {
      return absl::FailedPreconditionError(
          absl::StrCat("context_tokens=", context, " with this call's: strategy ",
                       Name(session->layout->strategy), " keeps at most ", most));
    }
    RASQ_RETURN_IF_ERROR(CheckHistoryRoom(*session, item.num_tokens));
    session->accepted_tokens += item.num_tokens;
    session->known_offset = next_offset;
    ++session->items_in_flight;
    backlog_tokens_ += item.num_tokens;
    receipt.backlog_tokens = backlog;
    inbox_.emplace_back(session, std::move(item));
    wake_.Signal();
  }
  session->text = std::move(text);
  session->begun = begun;
  session->next_offset = receipt.next_offset;
  session->pinned_tokens = pinned_tokens;
  ++session->num_inputs;
  return receipt;
}

absl::Status Engine::Impl::CheckGenerate(const GenerateRequest& request) const {
  constexpr double kLarge = 1e6;
  const SamplingOptions& sampling = request.sampling;
  const StopOptions& stop = request.stop;
  const int32_t vocab = model_->config().vocab;
  RASQ_RETURN_IF_ERROR(CheckRange("sampling.temperature", sampling.temperature, 0.0, kLarge));
  RASQ_RETURN_IF_ERROR(CheckRange("sampling.top_k", sampling.top_k, 0, INT32_MAX));
  RASQ_RETURN_IF_ERROR(CheckRange("sampling.top_p", sampling.top_p, 0.0, 1.0));
  RASQ_RETURN_IF_ERROR(CheckRange("sampling.min_p", sampling.min_p, 0.0, 1.0));
  RASQ_RETURN_IF_ERROR(
      CheckRange("sampling.repetition_penalty", sampling.repetition_penalty, 0.0, kLarge));
  RASQ_RETURN_IF_ERROR(
      CheckRange("sampling.presence_penalty", sampling.presence_penalty, -kLarge, kLarge));
  RASQ_RETURN_IF_ERROR(
      CheckRange("sampling.frequency_penalty", sampling.frequency_penalty, -kLarge, kLarge));
  RASQ_RETURN_IF_ERROR(
      CheckRange("stop.max_new_tokens", stop.max_new_tokens, 0, options_.max_new_tokens));
  RASQ_RETURN_IF_ERROR(
      CheckRange("stop.min_new_tokens", stop.min_new_tokens, 0,
                 stop.max_new_tokens > 0 ? stop.max_new_tokens : options_.default_max_new_tokens));
  RASQ_RETURN_IF_ERROR(
      CheckRange<int64_t>("stop.stop_strings.size", stop.stop_strings.size(), 0, 64));
  for (size_t i = 0; i < stop.stop_strings.size(); ++i) {
    RASQ_RETURN_IF_ERROR(CheckRange<int64_t>(absl::StrCat("stop.stop_strings[", i, "].size"),
                                             stop.stop_strings[i].size(), 1, 1024));
  }
  RASQ_RETURN_IF_ERROR(
      CheckRange<int64_t>("stop.stop_token_ids.size", stop.stop_token_ids.size(), 0, 1024));
  for (size_t i = 0; i < stop.stop_token_ids.size(); ++i) {
    RASQ_RETURN_IF_ERROR(CheckRange(absl::StrCat("stop.stop_token_ids[", i, "]"),
                                    stop.stop_token_ids[i], 0, vocab - 1));
  }
  RASQ_RETURN_IF_ERROR(CheckRange("logprobs", request.logprobs, 0,
                                  std::min(vocab, model_->limits().max_alternatives)));
  RASQ_RETURN_IF_ERROR(CheckRange("evidence", request.evidence, 0, 1000));
  return CheckContent(request.prompt);
}

absl::StatusOr<int64_t> Engine::Impl::Generate(GenerateRequest request,
                                               std::shared_ptr<GenerateSink> sink) {
  RASQ_RETURN_IF_ERROR(CheckGenerate(request));
  auto generation = std::make_shared<Generation>();
  generation->start_time = absl::Now();
  if (request.stop.max_new_tokens == 0) {
    request.stop.max_new_tokens = options_.default_max_new_tokens;
  }
  SessionPtr session;
  {
    MutexLock lock(mu_);
    RASQ_ASSIGN_OR_RETURN(session, FindUsable(request.session));
  }
  RASQ_RETURN_IF_ERROR(CheckHistoryContent(*session, request.prompt));

  MutexLock input_lock(session->input_mu);
  // The text so far ends here: what it holds back is read as it stands, then the prompt.
  TextStream text = session->text;
  bool begun = session->begun;
  int64_t num_tokens = 0;
  generation->begun_before = begun;
  generation->held_text = std::string(text.held());
  Input held;
  text.Finish(held.ids);
  const int64_t held_tokens = held.size();
  if (held.size() > 0) generation->prompt.push_back(std::make_shared<Input>(std::move(held)));
  TextStream prompt_text(tokenizer_.get());
  for (auto& input :
       ToInput(std::move(request.prompt), /*pinned=*/false, begun, prompt_text, num_tokens)) {
    generation->prompt.push_back(std::move(input));
  }
  Input rest;
  prompt_text.Finish(rest.ids);
  num_tokens += rest.size();
  if (rest.size() > 0) generation->prompt.push_back(std::make_shared<Input>(std::move(rest)));
  generation->prompt_tokens = static_cast<int32_t>(num_tokens);
  if (!begun) {
    return absl::FailedPreconditionError("prompt: is empty, and so is the session");
  }
  if (num_tokens >
      0) {  // the last token of the prompt starts a segment: it reads what all of it found
    Input last = *generation->prompt.back();
    last.segment_break = last.size() - 1;
    generation->prompt.back() = std::make_shared<Input>(std::move(last));
  }
  generation->held_tokens = held_tokens;
  generation->mark = {.next_offset = session->next_offset,
                      .pinned_tokens = session->pinned_tokens,
                      .held_text = "",
                      .begun = true};
  generation->seed = static_cast<uint64_t>(request.sampling.has_seed ? request.sampling.seed
                                                                     : session->options.seed);
  const bool commit = request.commit;
  generation->request = std::move(request);
  generation->sink = std::move(sink);

  {
    MutexLock lock(mu_);
    RASQ_RETURN_IF_ERROR(FindUsable(session->name).status());
    if (session->generation != 0 && !session->cancelling) {
      return absl::AbortedError(
          absl::StrCat("session_id=", session->name.id, ": another generation is in flight"));
    }
    const int32_t open = static_cast<int32_t>(generations_open_.size());
    if (open >= options_.max_generations + options_.max_queued_generations) {
      return absl::ResourceExhaustedError(
          absl::StrCat("generations: ", open, " are running or waiting already"));
    }
    const int64_t context = session->accepted_tokens + held_tokens + num_tokens;
    const int32_t most = session->layout->max_context();
    if (most > 0 && context >= most) {
      return absl::FailedPreconditionError(
          absl::StrCat("context_tokens=", context, " with the prompt: strategy ",
                       Name(session->layout->strategy), " keeps at most ", most));
    }
    RASQ_RETURN_IF_ERROR(CheckPassages(*session, held_tokens + num_tokens));
    if (commit) RASQ_RETURN_IF_ERROR(CheckHistoryRoom(*session, held_tokens + num_tokens));
    // What a cancelled one has still to give back comes before this one, as tokens.
    if (session->cancelling) ++session->num_inputs;
    generation->num_inputs = session->num_inputs;
    generation->id = session->generation = next_generation_++;
    session->cancelling = false;
    generations_open_[generation->id] = session;
    inbox_.emplace_back(session, WorkItem{.generation = generation});
    wake_.Signal();
  }
  if (commit) {
    session->text = std::move(text);
    session->begun = begun;
    ++session->num_inputs;
    ++generation->num_inputs;
  }
  return generation->id;
}

void Engine::Impl::Cancel(int64_t generation) {
  MutexLock lock(mu_);
  const auto open = generations_open_.find(generation);
  if (open == generations_open_.end()) return;
  if (open->second->generation == generation) open->second->cancelling = true;
  cancels_.push_back(generation);
  wake_.Signal();
}

}  // namespace rasq
