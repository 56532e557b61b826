// A batch of streams with selected entries to be clustered.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cluster_entries.h"
#include "tests/support/entry_format.h"
#include "tests/support/stream_batches.h"
#include "tests/support/tensors.h"

namespace rasq {

struct ClusterCase {
  DType type = DType::kFloat32;
  int32_t capacity = 0, max_selected = 0, kv_heads = 0, compressed = 0, clusters = 0;
  int32_t min_entries = 0;
  int first_stream = 0;  // what the first chunk's stream is called: the others follow it
  std::vector<ChunkSpec> chunks;
  EntryType entry_type = EntryType::kElement;
};

// Entries and selections are a function of a stream's name and a segment's start. Outputs and what
// must not be read are all-ones bits.
class ClusterWorld {
 public:
  explicit ClusterWorld(const ClusterCase& c)
      : c_(c),
        shape_{.window_rows = 40,
               .segment_rows = 16,
               .sink_rows = 0,
               .capacity = c.capacity,
               .max_selected = c.max_selected,
               .memory_span = c.max_selected,
               .ring_rows = 56},
        format_{c.entry_type, c.type, c.kv_heads, c.compressed},
        builder_(shape_),
        layout_(MakeClusterLayout(c.clusters, c.compressed, c.max_selected, c.type)) {
    row_ = int64_t{c.kv_heads} * c.compressed;
    entry_v_ = (c.capacity * format_.row_bytes() + 15) / 16 * 16;
    clusters_ = 2 * entry_v_;
    for (size_t i = 0; i < c.chunks.size(); ++i) {
      states_.emplace_back(clusters_ + segment_bytes(), std::byte{0xff});
    }
    for (size_t i = 0; i < c.chunks.size(); ++i) builder_.Add(c.chunks[i], states_[i].data());
    staged_k_.resize(builder_.Batch().num_staged * format_.row_bytes());
    staged_v_ = staged_k_;
    out_.assign(builder_.Batch().num_segments * segment_bytes(), std::byte{0xff});
    for (int32_t i = 0; i < batch().num_chunks; ++i) FillChunk(i);
    for (int32_t i = 0; i < batch().num_segments; ++i) Select(i);
  }

