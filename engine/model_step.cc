// A step of the model from its streams to their outcomes: descriptors go to the device in one copy,
// operations follow, results come back in one copy. On a device that records, a step in which every
// stream decodes is padded to a size that recurs, recorded once and replayed from then on: its
// hundreds of small operations cost the host one launch.
#include <algorithm>
#include <utility>

#include "engine/model.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

// The size to which so many decoding streams are padded: at most an eighth is padding.
int32_t BucketOf(int32_t streams) {
  int32_t step = 1;
  while (streams > 8 * step) step *= 2;
  return (streams + step - 1) / step * step;
}

// Whether each stream takes one token and draws the next, as generations under way do.
bool AllDecode(absl::Span<const StreamStep> streams) {
  return std::all_of(streams.begin(), streams.end(), [&](const StreamStep& stream) {
    return stream.layout == streams[0].layout && stream.tokens.size() == 1 &&
           stream.tokens[0].embedding == nullptr && stream.sample.has_value() &&
           stream.targets.empty() && stream.logits == nullptr && stream.key_weights == nullptr;
  });
}

// Adds chunks without a stream to a batch of decoding streams.
void Pad(int32_t rows, StepBatch& batch) {
  StepGroup& group = batch.groups[0];
  while (batch.num_rows() < rows) {
    const int32_t row = batch.num_rows();
    group.segments.push_back(
        {.chunk = row, .first_row = row, .num_rows = 1, .begins = 0, .start = 0});
    group.chunks.push_back({.state = nullptr,
                            .first_position = 0,
                            .first_row = row,
                            .num_rows = 1,
                            .first_segment = row,
                            .num_segments = 1,
                            .leave_begin = 0,
                            .leave_end = 0,
                            .first_staged = group.num_staged,
                            .first_entry = group.num_entry_rows});
    group.write.push_back({});
    group.read.push_back({.budget = 1, .gain = 0, .floor = 0});
    batch.token.push_back(0);
    batch.pinned.push_back(0);
  }
  // A bound that depends on the number of rows alone: at most a segment leaves with a token.
  if (group.num_staged > 0) group.num_staged = rows * group.layout->shape.segment_rows;
}

}  // namespace

absl::StatusOr<std::vector<StepOutcome>> Model::Step(absl::Span<const StreamStep> streams) {
  StepBatch batch = MakeStepBatch(streams);
  RASQ_CHECK(batch.num_rows() <= limits_.max_rows && batch.num_chunks <= limits_.max_streams &&
             batch.num_segments <= limits_.MaxSegments(memory_.segment) &&
             batch.num_store_segments <= limits_.max_store_streams);
  const bool recorded = ops_.can_record() && AllDecode(streams);
  const int32_t bucket = std::min(
      {BucketOf(batch.num_rows()), limits_.max_rows, limits_.max_samples, limits_.max_streams});
  if (recorded) Pad(bucket, batch);
  RASQ_RETURN_IF_ERROR(UploadStep(streams, batch));
  if (recorded) {
    RASQ_RETURN_IF_ERROR(ReplayDecode(batch));
  } else {
    RASQ_RETURN_IF_ERROR(RunOps(streams, batch));
  }
  RASQ_RETURN_IF_ERROR(workspace_.FetchResults(ops_));

  std::vector<StepOutcome> outcomes(streams.size());
  ReadSamples(streams, outcomes);
  ReadCounts(batch, outcomes);
  RASQ_RETURN_IF_ERROR(ReadTargets(streams, outcomes));
  RASQ_RETURN_IF_ERROR(CopyLogits(streams));
  RASQ_RETURN_IF_ERROR(ReadKeyWeights(streams, batch));

  for (const StepGroup& group : batch.groups) {
    for (size_t c = 0; c < group.stream.size(); ++c) {  // padding has none
      const StreamChunk& chunk = group.chunks[c];
      StreamCursor& cursor = *streams[group.stream[c]].cursor;
      cursor.position = chunk.first_position + chunk.num_rows;
      cursor.segment_start = group.segments[chunk.first_segment + chunk.num_segments - 1].start;
    }
  }
  return outcomes;
}

