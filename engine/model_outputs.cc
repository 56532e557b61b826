// What comes out of a step: drawn tokens, scores, counts of what was read and replaced, logits,
// evidence.
#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/model.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

template <typename T>
absl::StatusOr<std::vector<T>> Fetch(Ops& ops, const void* device, int64_t count) {
  std::vector<T> values(count);
  RASQ_RETURN_IF_ERROR(ops.CopyToHost(values.data(), device, count * sizeof(T)));
  return values;
}

}  // namespace

absl::Status Model::Logits(const float* x, const int32_t* row, int64_t num_rows) {
  Workspace& w = workspace_;
  RASQ_RETURN_IF_ERROR(
      ops_.RmsNorm({.x = x,
                    .row = row,
                    .weight = reinterpret_cast<const float*>(weights_.final_norm->data()),
                    .y = w.normed,
                    .element = ops_.element(),
                    .rows = num_rows,
                    .hidden = config_.hidden,
                    .x_stride = config_.hidden,
                    .epsilon = config_.rms_norm_epsilon}));
  return ops_.Gemm({.x = w.normed,
                    .w = weights_.head.get(),
                    .y = w.logits,
                    .rows = num_rows,
                    .x_stride = config_.hidden,
                    .y_stride = config_.vocab,
                    .accumulate = false});
}

absl::Status Model::SampleRows() {
  if (num_samples_ == 0) return absl::OkStatus();
  Workspace& w = workspace_;
  RASQ_RETURN_IF_ERROR(Logits(w.x, sample_row_, num_samples_));
  return ops_.Sample({.logits = w.logits,
                      .policy = sample_policy_,
                      .rows = num_samples_,
                      .vocab = config_.vocab,
                      .max_alternatives = limits_.max_alternatives,
                      .token = w.sampled,
                      .logprob = w.logprob,
                      .alternative = w.alternative,
                      .alternative_logprob = w.alternative_logprob});
}

// By blocks, so that logits take bounded room however many rows have a target.
absl::Status Model::ScoreTargets() {
  Workspace& w = workspace_;
  for (int64_t done = 0; done < num_targets_; done += w.logit_rows) {
    const int64_t block = std::min(num_targets_ - done, w.logit_rows);
    RASQ_RETURN_IF_ERROR(Logits(w.x, target_row_ + done, block));
    RASQ_RETURN_IF_ERROR(ops_.TokenLogprobs({.logits = w.logits,
                                             .token = target_ + done,
                                             .rows = block,
                                             .vocab = config_.vocab,
                                             .logprob = w.target_logprob + done}));
  }
  return absl::OkStatus();
}

absl::Status Model::ReadTargets(absl::Span<const StreamStep> streams,
                                std::vector<StepOutcome>& outcomes) const {
  if (num_targets_ == 0) return absl::OkStatus();
  RASQ_ASSIGN_OR_RETURN(const std::vector<float> logprobs,
                        Fetch<float>(ops_, workspace_.target_logprob, num_targets_));
  size_t next = 0;
  for (size_t i = 0; i < streams.size(); ++i) {
    for (const int32_t target : streams[i].targets) {
      outcomes[i].target_logprobs.push_back(target < 0 ? 0 : logprobs[next++]);
    }
  }
  return absl::OkStatus();
}

void Model::ReadSamples(absl::Span<const StreamStep> streams,
                        std::vector<StepOutcome>& outcomes) const {
  const Workspace& w = workspace_;
  const int64_t width = limits_.max_alternatives;
  int64_t row = 0;
  for (size_t i = 0; i < streams.size(); ++i) {
    if (!streams[i].sample.has_value()) continue;
    StepOutcome& outcome = outcomes[i];
    outcome.token = w.OnHost(w.sampled)[row];
    outcome.logprob = w.OnHost(w.logprob)[row];
    const int32_t* alternative = w.OnHost(w.alternative) + row * width;
    const float* logprob = w.OnHost(w.alternative_logprob) + row * width;
    outcome.alternatives.assign(alternative, alternative + width);
    outcome.alternative_logprobs.assign(logprob, logprob + width);
    ++row;
  }
}

void Model::ReadCounts(const StepBatch& batch, std::vector<StepOutcome>& outcomes) const {
  for (size_t g = 0; g < groups_.size(); ++g) {
    const StepGroup& group = batch.groups[g];
    if (group.layout->has_store()) ReadListCounts(group, outcomes);
    if (!groups_[g].retrieves) continue;
    for (size_t r = 0; r < workspace_.selected_count.size(); ++r) {
      const int32_t* count = workspace_.OnHost(workspace_.selected_count[r]) + group.first_segment;
      const int32_t* most = workspace_.OnHost(workspace_.selected_budget[r]) + group.first_segment;
      for (size_t s = 0; s < group.segments.size(); ++s) {
        if (group.segments[s].begins == 0) continue;
        StepOutcome& outcome = outcomes[group.stream[group.segments[s].chunk]];
        outcome.retrieved.push_back(count[s]);
        outcome.budget.push_back(most[s]);
      }
    }
    const int32_t* replaced = workspace_.OnHost(workspace_.num_replaced) + group.first_chunk;
    for (size_t c = 0; c < group.stream.size(); ++c) {
      const StreamChunk& chunk = group.chunks[c];
      const StreamSegment* segments = group.segments.data() + chunk.first_segment;
      const bool begins = std::any_of(segments, segments + chunk.num_segments,
                                      [](const StreamSegment& s) { return s.begins != 0; });
      if (begins) outcomes[group.stream[c]].num_replaced = replaced[c];
    }
  }
}

