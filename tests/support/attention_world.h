// A batch of streams with all that attention reads.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/rotary.h"
#include "kernels/stream_attention.h"
#include "tests/support/attention_cases.h"
#include "tests/support/attention_reference.h"
#include "tests/support/entry_format.h"
#include "tests/support/gpu_twin.h"
#include "tests/support/tensors.h"

namespace rasq {

// A batch of streams with all that attention reads. Tokens' keys and values are a function of
// (stream, position), so that the same stream may be cut in different ways. What attention must not
// read is NaN.
class AttentionWorld {
 public:
  explicit AttentionWorld(const AttentionCase& c, const std::vector<ChunkSpec>& chunks,
                          const std::vector<int>& streams, bool select_staged = true)
      : c_(c),
        shape_{.window_rows = c.window,
               .segment_rows = c.segment,
               .sink_rows = c.sinks,
               .capacity = c.capacity,
               .max_selected = c.max_selected,
               .memory_span = c.max_selected,
               .ring_rows = c.window + c.segment},
        format_{c.entry_type, c.type, c.kv_heads, c.compressed},
        slots_{c.entry_type, c.type, c.reading.per_head ? 1 : c.kv_heads, c.compressed},
        lists_(c.reading.per_head ? c.kv_heads : 1),
        builder_(shape_) {
    row_ = int64_t{c.kv_heads} * c.head_dim;
    entry_ = int64_t{c.kv_heads} * c.compressed;
    const int64_t size = SizeOf(c.type);
    ring_v_ = shape_.ring_rows * row_ * size;
    sink_k_ = 2 * ring_v_;
    sink_v_ = sink_k_ + c.sinks * row_ * size;
    entry_k_ = sink_v_ + c.sinks * row_ * size;
    entry_v_ = entry_k_ + c.capacity * slots_.row_bytes();
    clusters_ = (entry_v_ + c.capacity * slots_.row_bytes() + 15) / 16 * 16;
    cluster_layout_ = MakeClusterLayout(c.clusters, c.compressed, c.max_selected, c.type);
    query_ring_ = clusters_ + c.kv_heads * cluster_layout_.head_bytes;
    lse_ring_ = query_ring_ + (c.query_ring * c.heads * c.head_dim * size + 3) / 4 * 4;
    for (size_t i = 0; i < chunks.size(); ++i) {
      states_.emplace_back(lse_ring_ + c.query_ring * c.heads * int64_t{sizeof(float)});
    }
    for (size_t i = 0; i < chunks.size(); ++i) builder_.Add(chunks[i], states_[i].data());
    batch_ = builder_.Batch();
    q_ = Elements(c.type, int64_t{batch_.num_rows} * c.heads * c.head_dim);
    k_ = Elements(c.type, batch_.num_rows * row_);
    v_ = Elements(c.type, batch_.num_rows * row_);
    out_ = Elements(c.type, q_.size(), std::numeric_limits<float>::quiet_NaN());
    lse_.assign(int64_t{batch_.num_rows} * c.heads, std::numeric_limits<float>::quiet_NaN());
    if (c.capacity > 0) {
      const int64_t rows = batch_.num_staged + int64_t{batch_.num_segments} * c.summaries;
      staged_k_ = format_.Rows(RandomFloats(rows * entry_, 71));
      staged_v_ = format_.Rows(RandomFloats(rows * entry_, 72));
    }
    for (int32_t i = 0; i < batch_.num_chunks; ++i) FillChunk(batch_.chunks[i], streams[i]);
    for (int32_t i = 0; i < batch_.num_segments; ++i) {
      for (int32_t list = 0; list < lists_; ++list) {
        Select(i, list, streams[batch_.segments[i].chunk], select_staged);
      }
    }
    FillRotations();
    const float up_scale = 1 / std::sqrt(static_cast<float>(c.head_dim));
    key_up_ = Elements(c.type, RandomFloats(entry_ * c.head_dim, 81, up_scale));
    value_up_ = Elements(c.type, RandomFloats(entry_ * c.head_dim, 82, up_scale));
    weight_ = RandomFloats(c.heads, 83);
    slope_ = RandomFloats(c.heads, 84, 0.1f);
    if (c.clusters > 0) MakeClusters();
  }