absl::Status Model::UploadStep(absl::Span<const StreamStep> streams, const StepBatch& batch) {
  Upload& upload = workspace_.upload;
  token_ = upload.Put<int32_t>(batch.token);
  pinned_ = upload.Put<uint8_t>(batch.pinned);
  groups_.clear();
  int64_t weights_used = 0;
  for (const StepGroup& group : batch.groups) {
    const bool retrieves =
        group.layout->has_memory() &&
        std::any_of(group.segments.begin(), group.segments.end(),
                    [](const StreamSegment& segment) { return segment.begins != 0; });
    const bool keeps_sinks =
        std::any_of(group.chunks.begin(), group.chunks.end(), [&](const StreamChunk& chunk) {
          return chunk.leave_begin <
                 std::min<int64_t>(chunk.leave_end, group.layout->shape.sink_rows);
        });
    groups_.push_back({.layout = group.layout,
                       .batch = {.chunks = upload.Put<StreamChunk>(group.chunks),
                                 .segments = upload.Put<StreamSegment>(group.segments),
                                 .num_chunks = static_cast<int32_t>(group.chunks.size()),
                                 .num_segments = static_cast<int32_t>(group.segments.size()),
                                 .num_rows = batch.num_rows(),
                                 .num_staged = group.num_staged},
                       .write = upload.Put<WritePolicy>(group.write),
                       .read = upload.Put<ReadPolicy>(group.read),
                       .first_segment = group.first_segment,
                       .first_chunk = group.first_chunk,
                       .first_staged = group.first_staged,
                       .first_entry = group.first_entry,
                       .first_store = group.first_store,
                       .retrieves = retrieves,
                       .keeps_sinks = keeps_sinks,
                       .budget = UploadBudgets(streams, group),
                       .key_weights = TakeKeyWeights(group, weights_used)});
  }
  UploadSamples(streams, batch);
  UploadTargets(streams, batch);
  return upload.Flush(ops_);
}

// Last, since the lengths of its lists vary: what stands before has the same address in each step
// of one size, as a recording needs.
void Model::UploadSamples(absl::Span<const StreamStep> streams, const StepBatch& batch) {
  Upload& upload = workspace_.upload;
  std::vector<int32_t> rows;
  std::vector<const SamplePolicy*> wanted;
  for (size_t i = 0; i < streams.size(); ++i) {
    if (!streams[i].sample.has_value()) continue;
    rows.push_back(batch.last_row[i]);
    wanted.push_back(&*streams[i].sample);
  }
  // Padding draws too, greedily and to no effect.
  const StepGroup& first = batch.groups[0];
  const auto padding = static_cast<int32_t>(first.chunks.size() - first.stream.size());
  for (int32_t row = batch.num_rows() - padding; row < batch.num_rows(); ++row) rows.push_back(row);
  num_samples_ = static_cast<int32_t>(rows.size());
  RASQ_CHECK(num_samples_ <= limits_.max_samples);
  sample_row_ = upload.Put<int32_t>(rows);
  SamplePolicy* policies = nullptr;
  const absl::Span<SamplePolicy> host = upload.Reserve(num_samples_, policies);
  sample_policy_ = policies;
  std::fill(host.begin(), host.end(), SamplePolicy());
  for (size_t i = 0; i < wanted.size(); ++i) {
    const SamplePolicy& policy = *wanted[i];
    RASQ_CHECK(policy.num_seen <= limits_.max_seen && policy.num_banned <= limits_.max_seen);
    const auto put = [&](const int32_t* values, int32_t count) {
      return upload.Put<int32_t>(absl::MakeConstSpan(values, count));
    };
    host[i] = policy;
    host[i].seen_id = put(policy.seen_id, policy.num_seen);
    host[i].seen_count = put(policy.seen_count, policy.num_seen);
    host[i].banned_id = put(policy.banned_id, policy.num_banned);
  }
}

