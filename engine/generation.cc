#include "engine/generation.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace rasq {

OutputText::OutputText(const Tokenizer* tokenizer, const StopOptions* stop,
                       std::vector<int32_t> eos)
    : tokenizer_(tokenizer), stop_(stop), eos_(std::move(eos)), detokenizer_(tokenizer) {}

bool OutputText::IsStopToken(int32_t id) const {
  const auto in = [id](const std::vector<int32_t>& ids) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  };
  return in(stop_->stop_token_ids) || (!stop_->ignore_eos && in(eos_));
}

std::vector<int32_t> OutputText::StopTokens() const {
  std::vector<int32_t> ids = stop_->stop_token_ids;
  if (!stop_->ignore_eos) ids.insert(ids.end(), eos_.begin(), eos_.end());
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

void OutputText::Push(GeneratedToken token) {
  ++num_tokens_;
  if (IsStopToken(token.token_id)) {
    stopped_ = true;
    if (!stop_->include_stop) {
      Finish();
      return;
    }
  }
  const int64_t old_length = static_cast<int64_t>(text_.size());
  text_ += detokenizer_.Push(token.token_id, /*keep_special=*/stopped_);
  drawn_.push_back({std::move(token), static_cast<int64_t>(text_.size())});
  if (stopped_) {
    Finish();
    return;
  }
  FindStopString(old_length);
}

void OutputText::FindStopString(int64_t old_length) {
  // The earliest match wins; among those that begin there, the longest.
  const int64_t length = static_cast<int64_t>(text_.size());
  int64_t held_from = length;
  size_t match = std::string::npos, match_length = 0;
  for (const std::string& stop : stop_->stop_strings) {
    const int64_t size = static_cast<int64_t>(stop.size());
    const size_t from = static_cast<size_t>(std::max<int64_t>(0, old_length - size + 1));
    const size_t at =
        num_tokens_ < stop_->min_new_tokens ? std::string::npos : text_.find(stop, from);
    if (at != std::string::npos && (at < match || (at == match && stop.size() > match_length))) {
      match = at;
      match_length = stop.size();
    }
    for (int64_t part = std::min(size - 1, length); part > 0; --part) {
      if (text_.compare(length - part, part, stop, 0, part) == 0) {
        held_from = std::min(held_from, length - part);
        break;
      }
    }
  }
  if (match == std::string::npos) {
    text_end_ = std::max(text_end_, held_from);
    return;
  }
  stopped_ = true;
  finished_ = true;
  text_end_ = static_cast<int64_t>(match + (stop_->include_stop ? match_length : 0));
}

void OutputText::Finish() {
  if (finished_) return;
  finished_ = true;
  text_ += detokenizer_.Finish();
  text_end_ = static_cast<int64_t>(text_.size());
  if (!drawn_.empty()) drawn_.back().end = text_end_;
}

GenerateChunk OutputText::Take() {
  GenerateChunk chunk;
  chunk.text = text_.substr(text_taken_, text_end_ - text_taken_);
  text_taken_ = text_end_;
  const auto starts_before_end = [this](size_t i) {
    const int64_t start = i == 0 ? 0 : drawn_[i - 1].end;
    // A token without text of its own (part of a character, a special token) goes with the text
    // before it.
    return drawn_[i].end <= text_end_ || (finished_ && start < text_end_);
  };
  while (tokens_taken_ < drawn_.size() && starts_before_end(tokens_taken_)) {
    chunk.tokens.push_back(drawn_[tokens_taken_++].token);
  }
  return chunk;
}

std::vector<int32_t> OutputText::ContextTokens() const {
  std::vector<int32_t> ids;
  int64_t end = 0;
  for (const Drawn& drawn : drawn_) {
    if (drawn.end > text_end_) break;
    ids.push_back(drawn.token.token_id);
    end = drawn.end;
  }
  const std::vector<int32_t> rest = tokenizer_->Encode(text_.substr(end, text_end_ - end));
  ids.insert(ids.end(), rest.begin(), rest.end());
  return ids;
}

SamplePolicy Generation::NextSample(int32_t max_seen) {
  const SamplingOptions& sampling = request.sampling;
  const auto or_one = [](double value) { return value == 0 ? 1.0f : static_cast<float>(value); };
  SamplePolicy policy{.temperature = static_cast<float>(sampling.temperature),
                      .top_k = sampling.top_k,
                      .top_p = or_one(sampling.top_p),
                      .min_p = static_cast<float>(sampling.min_p),
                      .repetition_penalty = or_one(sampling.repetition_penalty),
                      .presence_penalty = static_cast<float>(sampling.presence_penalty),
                      .frequency_penalty = static_cast<float>(sampling.frequency_penalty),
                      .seed = seed,
                      .draw = static_cast<uint64_t>(output->num_tokens()),
                      .num_alternatives = request.logprobs};
  const bool penalties = policy.repetition_penalty != 1 || policy.presence_penalty != 0 ||
                         policy.frequency_penalty != 0;
  seen_id.clear();
  seen_count.clear();
  if (penalties) {
    for (const auto& [token, count] : seen) {
      if (static_cast<int32_t>(seen_id.size()) == max_seen) break;
      seen_id.push_back(token);
      seen_count.push_back(count);
    }
  }
  policy.seen_id = seen_id.data();
  policy.seen_count = seen_count.data();
  policy.num_seen = static_cast<int32_t>(seen_id.size());
  banned_id.clear();
  if (output->num_tokens() < request.stop.min_new_tokens) banned_id = output->StopTokens();
  policy.banned_id = banned_id.data();
  policy.num_banned = static_cast<int32_t>(banned_id.size());
  return policy;
}

void Generation::AddEvidence(const std::vector<RetrievedEntry>& entries) {
  double largest = -INFINITY, total = 0;
  for (const RetrievedEntry& entry : entries) {
    largest = std::max(largest, double{entry.score} + entry.log_gate);
  }
  for (const RetrievedEntry& entry : entries) {
    total += std::exp(entry.score + entry.log_gate - largest);
  }
  for (const RetrievedEntry& entry : entries) {
    Read& read = evidence[entry.position];
    read.token = entry.token;
    read.share = std::max(read.share, std::exp(entry.score + entry.log_gate - largest) / total);
  }
}

GenerateSummary Generation::Summary(FinishReason reason, const Tokenizer& tokenizer) const {
  // Neighbouring tokens form runs; the runs with the best token come first.
  struct Run {
    int64_t position;
    std::vector<int32_t> tokens;
    double score;
  };
  std::vector<Run> runs;
  for (const auto& [position, read] : evidence) {
    const bool goes_on =
        !runs.empty() &&
        position == runs.back().position + static_cast<int64_t>(runs.back().tokens.size());
    if (!goes_on) runs.push_back({.position = position, .tokens = {}, .score = 0});
    runs.back().tokens.push_back(read.token);
    runs.back().score = std::max(runs.back().score, read.share);
  }
  std::stable_sort(runs.begin(), runs.end(),
                   [](const Run& a, const Run& b) { return a.score > b.score; });
  if (static_cast<int32_t>(runs.size()) > request.evidence) runs.resize(request.evidence);

  GenerateSummary summary{.finish_reason = reason,
                          .context_tokens = context_tokens,
                          .prompt_tokens = prompt_tokens,
                          .output_tokens = output->num_tokens(),
                          .retrieved_tokens = 0,
                          .evidence = {},
                          .queue_time = run_time - start_time,
                          .time_to_first_token = first_time - start_time,
                          .total_time = last_time - start_time};
  if (num_retrievals > 0) {
    summary.retrieved_tokens = static_cast<double>(retrieved_tokens) / num_retrievals;
  }
  for (const Run& run : runs) {
    summary.evidence.push_back(
        {.position = run.position, .text = tokenizer.Decode(run.tokens), .score = run.score});
  }
  return summary;
}

}  // namespace rasq
