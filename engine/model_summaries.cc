// Summaries of what a stream's memory has lost (kernels/summarize_entries.h): who is lost follows
// once a step, the slots follow layer by layer, and attention reads them behind what was selected.
#include "engine/model.h"
#include "kernels/base/status.h"

namespace rasq {

LostEntries Model::LostOf(const DeviceGroup& group) const {
  const LostEntries& all = workspace_.lost;
  return {.row = all.row + group.first_staged,
          .end = all.end + group.first_segment,
          .keep = all.keep + group.first_segment,
          .mass = all.mass + group.first_segment};
}

SelectedEntries Model::ReadOf(const DeviceGroup& group) const {
  const SelectedEntries& all = workspace_.read;
  const int64_t first = int64_t{group.first_segment} * group.layout->read_shape().max_selected;
  return {.count = all.count + group.first_segment,
          .row = all.row + first,
          .score = all.score + first,
          .log_gate = all.log_gate + first,
          .position = nullptr};
}

absl::Status Model::LoseEntries(const DeviceGroup& group) {
  const Workspace& w = workspace_;
  return ops_.LoseEntries({.batch = group.batch,
                           .shape = group.layout->shape,
                           .decay = memory_.summary_decay,
                           .mass_offset = group.layout->summary_mass,
                           .died = w.died + group.first_entry,
                           .row_position = w.row_position + group.first_entry,
                           .row_log_gate = w.row_log_gate + group.first_entry,
                           .found = w.lost_found + group.first_staged,
                           .lost = LostOf(group)});
}

absl::Status Model::ListSummaries(int32_t retrieval, const DeviceGroup& group) {
  return ops_.ListSummaries({.batch = group.batch,
                             .shape = group.layout->shape,
                             .num_summaries = group.layout->num_summaries,
                             .mass_offset = group.layout->summary_mass,
                             .mass = LostOf(group).mass,
                             .selected = SelectedOf(retrieval, group),
                             .read = ReadOf(group)});
}

// Brings the layer's slots on, and makes its attention read them.
absl::Status Model::Summarize(int32_t layer, const DeviceGroup& group,
                              StreamAttentionArgs& attention) {
  const LayerState& state = group.layout->layers[layer];
  const Buffer& query = *weights_.layers[layer].summary_query;
  const auto staged = [&](void* rows) {
    return static_cast<std::byte*>(rows) + group.first_staged * workspace_.staged_stride;
  };
  if (group.retrieves) {
    RASQ_RETURN_IF_ERROR(
        ops_.SummarizeEntries({.batch = group.batch,
                               .shape = group.layout->shape,
                               .element = ops_.element(),
                               .entry_type = attention.entry_type,
                               .num_kv_heads = attention.num_kv_heads,
                               .compressed_dim = attention.compressed_dim,
                               .num_summaries = group.layout->num_summaries,
                               .query = reinterpret_cast<const float*>(query.data()),
                               .row_log_gate = workspace_.row_log_gate + group.first_entry,
                               .lost = LostOf(group),
                               .summary_k_offset = state.summary_k,
                               .summary_v_offset = state.summary_v,
                               .entry_k_offset = state.entry_k,
                               .entry_v_offset = state.entry_v,
                               .staged_k = staged(workspace_.staged_k),
                               .staged_v = staged(workspace_.staged_v)}));
  }
  attention.shape = group.layout->read_shape();
  attention.selected = ReadOf(group);
  attention.num_summaries = group.layout->num_summaries;
  return absl::OkStatus();
}

}  // namespace rasq
