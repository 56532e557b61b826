// A run of the model that watches its heads look back at repeats.
#include <algorithm>
#include <utility>

#include "engine/model.h"
#include "kernels/base/status.h"

namespace rasq {

absl::StatusOr<std::vector<RepeatSum>> Model::SumRepeats(const StateLayout& layout,
                                                         std::byte* state,
                                                         const std::vector<InputToken>& tokens,
                                                         int64_t first, int64_t period) {
  const int64_t scores = int64_t{limits_.max_rows} * config_.num_heads;
  RepeatWatch watch{.first = first, .period = period};
  watch.sums.resize(int64_t{config_.num_layers} * config_.num_heads);
  watch.rows.resize(scores);
  RASQ_ASSIGN_OR_RETURN(watch.out, ops_.Allocate(scores * int64_t{sizeof(RepeatScores)}));
  watch_ = &watch;
  StreamCursor cursor;
  absl::Status status;
  for (size_t done = 0; done < tokens.size() && status.ok();) {
    const size_t count = std::min<size_t>(tokens.size() - done, limits_.max_rows);
    StreamStep step{.layout = &layout, .state = state, .cursor = &cursor};
    step.tokens.assign(tokens.begin() + done, tokens.begin() + done + count);
    status = Step({&step, 1}).status();
    done += count;
  }
  watch_ = nullptr;
  RASQ_RETURN_IF_ERROR(status);
  return std::move(watch.sums);
}

absl::Status Model::Watch(int32_t layer, const StreamAttentionArgs& attention) {
  const int64_t count = int64_t{attention.batch.num_rows} * config_.num_heads;
  RASQ_RETURN_IF_ERROR(
      ops_.RepeatScores({.batch = attention.batch,
                         .shape = attention.shape,
                         .element = attention.element,
                         .num_heads = config_.num_heads,
                         .num_kv_heads = config_.num_kv_heads,
                         .head_dim = config_.head_dim,
                         .q = attention.q,
                         .k = attention.k,
                         .ring_k_offset = attention.ring_k_offset,
                         .lse = attention.lse,
                         .first = watch_->first,
                         .period = watch_->period,
                         .out = reinterpret_cast<RepeatScores*>(watch_->out->data())}));
  RASQ_RETURN_IF_ERROR(
      ops_.CopyToHost(watch_->rows.data(), watch_->out->data(), count * sizeof(RepeatScores)));
  for (int64_t i = 0; i < count; ++i) {
    RepeatSum& sum = watch_->sums[int64_t{layer} * config_.num_heads + i % config_.num_heads];
    sum.echo += watch_->rows[i].echo;
    sum.induction += watch_->rows[i].induction;
  }
  return absl::OkStatus();
}

}  // namespace rasq