  // A stream that goes on, streams with staged entries, one segment and many.
  static std::vector<ChunkSpec> RaggedChunks() {
    return {{.first_position = 4'000'000'000, .segment_rows = {16}, .leave_begin = 3'999'999'944},
            {.first_position = 100'005,
             .segment_rows = {3, 16, 9},
             .first_start = 99'997,
             .leave_begin = 99'957},
            {.first_position = 200'005, .segment_rows = {1}, .first_start = 200'000},
            {.first_position = 300'000,
             .segment_rows = {16, 16, 16, 16, 16, 2},
             .leave_begin = 299'944}};
  }

  // [capacity, kv_heads, compressed]
  void SetEntries(int32_t chunk, const std::vector<float>& k, const std::vector<float>& v) {
    CopyRows(k, states_[chunk].data());
    CopyRows(v, states_[chunk].data() + entry_v_);
  }
  void SetSelection(int32_t segment, const std::vector<int32_t>& row,
                    const std::vector<float>& score, const std::vector<float>& log_gate) {
    count_[segment] = static_cast<int32_t>(row.size());
    const int64_t first = int64_t{segment} * c_.max_selected;
    std::copy(row.begin(), row.end(), selected_row_.begin() + first);
    std::copy(score.begin(), score.end(), score_.begin() + first);
    std::copy(log_gate.begin(), log_gate.end(), log_gate_.begin() + first);
  }

  ClusterEntriesArgs Args() {
    return {.batch = batch(),
            .shape = shape_,
            .element = c_.type,
            .entry_type = c_.entry_type,
            .num_kv_heads = c_.kv_heads,
            .compressed_dim = c_.compressed,
            .rounds = 2,
            .selected = {.count = count_.data(),
                         .row = selected_row_.data(),
                         .score = score_.data(),
                         .log_gate = log_gate_.data(),
                         .position = nullptr},
            .entry_k_offset = 0,
            .entry_v_offset = entry_v_,
            .staged_k = staged_k_.data(),
            .staged_v = staged_v_.data(),
            .clusters = {.segments = out_.data(),
                         .state_offset = clusters_,
                         .num_clusters = c_.clusters,
                         .read_clusters = 1,
                         .min_entries = c_.min_entries,
                         .layout = layout_}};
  }
  KeepClustersArgs KeepArgs() {
    return {.batch = batch(), .num_kv_heads = c_.kv_heads, .clusters = Args().clusters};
  }

  StreamBatch batch() const { return builder_.Batch(); }
  const BatchBuilder& builder() const { return builder_; }
  const ClusterLayout& layout() const { return layout_; }
  const std::vector<std::vector<std::byte>>& states() const { return states_; }
  std::vector<std::byte>& out() { return out_; }
  const std::vector<int32_t>& count() const { return count_; }
  const std::vector<int32_t>& selected_row() const { return selected_row_; }
  const std::vector<float>& score() const { return score_; }
  const std::vector<float>& log_gate() const { return log_gate_; }
  const std::vector<std::byte>& staged_k() const { return staged_k_; }
  const std::vector<std::byte>& staged_v() const { return staged_v_; }
  int64_t segment_bytes() const { return c_.kv_heads * layout_.head_bytes; }

  bool HasClusters(int32_t segment) const {
    return batch().segments[segment].begins != 0 && count_[segment] > c_.min_entries;
  }
  bool IsUntouched(int32_t segment) const {
    const auto first = out_.begin() + segment * segment_bytes();
    return std::all_of(first, first + segment_bytes(),
                       [](std::byte b) { return b == std::byte{0xff}; });
  }

  struct Clusters {
    std::vector<int> cluster;
    std::vector<int32_t> count;
    std::vector<float> k, v, score, log_gate, age;
  };
  Clusters Of(int32_t segment, int32_t kv_head) const {
    const std::byte* part = &out_[segment * segment_bytes() + kv_head * layout_.head_bytes];
    Clusters c;
    for (int64_t i = 0; i < count_[segment]; ++i) {
      c.cluster.push_back(static_cast<int>(part[layout_.cluster + i]));
    }
    const auto floats = [&](int64_t offset) {
      std::vector<float> values(c_.clusters);
      std::memcpy(values.data(), part + offset, values.size() * 4);
      return values;
    };
    c.score = floats(layout_.score);
    c.log_gate = floats(layout_.log_gate);
    c.age = floats(layout_.age);
    c.count.resize(c_.clusters);
    std::memcpy(c.count.data(), part + layout_.count, c.count.size() * 4);
    for (int64_t i = 0; i < int64_t{c_.clusters} * c_.compressed; ++i) {
      c.k.push_back(Elements::Load(c_.type, part + layout_.k, i));
      c.v.push_back(Elements::Load(c_.type, part + layout_.v, i));
    }
    return c;
  }

  // Counts and means are those of the entries that are said to be in the clusters.
  void ExpectMeans(int32_t segment, int32_t kv_head) const {
    const Clusters got = Of(segment, kv_head);
    const int64_t first = int64_t{segment} * c_.max_selected, n = count_[segment];
    for (int32_t k = 0; k < c_.clusters; ++k) {
      int32_t count = 0;
      double score = 0, log_gate = 0, age = 0;
      std::vector<double> key(c_.compressed), value(c_.compressed);
      for (int64_t j = 0; j < n; ++j) {
        ASSERT_LT(got.cluster[j], c_.clusters);
        if (got.cluster[j] != k) continue;
        ++count;
        score += score_[first + j];
        log_gate += log_gate_[first + j];
        age += static_cast<double>(n - 1 - j);
        for (int32_t d = 0; d < c_.compressed; ++d) {
          key[d] += Entry(segment, selected_row_[first + j], kv_head, d, /*key=*/true);
          value[d] += Entry(segment, selected_row_[first + j], kv_head, d, /*key=*/false);
        }
      }
      ASSERT_EQ(got.count[k], count) << "cluster " << k;
      const double scale = 1.0 / std::max(1, count);
      // Sums of up to 70 numbers below 2 in float32, and a rounding to the element type.
      constexpr double kSum = 70 * 2 * 0x1p-24 * 8;
      ASSERT_NEAR(got.score[k], score * scale, kSum);
      ASSERT_NEAR(got.log_gate[k], log_gate * scale, kSum);
      ASSERT_NEAR(got.age[k], age * scale, 70 * kSum);
      for (int32_t d = 0; d < c_.compressed; ++d) {
        ASSERT_NEAR(got.k[k * c_.compressed + d], key[d] * scale, kSum + Rounding(c_.type));
        ASSERT_NEAR(got.v[k * c_.compressed + d], value[d] * scale, kSum + Rounding(c_.type));
      }
    }
  }

 private:
  double Entry(int32_t segment, int64_t row, int64_t h, int64_t d, bool key) const {
    const StreamChunk& c = batch().chunks[batch().segments[segment].chunk];
    if (row < c_.capacity) return format_.Load(c.state + (key ? 0 : entry_v_), row, h, d);
    const std::vector<std::byte>& staged = key ? staged_k_ : staged_v_;
    return format_.Load(staged.data(), c.first_staged + row - c_.capacity, h, d);
  }

  void CopyRows(const std::vector<float>& values, std::byte* to) const {
    const std::vector<std::byte> rows = format_.Rows(values);
    std::copy(rows.begin(), rows.end(), to);
  }

  void FillChunk(int32_t index) {
    const StreamChunk& c = batch().chunks[index];
    const uint64_t name = 10 * (c_.first_stream + index);
    SetEntries(index, RandomFloats(c_.capacity * row_, name),
               RandomFloats(c_.capacity * row_, name + 1));
    const int64_t staged = (c.leave_end - c.leave_begin) * row_;
    CopyRows(RandomFloats(staged, name + 2),
             staged_k_.data() + c.first_staged * format_.row_bytes());
    CopyRows(RandomFloats(staged, name + 3),
             staged_v_.data() + c.first_staged * format_.row_bytes());
  }

  // Rows of no meaning but that they differ; one segment in three reads few.
  void Select(int32_t index) {
    const StreamSegment& s = batch().segments[index];
    const StreamChunk& c = batch().chunks[s.chunk];
    std::mt19937_64 random(s.start);
    const auto max_selected = static_cast<uint64_t>(c_.max_selected);
    const uint64_t most = s.start % 3 == 2 ? std::min<uint64_t>(max_selected, 12) : max_selected;
    count_.push_back(static_cast<int32_t>(most - random() % (most / 3 + 1)));
    const auto score = RandomFloats(c_.max_selected, s.start + 1, 2);
    for (int32_t j = 0; j < c_.max_selected; ++j) {
      const int64_t rows = c_.capacity + c.leave_end - c.leave_begin;
      selected_row_.push_back(static_cast<int32_t>(random() % rows));
      score_.push_back(score[j]);
      log_gate_.push_back(-std::abs(score[c_.max_selected - 1 - j]));
    }
  }

  const ClusterCase c_;
  const StreamShape shape_;
  const EntryFormat format_;
  BatchBuilder builder_;
  const ClusterLayout layout_;
  int64_t row_;  // elements of an entry's row
  int64_t entry_v_, clusters_;
  std::vector<std::vector<std::byte>> states_;
  std::vector<std::byte> staged_k_, staged_v_;
  std::vector<std::byte> out_;
  std::vector<int32_t> count_, selected_row_;
  std::vector<float> score_, log_gate_;
};

}  // namespace rasq
