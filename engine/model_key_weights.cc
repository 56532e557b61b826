// How much the last token of a stream attends to each token before it, for strategies that look up
// where an answer attends: AttentionRAG, arXiv:2503.10720, equation 2.
#include "engine/model.h"
#include "kernels/base/status.h"
#include "kernels/key_weights.h"

namespace rasq {

absl::Status Model::ServeKeyWeights(const StateLayout& layout, int32_t streams) {
  const int64_t values = int64_t{streams} * config_.num_kv_heads * KeyColumns(layout.shape);
  key_weights_ = nullptr;
  RASQ_ASSIGN_OR_RETURN(key_weights_, ops_.Allocate(values * int64_t{sizeof(float)}));
  return absl::OkStatus();
}

// Null if the group's streams do not ask for them; `used` values are other groups'.
float* Model::TakeKeyWeights(const StepGroup& group, int64_t& used) const {
  if (!group.weighs_keys) return nullptr;
  RASQ_CHECK(key_weights_ != nullptr);
  auto* weights = reinterpret_cast<float*>(key_weights_->data()) + used;
  used += static_cast<int64_t>(group.segments.size()) * config_.num_kv_heads *
          KeyColumns(group.layout->shape);
  RASQ_CHECK(used * int64_t{sizeof(float)} <= key_weights_->bytes());
  return weights;
}

absl::Status Model::WeighKeys(int32_t layer, const DeviceGroup& group,
                              const StreamAttentionArgs& attention) {
  return ops_.KeyWeights({.attention = attention,
                          .num_queries = 1,
                          .accumulate = layer > 0,
                          .out = group.key_weights});
}

// All kv heads have equally many heads, so the mean of their means is that of all heads. Nothing
// has left the window: a column is a position.
absl::Status Model::ReadKeyWeights(absl::Span<const StreamStep> streams, const StepBatch& batch) {
  for (size_t g = 0; g < groups_.size(); ++g) {
    const StepGroup& group = batch.groups[g];
    if (!group.weighs_keys) continue;
    const int64_t columns = KeyColumns(group.layout->shape), heads = config_.num_kv_heads;
    std::vector<float> values(group.chunks.size() * heads * columns);
    RASQ_RETURN_IF_ERROR(ops_.CopyToHost(values.data(), groups_[g].key_weights,
                                         static_cast<int64_t>(values.size() * sizeof(float))));
    for (size_t c = 0; c < group.stream.size(); ++c) {
      const StreamChunk& chunk = group.chunks[c];
      std::vector<float>& weights = *streams[group.stream[c]].key_weights;
      weights.assign(chunk.first_position + chunk.num_rows, 0.0f);
      for (int64_t h = 0; h < heads; ++h) {
        const float* of_head = values.data() + (static_cast<int64_t>(c) * heads + h) * columns;
        for (size_t i = 0; i < weights.size(); ++i) {
          weights[i] += of_head[i] / static_cast<float>(heads);
        }
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace rasq