  StreamAttentionArgs Args() {
    StreamAttentionArgs a{};
    a.batch = batch_;
    a.shape = shape_;
    a.element = c_.type;
    a.num_heads = c_.heads;
    a.num_kv_heads = c_.kv_heads;
    a.head_dim = c_.head_dim;
    a.q = q_.data();
    a.k = k_.data();
    a.v = v_.data();
    a.ring_v_offset = ring_v_;
    a.sink_k_offset = sink_k_;
    a.sink_v_offset = sink_v_;
    a.sink_rotation = sink_rotation_.data();
    a.out = out_.data();
    a.lse = lse_.data();
    if (c_.capacity == 0) return a;
    a.reads_memory = true;
    a.entry_type = c_.entry_type;
    a.compressed_dim = c_.compressed;
    if (c_.reading.turned) a.memory_rotation = memory_rotation_.data();
    a.selected = {.count = count_.data(),
                  .row = selected_row_.data(),
                  .score = c_.reading.weighed ? score_.data() : nullptr,
                  .log_gate = log_gate_.data(),
                  .position = nullptr};
    a.entry_k_offset = entry_k_;
    a.entry_v_offset = entry_v_;
    a.staged_k = staged_k_.data();
    a.staged_v = staged_v_.data();
    if (!c_.reading.exact) {
      a.key_up = key_up_.data();
      a.value_up = value_up_.data();
    }
    if (c_.reading.weighed) {
      a.score_weight = weight_.data();
      a.age_slope = slope_.data();
    }
    if (c_.clusters > 0) a.clusters = Clusters();
    a.entries_per_head = c_.reading.per_head;
    if (c_.reading.fused) a.fused_weight = fused_.data();
    a.num_summaries = c_.summaries;
    return a;
  }

  // The same call with its arrays on another backend, its outputs poisoned.
  struct OtherCall {
    StreamAttentionArgs args;
    testing::DeviceArray* out;
    testing::DeviceArray* lse;
  };
  OtherCall ArgsOn(testing::Arrays& arrays) {
    OtherCall call{.args = Args(),
                   .out = &arrays.Poisoned(static_cast<int64_t>(out_.bytes().size())),
                   .lse = &arrays.Poisoned(static_cast<int64_t>(lse_.size() * sizeof(float)))};
    StreamAttentionArgs& a = call.args;
    std::vector<StreamChunk> chunks = builder_.chunks();
    for (size_t i = 0; i < chunks.size(); ++i) chunks[i].state = arrays.Put(states_[i]);
    a.batch.chunks = arrays.Put(chunks);
    a.batch.segments = arrays.Put(builder_.segments());
    a.q = arrays.Put(q_);
    a.k = arrays.Put(k_);
    a.v = arrays.Put(v_);
    a.sink_rotation = arrays.Put(sink_rotation_);
    a.out = call.out->data();
    a.lse = call.lse->data<float>();
    if (c_.capacity == 0) return call;
    const auto move = [&arrays](auto& pointer, const auto& values) {
      if (pointer != nullptr) pointer = arrays.Put(values);
    };
    move(a.memory_rotation, memory_rotation_);
    move(a.selected.count, count_);
    move(a.selected.row, selected_row_);
    move(a.selected.score, score_);
    move(a.selected.log_gate, log_gate_);
    move(a.staged_k, staged_k_);
    move(a.staged_v, staged_v_);
    move(a.key_up, key_up_);
    move(a.value_up, value_up_);
    move(a.score_weight, weight_);
    move(a.age_slope, slope_);
    move(a.clusters.segments, cluster_bytes_);
    move(a.fused_weight, fused_);
    return call;
  }