void Model::UploadTargets(absl::Span<const StreamStep> streams, const StepBatch& batch) {
  std::vector<int32_t> rows, targets;
  for (size_t i = 0; i < streams.size(); ++i) {
    const std::vector<int32_t>& wanted = streams[i].targets;
    RASQ_CHECK(wanted.empty() || wanted.size() == streams[i].tokens.size());
    for (size_t j = 0; j < wanted.size(); ++j) {
      if (wanted[j] < 0) continue;
      rows.push_back(batch.last_row[i] + 1 - static_cast<int32_t>(wanted.size() - j));
      targets.push_back(wanted[j]);
    }
  }
  num_targets_ = static_cast<int64_t>(targets.size());
  target_row_ = workspace_.upload.Put<int32_t>(rows);
  target_ = workspace_.upload.Put<int32_t>(targets);
}

absl::Status Model::ReplayDecode(const StepBatch& batch) {
  const DeviceGroup& group = groups_[0];
  const DecodeShape shape{.layout = group.layout,
                          .rows = batch.num_rows(),
                          .staged = group.batch.num_staged,
                          .retrieves = group.retrieves,
                          .keeps_sinks = group.keeps_sinks};
  const auto [found, is_new] = recordings_.try_emplace(shape);
  // The first step of a shape runs as it is: what is loaded or chosen at first use is not recorded.
  if (is_new) return RunOps(/*streams=*/{}, batch);
  if (found->second == nullptr) {
    RASQ_RETURN_IF_ERROR(ops_.BeginRecording());
    const absl::Status run = RunOps(/*streams=*/{}, batch);
    absl::StatusOr<std::unique_ptr<Recording>> recording = ops_.EndRecording();
    RASQ_RETURN_IF_ERROR(run);
    RASQ_RETURN_IF_ERROR(recording.status());
    found->second = *std::move(recording);
  }
  return ops_.Replay(*found->second);
}

// Embeddings that came in place of tokens are copied from `streams`.
absl::Status Model::RunOps(absl::Span<const StreamStep> streams, const StepBatch& batch) {
  RASQ_RETURN_IF_ERROR(ops_.Embed({.table = weights_.embedding->data(),
                                   .element = ops_.element(),
                                   .token_id = token_,
                                   .y = workspace_.x,
                                   .rows = batch.num_rows(),
                                   .hidden = config_.hidden,
                                   .vocab = config_.vocab}));
  for (size_t i = 0; i < streams.size(); ++i) {
    const int64_t first = batch.last_row[i] + 1 - static_cast<int64_t>(streams[i].tokens.size());
    for (size_t j = 0; j < streams[i].tokens.size(); ++j) {
      if (streams[i].tokens[j].embedding == nullptr) continue;
      RASQ_RETURN_IF_ERROR(ops_.CopyToDevice(workspace_.x + (first + j) * config_.hidden,
                                             streams[i].tokens[j].embedding.get(),
                                             config_.hidden * sizeof(float)));
    }
  }
  for (const DeviceGroup& group : groups_) {
    RASQ_RETURN_IF_ERROR(ops_.RotationTable(
        {.batch = group.batch,
         .shape = group.layout->shape,
         .inv_freq = reinterpret_cast<const double*>(inv_freq_->data()),
         .head_dim = config_.head_dim,
         .row = workspace_.row_rotation,
         .memory = workspace_.memory_rotation + int64_t{group.first_segment} * config_.head_dim,
         .sink = workspace_.sink_rotation +
                 int64_t{group.first_segment} * memory_.sinks * config_.head_dim,
         .staged = workspace_.staged_rotation + int64_t{group.first_staged} * config_.head_dim}));
  }
  for (int32_t l = 0; l < config_.num_layers; ++l) RASQ_RETURN_IF_ERROR(RunLayer(l, batch));
  RASQ_RETURN_IF_ERROR(SampleRows());
  return ScoreTargets();
}

}  // namespace rasq