// Each layer in which a segment begins is a retrieval, of what a kv head reads in the mean.
void Model::ReadListCounts(const StepGroup& group, std::vector<StepOutcome>& outcomes) const {
  const int64_t heads = config_.num_kv_heads;
  for (const int32_t* listed : workspace_.listed_count) {
    const int32_t* counts = workspace_.OnHost(listed) + group.first_store * heads;
    for (size_t s = 0; s < group.stream.size(); ++s) {  // a chunk has one segment
      if (group.segments[s].begins == 0) continue;
      int64_t sum = 0;
      for (int64_t h = 0; h < heads; ++h) sum += counts[s * heads + h];
      StepOutcome& outcome = outcomes[group.stream[s]];
      outcome.retrieved.push_back(static_cast<int32_t>((sum + heads / 2) / heads));
      outcome.budget.push_back(group.layout->store.max_listed);
    }
  }
}

absl::Status Model::CopyLogits(absl::Span<const StreamStep> streams) {
  Workspace& w = workspace_;
  int64_t row = 0;  // streams of one layout keep their order: callers that ask use one layout
  for (const StreamStep& stream : streams) {
    const int64_t rows = static_cast<int64_t>(stream.tokens.size());
    if (stream.logits != nullptr) {
      RASQ_CHECK(groups_.size() == 1);
      stream.logits->resize(rows * config_.vocab);
      for (int64_t done = 0; done < rows; done += w.logit_rows) {
        const int64_t block = std::min(rows - done, w.logit_rows);
        RASQ_RETURN_IF_ERROR(Logits(w.x + (row + done) * config_.hidden, /*row=*/nullptr, block));
        RASQ_RETURN_IF_ERROR(ops_.CopyToHost(stream.logits->data() + done * config_.vocab, w.logits,
                                             block * config_.vocab * sizeof(float)));
      }
    }
    row += rows;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<RetrievedEntry>> Model::Retrieved(const StateLayout& layout,
                                                             const std::byte* state,
                                                             int32_t retrieval) const {
  const SelectionOffsets& at = layout.retrievals[retrieval].selection;
  RASQ_ASSIGN_OR_RETURN(const std::vector<int32_t> count,
                        Fetch<int32_t>(ops_, state + at.count, 1));
  const int64_t n = count[0];
  RASQ_ASSIGN_OR_RETURN(const std::vector<int32_t> row, Fetch<int32_t>(ops_, state + at.row, n));
  RASQ_ASSIGN_OR_RETURN(const std::vector<float> score, Fetch<float>(ops_, state + at.score, n));
  RASQ_ASSIGN_OR_RETURN(const std::vector<float> log_gate,
                        Fetch<float>(ops_, state + at.log_gate, n));
  RASQ_ASSIGN_OR_RETURN(const std::vector<int64_t> position,
                        Fetch<int64_t>(ops_, state + at.position, n));
  RASQ_ASSIGN_OR_RETURN(const std::vector<int32_t> token,
                        Fetch<int32_t>(ops_, state + layout.entry_token, layout.shape.capacity));
  std::vector<RetrievedEntry> entries;
  for (int64_t i = 0; i < n; ++i) {
    entries.push_back({.position = position[i],
                       .token = token[row[i]],
                       .score = score[i],
                       .log_gate = log_gate[i]});
  }
  return entries;
}

absl::StatusOr<std::vector<float>> Model::Embedding(absl::Span<const int32_t> ids) {
  std::vector<double> sum(config_.hidden);
  for (size_t done = 0; done < ids.size(); done += limits_.max_rows) {
    const absl::Span<const int32_t> block = ids.subspan(done, limits_.max_rows);
    const auto rows = static_cast<int64_t>(block.size());
    const int32_t* token = workspace_.upload.Put<int32_t>(block);
    RASQ_RETURN_IF_ERROR(workspace_.upload.Flush(ops_));
    RASQ_RETURN_IF_ERROR(ops_.Embed({.table = weights_.embedding->data(),
                                     .element = ops_.element(),
                                     .token_id = token,
                                     .y = workspace_.x,
                                     .rows = rows,
                                     .hidden = config_.hidden,
                                     .vocab = config_.vocab}));
    RASQ_ASSIGN_OR_RETURN(const std::vector<float> x,
                          Fetch<float>(ops_, workspace_.x, rows * config_.hidden));
    for (size_t i = 0; i < x.size(); ++i) sum[i % sum.size()] += x[i];
  }
  double square = 0;
  for (const double value : sum) square += value * value;
  std::vector<float> embedding(sum.size());
  const double scale = square > 0 ? 1 / std::sqrt(square) : 0;
  for (size_t i = 0; i < sum.size(); ++i) embedding[i] = static_cast<float>(sum[i] * scale);
  return embedding;
}

absl::StatusOr<std::vector<int64_t>> Model::SelectedPositions(int32_t retrieval,
                                                              int32_t segment) const {
  const SelectedEntries selected = SelectedOf(retrieval, groups_[0]);
  RASQ_ASSIGN_OR_RETURN(const std::vector<int32_t> count,
                        Fetch<int32_t>(ops_, selected.count + segment, 1));
  return Fetch<int64_t>(
      ops_, selected.position + int64_t{segment} * groups_[0].layout->shape.max_selected, count[0]);
}

}  // namespace rasq