  const StreamBatch& batch() const { return batch_; }
  int64_t query_ring_offset() const { return query_ring_; }
  int64_t lse_ring_offset() const { return lse_ring_; }
  const Elements& out() const { return out_; }
  const std::vector<float>& lse() const { return lse_; }

 private:
  int64_t num_blocks() const { return NumFusedBlocks(c_.max_selected); }  // of a list

  void FillChunk(const StreamChunk& c, int stream) {
    const auto token = [&](int64_t position, int kind) {
      return RandomFloats(kind == 0 ? int64_t{c_.heads} * c_.head_dim : row_,
                          (stream * 3 + kind) * 1000003ULL + position);
    };
    const StreamSegment& first = batch_.segments[c.first_segment];
    for (int64_t i = 0; i < 2 * shape_.ring_rows * row_; ++i) {
      Elements::Store(c_.type, c.state, i, std::numeric_limits<float>::quiet_NaN());
    }
    for (int64_t p = std::max<int64_t>(0, first.start - c_.window); p < c.first_position; ++p) {
      const auto k = token(p, 1), v = token(p, 2);
      for (int64_t i = 0; i < row_; ++i) {
        const int64_t at = p % shape_.ring_rows * row_ + i;
        Elements::Store(c_.type, c.state, at, k[i]);
        Elements::Store(c_.type, c.state + ring_v_, at, v[i]);
      }
    }
    for (int64_t r = 0; r < c.num_rows; ++r) {
      const auto q = token(c.first_position + r, 0), k = token(c.first_position + r, 1),
                 v = token(c.first_position + r, 2);
      const int64_t row = c.first_row + r;
      for (size_t i = 0; i < q.size(); ++i) q_.Set(row * q.size() + i, 2 * q[i]);
      for (int64_t i = 0; i < row_; ++i) k_.Set(row * row_ + i, k[i]);
      for (int64_t i = 0; i < row_; ++i) v_.Set(row * row_ + i, v[i]);
    }
    FillQueryRing(c, token);
    const int64_t slot = slots_.heads * slots_.width;
    const auto rest = RandomFloats(2 * c_.sinks * row_ + 2 * c_.capacity * slot, stream + 500);
    const auto entries = rest.begin() + 2 * c_.sinks * row_;
    for (int64_t i = 0; i < 2 * c_.sinks * row_; ++i) {
      Elements::Store(c_.type, c.state + sink_k_, i, rest[i]);
    }
    if (c_.capacity == 0) return;
    const std::vector<std::byte> rows = slots_.Rows({entries, rest.end()});  // keys, then values
    std::copy(rows.begin(), rows.end(), c.state + entry_k_);
  }

  // Queries of the tokens before the batch, and what may have been their softmaxes' denominators.
  template <typename Token>
  void FillQueryRing(const StreamChunk& c, const Token& token) {
    const int64_t begin = std::max<int64_t>(0, c.first_position - c_.query_ring);
    for (int64_t p = begin; p < c.first_position; ++p) {
      const int64_t row = p % c_.query_ring;
      const std::vector<float> q = token(p, 0), lse = RandomFloats(c_.heads, p + 17);
      for (size_t i = 0; i < q.size(); ++i) {
        Elements::Store(c_.type, c.state + query_ring_, row * q.size() + i, 2 * q[i]);
      }
      for (int64_t h = 0; h < c_.heads; ++h) {
        Elements::Store(DType::kFloat32, c.state + lse_ring_, row * c_.heads + h, 4 + lse[h]);
      }
    }
  }

  // Slots, and staged rows if wanted, of no meaning but that they differ; some segments read none.
  void Select(int32_t index, int32_t list, int stream, bool select_staged) {
    if (c_.capacity == 0) return;
    const StreamSegment& s = batch_.segments[index];
    const StreamChunk& c = batch_.chunks[s.chunk];
    std::mt19937_64 random(stream * 7919ULL + s.start + list * 1000000007ULL);
    const int64_t staged = select_staged ? c.leave_end - c.leave_begin : 0;
    const int32_t most = c_.max_selected - c_.summaries;
    const bool is_empty = (s.start + list) % 5 == 3;
    const int32_t count = c_.summaries + (is_empty ? 0 : 1 + static_cast<int32_t>(random() % most));
    count_.push_back(count);
    const auto score = RandomFloats(c_.max_selected, s.start + 1 + list, 2);
    for (int32_t j = 0; j < c_.max_selected; ++j) {
      selected_row_.push_back(j < count ? static_cast<int32_t>(random() % (c_.capacity + staged))
                                        : -12345);
      score_.push_back(score[j]);
      log_gate_.push_back(-std::abs(score[c_.max_selected - 1 - j]));
    }
    if (c_.summaries > 0) SelectSummaries(index, count, is_empty, select_staged);
    std::vector<float> fused = RandomFloats(num_blocks(), s.start + 2 + list);
    float sum = 0;
    for (int64_t i = 0; i < num_blocks(); ++i) {
      const bool is_read = i < NumFusedBlocks(count);
      fused[i] = is_read ? std::abs(fused[i]) : std::numeric_limits<float>::quiet_NaN();
      if (is_read) sum += fused[i];
    }
    for (const float weight : fused) fused_.push_back(weight / sum);
  }

  // In the place of a list's last entries: a segment's own staged rows, behind the batch's, where
  // staged ones are wanted. Where nothing else is selected they are empty as well.
  void SelectSummaries(int32_t index, int32_t count, bool is_empty, bool select_staged) {
    const StreamChunk& c = batch_.chunks[batch_.segments[index].chunk];
    const int32_t first = batch_.num_staged + index * c_.summaries;
    for (int32_t t = 0; t < c_.summaries; ++t) {
      const int64_t at = int64_t{index} * c_.max_selected + count - c_.summaries + t;
      if (select_staged) selected_row_[at] = c_.capacity - c.first_staged + first + t;
      score_[at] = 0;
      log_gate_[at] = is_empty ? -std::numeric_limits<float>::infinity() : 0.5f;
    }
  }

  EntryClusters Clusters() {
    return {.segments = cluster_bytes_.data(),
            .state_offset = clusters_,
            .num_clusters = c_.clusters,
            .read_clusters = c_.read_clusters,
            .min_entries = c_.min_entries,
            .layout = cluster_layout_};
  }
  // As if all segments began in this batch; those that do not have theirs in the state, and what
  // must not be read is NaN.
  void MakeClusters() {
    const int64_t bytes = c_.kv_heads * cluster_layout_.head_bytes;
    cluster_bytes_.assign(batch_.num_segments * bytes, std::byte{0xff});
    std::vector<StreamSegment> segments = builder_.segments();
    for (StreamSegment& segment : segments) {
      const StreamChunk& c = batch_.chunks[segment.chunk];
      segment.begins = 1;
      segment.start = c.first_position + segment.first_row - c.first_row;
    }
    StreamBatch batch = batch_;
    batch.segments = segments.data();
    const StreamAttentionArgs a = Args();
    ThreadPool pool(1);
    const absl::Status status = ClusterEntriesCpu({.batch = batch,
                                                   .shape = shape_,
                                                   .element = c_.type,
                                                   .entry_type = c_.entry_type,
                                                   .num_kv_heads = c_.kv_heads,
                                                   .compressed_dim = c_.compressed,
                                                   .rounds = 2,
                                                   .selected = a.selected,
                                                   .entry_k_offset = entry_k_,
                                                   .entry_v_offset = entry_v_,
                                                   .staged_k = a.staged_k,
                                                   .staged_v = a.staged_v,
                                                   .clusters = a.clusters},
                                                  pool);
    ASSERT_TRUE(status.ok()) << status;
    for (size_t i = 0; i < states_.size(); ++i) {
      std::fill_n(states_[i].data() + clusters_, bytes, std::byte{0xff});
    }
    for (int32_t i = 0; i < batch_.num_segments; ++i) {
      if (batch_.segments[i].begins != 0) continue;
      std::byte* from = cluster_bytes_.data() + i * bytes;
      std::copy_n(from, bytes, states_[batch_.segments[i].chunk].data() + clusters_);
      std::fill_n(from, bytes, std::byte{0xff});
    }
  }

  void FillRotations() {
    std::vector<double> inv_freq(c_.head_dim / 2);
    for (size_t i = 0; i < inv_freq.size(); ++i) inv_freq[i] = std::pow(100.0, -1.0 * i);
    std::vector<float> row(batch_.num_rows * c_.head_dim);
    std::vector<float> staged((batch_.num_staged + 1) * c_.head_dim);
    memory_rotation_.resize(batch_.num_segments * c_.head_dim);
    sink_rotation_.resize((batch_.num_segments * c_.sinks + 1) * c_.head_dim);
    ThreadPool pool(1);
    const RotationTableArgs args{.batch = batch_,
                                 .shape = shape_,
                                 .inv_freq = inv_freq.data(),
                                 .head_dim = c_.head_dim,
                                 .row = row.data(),
                                 .memory = memory_rotation_.data(),
                                 .sink = sink_rotation_.data(),
                                 .staged = staged.data()};
    const absl::Status status = RotationTableCpu(args, pool);
    ASSERT_TRUE(status.ok()) << status;
  }

  const AttentionCase c_;
  const StreamShape shape_;
  const EntryFormat format_;  // of staged rows
  const EntryFormat slots_;
  const int32_t lists_;  // of a segment
  BatchBuilder builder_;
  StreamBatch batch_;
  int64_t row_, entry_;  // elements of a token's and an entry's row
  int64_t ring_v_, sink_k_, sink_v_, entry_k_, entry_v_, clusters_, query_ring_, lse_ring_;
  ClusterLayout cluster_layout_;
  std::vector<std::byte> cluster_bytes_;
  std::vector<std::vector<std::byte>> states_;
  Elements q_, k_, v_, out_, key_up_, value_up_;
  std::vector<std::byte> staged_k_, staged_v_;
  std::vector<float> memory_rotation_, sink_rotation_, weight_, slope_;
  std::vector<int32_t> count_, selected_row_;
  std::vector<float> score_, log_gate_, fused_, lse_;
};

// Rows and heads of the world against the contract in double; `out` and `lse` as in
// StreamAttentionArgs. All of them, but that of long segments at large shapes, which take long,
// every eleventh does.
inline void ExpectOutputs(AttentionWorld& world, const AttentionCase& c, const Elements& out,
                          const std::vector<float>& lse, double tolerance, double margin) {
  const AttentionReference reference(world.Args());
  for (int32_t s = 0; s < world.batch().num_segments; ++s) {
    const StreamSegment& segment = world.batch().segments[s];
    for (int32_t i = 0; i < segment.num_rows; ++i) {
      for (int32_t head = 0; head < c.heads; ++head) {
        const bool is_large = int64_t{c.max_selected} * c.head_dim > 16384 && segment.num_rows > 2;
        if (is_large && (i * c.heads + head) % 11 != 0) continue;
        const int64_t row = (segment.first_row + i) * int64_t{c.heads} + head;
        double least = INFINITY;  // of the largest differences from each choice's output
        const auto outputs = reference.Outputs(s, i, head, margin);
        for (const AttentionReference::Attended& want : outputs) {
          double most = 0;
          const auto compare = [&most](double x, double y) {
            most = std::isnan(x) ? INFINITY : std::max(most, std::abs(x - y));
          };
          for (int64_t d = 0; d < c.head_dim; ++d) compare(out[row * c.head_dim + d], want.out[d]);
          compare(lse[row], want.lse);
          least = std::min(least, most);
        }
        ASSERT_LT(least, tolerance) << "segment " << s << " row " << i << " head " << head << ", "
                                    << outputs.size() << " choices of clusters";
      }
    }
  }
}

}  // namespace rasq
