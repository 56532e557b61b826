// A batch of streams with all that attention reads, and what attention should give, in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <ostream>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/rotary.h"
#include "kernels/stream_attention.h"
#include "tests/support/entry_format.h"
#include "tests/support/gpu_twin.h"
#include "tests/support/stream_batches.h"
#include "tests/support/tensors.h"

namespace rasq {

struct AttentionCase {
  const char* name;
  DType type;
  int32_t window, segment, sinks, capacity, max_selected;
  int32_t heads, kv_heads, head_dim, compressed;
  std::vector<ChunkSpec> chunks;
  int32_t clusters = 0, read_clusters = 0, min_entries = 0;
  EntryType entry_type = EntryType::kElement;
};
inline void PrintTo(const AttentionCase& c, std::ostream* out) {
  *out << c.name << " " << Name(c.type);
  if (c.entry_type == EntryType::kInt8) *out << " int8";
}

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
        builder_(shape_) {
    row_ = int64_t{c.kv_heads} * c.head_dim;
    entry_ = int64_t{c.kv_heads} * c.compressed;
    const int64_t size = SizeOf(c.type);
    ring_v_ = shape_.ring_rows * row_ * size;
    sink_k_ = 2 * ring_v_;
    sink_v_ = sink_k_ + c.sinks * row_ * size;
    entry_k_ = sink_v_ + c.sinks * row_ * size;
    entry_v_ = entry_k_ + c.capacity * format_.row_bytes();
    clusters_ = (entry_v_ + c.capacity * format_.row_bytes() + 15) / 16 * 16;
    cluster_layout_ = MakeClusterLayout(c.clusters, c.compressed, c.max_selected, c.type);
    for (size_t i = 0; i < chunks.size(); ++i) {
      states_.emplace_back(clusters_ + c.kv_heads * cluster_layout_.head_bytes);
    }
    for (size_t i = 0; i < chunks.size(); ++i) builder_.Add(chunks[i], states_[i].data());
    batch_ = builder_.Batch();
    q_ = Elements(c.type, int64_t{batch_.num_rows} * c.heads * c.head_dim);
    k_ = Elements(c.type, batch_.num_rows * row_);
    v_ = Elements(c.type, batch_.num_rows * row_);
    out_ = Elements(c.type, q_.size(), std::numeric_limits<float>::quiet_NaN());
    if (c.capacity > 0) {
      staged_k_ = format_.Rows(RandomFloats(batch_.num_staged * entry_, 71));
      staged_v_ = format_.Rows(RandomFloats(batch_.num_staged * entry_, 72));
    }
    for (int32_t i = 0; i < batch_.num_chunks; ++i) FillChunk(batch_.chunks[i], streams[i]);
    for (int32_t i = 0; i < batch_.num_segments; ++i) {
      Select(i, streams[batch_.segments[i].chunk], select_staged);
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
    if (c_.capacity == 0) return a;
    a.reads_memory = true;
    a.entry_type = c_.entry_type;
    a.compressed_dim = c_.compressed;
    a.memory_rotation = memory_rotation_.data();
    a.selected = {.count = count_.data(),
                  .row = selected_row_.data(),
                  .score = score_.data(),
                  .log_gate = log_gate_.data(),
                  .position = nullptr};
    a.entry_k_offset = entry_k_;
    a.entry_v_offset = entry_v_;
    a.staged_k = staged_k_.data();
    a.staged_v = staged_v_.data();
    a.key_up = key_up_.data();
    a.value_up = value_up_.data();
    a.score_weight = weight_.data();
    a.age_slope = slope_.data();
    if (c_.clusters > 0) a.clusters = Clusters();
    return a;
  }

  // The same call with its arrays on another backend, its output poisoned.
  StreamAttentionArgs ArgsOn(testing::Arrays& arrays, testing::DeviceArray** out) {
    StreamAttentionArgs a = Args();
    std::vector<StreamChunk> chunks = builder_.chunks();
    for (size_t i = 0; i < chunks.size(); ++i) chunks[i].state = arrays.Put(states_[i]);
    a.batch.chunks = arrays.Put(chunks);
    a.batch.segments = arrays.Put(builder_.segments());
    a.q = arrays.Put(q_);
    a.k = arrays.Put(k_);
    a.v = arrays.Put(v_);
    a.sink_rotation = arrays.Put(sink_rotation_);
    *out = &arrays.Poisoned(static_cast<int64_t>(out_.bytes().size()));
    a.out = (*out)->data();
    if (c_.capacity == 0) return a;
    a.memory_rotation = arrays.Put(memory_rotation_);
    a.selected = {.count = arrays.Put(count_),
                  .row = arrays.Put(selected_row_),
                  .score = arrays.Put(score_),
                  .log_gate = arrays.Put(log_gate_),
                  .position = nullptr};
    a.staged_k = arrays.Put(staged_k_);
    a.staged_v = arrays.Put(staged_v_);
    a.key_up = arrays.Put(key_up_);
    a.value_up = arrays.Put(value_up_);
    a.score_weight = arrays.Put(weight_);
    a.age_slope = arrays.Put(slope_);
    if (c_.clusters > 0) a.clusters.segments = arrays.Put(cluster_bytes_);
    return a;
  }

  const StreamBatch& batch() const { return batch_; }
  const Elements& out() const { return out_; }

  // One query and head; its output.
  std::vector<double> Expected(int32_t segment_index, int32_t i, int32_t head) const {
    return Outputs(segment_index, i, head, /*margin=*/0)[0];
  }

  // The contract, word for word, in double. Where the logits of centroids are nearer to each other
  // than `margin`, rounding may choose either cluster: the outputs of all choices, first the exact
  // one's.
  std::vector<std::vector<double>> Outputs(int32_t segment_index, int32_t i, int32_t head,
                                           double margin) const {
    const StreamSegment& s = batch_.segments[segment_index];
    const StreamChunk& c = batch_.chunks[s.chunk];
    const int64_t dim = c_.head_dim, kv_head = head / (c_.heads / c_.kv_heads);
    const double scale = 1 / std::sqrt(static_cast<double>(dim));
    std::vector<double> q(dim);
    for (int64_t d = 0; d < dim; ++d) {
      q[d] = q_[((s.first_row + i) * int64_t{c_.heads} + head) * dim + d];
    }
    std::vector<double> logits;
    std::vector<std::vector<double>> values;
    for (int64_t j = 0; j < std::min<int64_t>(c_.sinks, s.start - c_.window); ++j) {
      const auto key = Turn(Head(c, sink_k_, j, kv_head),
                            &sink_rotation_[(segment_index * c_.sinks + j) * dim], 1);
      logits.push_back(Dot(q, key) * scale);
      values.push_back(Head(c, sink_v_, j, kv_head));
    }
    const int64_t position = c.first_position + s.first_row - c.first_row + i;
    for (int64_t p = std::max<int64_t>(0, s.start - c_.window); p <= position; ++p) {
      logits.push_back(Dot(q, Token(c, p, kv_head, /*key=*/true)) * scale);
      values.push_back(Token(c, p, kv_head, /*key=*/false));
    }
    const size_t num_exact = logits.size();
    const int32_t count = c_.capacity == 0 ? 0 : count_[segment_index];
    const auto turned = count > 0 ? Turn(q, &memory_rotation_[segment_index * dim], -1) : q;
    for (int64_t j = 0; j < count; ++j) {
      const int64_t at = segment_index * int64_t{c_.max_selected} + j;
      std::vector<double> key(dim), value(dim);
      for (int64_t d = 0; d < dim; ++d) {
        for (int64_t e = 0; e < c_.compressed; ++e) {
          const int64_t up = (kv_head * dim + d) * c_.compressed + e;
          key[d] += key_up_[up] * Entry(c, selected_row_[at], kv_head, e, true);
          value[d] += value_up_[up] * Entry(c, selected_row_[at], kv_head, e, false);
        }
      }
      const double age = count - 1 - j;
      logits.push_back(Dot(turned, key) * scale + double{weight_[head]} * score_[at] +
                       log_gate_[at] - slope_[head] * age);
      values.push_back(value);
    }
    if (c_.clusters == 0 || count <= c_.min_entries) return {Mean(logits, values)};

    const std::byte* part = ClusterPart(segment_index, kv_head);
    std::vector<double> choice(c_.clusters);  // the logits that clusters are chosen by
    for (int64_t k = 0; k < c_.clusters; ++k) {
      const auto mean = [&](int64_t offset) { return double{LoadAs<float>(part + offset, k)}; };
      std::vector<double> key(dim), value(dim);
      for (int64_t d = 0; d < dim; ++d) {
        for (int64_t e = 0; e < c_.compressed; ++e) {
          const int64_t up = (kv_head * dim + d) * c_.compressed + e, at = k * c_.compressed + e;
          key[d] += key_up_[up] * Elements::Load(c_.type, part + cluster_layout_.k, at);
          value[d] += value_up_[up] * Elements::Load(c_.type, part + cluster_layout_.v, at);
        }
      }
      const auto n = LoadAs<int32_t>(part + cluster_layout_.count, k);
      choice[k] = n == 0 ? -INFINITY : Dot(turned, key) * scale + std::log(n);
      logits.push_back(choice[k] + weight_[head] * mean(cluster_layout_.score) +
                       mean(cluster_layout_.log_gate) - slope_[head] * mean(cluster_layout_.age));
      values.push_back(value);
    }
    std::vector<std::vector<double>> outputs;
    for (const std::vector<bool>& read : Choices(choice, margin)) {
      std::vector<double> chosen = logits;
      for (int64_t j = 0; j < count; ++j) {
        const auto cluster = LoadAs<uint8_t>(part + cluster_layout_.cluster, j);
        if (!read[cluster]) chosen[num_exact + j] = -INFINITY;
      }
      for (int64_t k = 0; k < c_.clusters; ++k) {
        if (read[k]) chosen[num_exact + count + k] = -INFINITY;
      }
      outputs.push_back(Mean(chosen, values));
    }
    return outputs;
  }

 private:
  // The mean of the values by the logits' softmax.
  static std::vector<double> Mean(const std::vector<double>& logits,
                                  const std::vector<std::vector<double>>& values) {
    double most = logits[0], sum = 0;
    for (const double logit : logits) most = std::max(most, logit);
    std::vector<double> out(values[0].size());
    for (size_t j = 0; j < logits.size(); ++j) {
      const double e = std::exp(logits[j] - most);
      sum += e;
      for (size_t d = 0; d < out.size(); ++d) out[d] += e * values[j][d];
    }
    for (double& value : out) value /= sum;
    return out;
  }

  // Which clusters may be read: the `read_clusters` of highest logit, and what becomes of these if
  // logits within `margin` of the lowest of them change places.
  std::vector<std::vector<bool>> Choices(const std::vector<double>& logits, double margin) const {
    std::vector<int> order;
    for (int k = 0; k < c_.clusters; ++k) {
      if (logits[k] > -INFINITY) order.push_back(k);
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](int x, int y) { return logits[x] > logits[y]; });
    const auto num_read = std::min<size_t>(c_.read_clusters, order.size());
    std::vector<bool> read(c_.clusters);
    for (size_t k = 0; k < num_read; ++k) read[order[k]] = true;
    std::vector<std::vector<bool>> choices = {read};
    if (num_read == order.size()) return choices;
    const double last = logits[order[num_read - 1]], next = logits[order[num_read]];
    for (size_t in = 0; in < num_read; ++in) {
      for (size_t out = num_read; out < order.size(); ++out) {
        if (logits[order[in]] - next >= margin || last - logits[order[out]] >= margin) continue;
        std::vector<bool> other = read;
        other[order[in]] = false;
        other[order[out]] = true;
        choices.push_back(other);
      }
    }
    return choices;
  }

  template <typename T>
  static T LoadAs(const std::byte* values, int64_t i) {
    T value;
    std::memcpy(&value, values + i * sizeof(T), sizeof(T));
    return value;
  }

  static double Dot(const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  }
  static std::vector<double> Turn(const std::vector<double>& x, const float* rotation, int sign) {
    const size_t half = x.size() / 2;
    std::vector<double> y(x.size());
    for (size_t i = 0; i < half; ++i) {
      const double c = rotation[i], s = sign * rotation[half + i];
      y[i] = x[i] * c - x[half + i] * s;
      y[half + i] = x[half + i] * c + x[i] * s;
    }
    return y;
  }
  std::vector<double> Head(const StreamChunk& c, int64_t offset, int64_t row, int64_t h) const {
    std::vector<double> x(c_.head_dim);
    for (int64_t d = 0; d < c_.head_dim; ++d) {
      x[d] = Elements::Load(c_.type, c.state + offset, row * row_ + h * c_.head_dim + d);
    }
    return x;
  }
  std::vector<double> Token(const StreamChunk& c, int64_t p, int64_t h, bool key) const {
    if (p < c.first_position) return Head(c, key ? 0 : ring_v_, p % shape_.ring_rows, h);
    std::vector<double> x(c_.head_dim);
    const int64_t row = c.first_row + p - c.first_position;
    for (int64_t d = 0; d < c_.head_dim; ++d) {
      x[d] = (key ? k_ : v_)[row * row_ + h * c_.head_dim + d];
    }
    return x;
  }
  double Entry(const StreamChunk& c, int64_t row, int64_t h, int64_t e, bool key) const {
    if (row < c_.capacity) return format_.Load(c.state + (key ? entry_k_ : entry_v_), row, h, e);
    const std::vector<std::byte>& staged = key ? staged_k_ : staged_v_;
    return format_.Load(staged.data(), c.first_staged + row - c_.capacity, h, e);
  }

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
    const auto rest = RandomFloats(2 * c_.sinks * row_ + 2 * c_.capacity * entry_, stream + 500);
    const auto entries = rest.begin() + 2 * c_.sinks * row_;
    for (int64_t i = 0; i < 2 * c_.sinks * row_; ++i) {
      Elements::Store(c_.type, c.state + sink_k_, i, rest[i]);
    }
    if (c_.capacity == 0) return;
    const std::vector<std::byte> rows = format_.Rows({entries, rest.end()});  // keys, then values
    std::copy(rows.begin(), rows.end(), c.state + entry_k_);
  }

  // Slots, and staged rows if wanted, of no meaning but that they differ; some segments read none.
  void Select(int32_t index, int stream, bool select_staged) {
    if (c_.capacity == 0) return;
    const StreamSegment& s = batch_.segments[index];
    const StreamChunk& c = batch_.chunks[s.chunk];
    std::mt19937_64 random(stream * 7919ULL + s.start);
    const int64_t staged = select_staged ? c.leave_end - c.leave_begin : 0;
    const int32_t count =
        s.start % 5 == 3 ? 0 : 1 + static_cast<int32_t>(random() % c_.max_selected);
    count_.push_back(count);
    const auto score = RandomFloats(c_.max_selected, s.start + 1, 2);
    for (int32_t j = 0; j < c_.max_selected; ++j) {
      selected_row_.push_back(j < count ? static_cast<int32_t>(random() % (c_.capacity + staged))
                                        : -12345);
      score_.push_back(score[j]);
      log_gate_.push_back(-std::abs(score[c_.max_selected - 1 - j]));
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
  const std::byte* ClusterPart(int32_t segment, int64_t kv_head) const {
    const StreamSegment& s = batch_.segments[segment];
    const std::byte* heads =
        s.begins != 0 ? cluster_bytes_.data() + segment * c_.kv_heads * cluster_layout_.head_bytes
                      : batch_.chunks[s.chunk].state + clusters_;
    return heads + kv_head * cluster_layout_.head_bytes;
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
  const EntryFormat format_;
  BatchBuilder builder_;
  StreamBatch batch_;
  int64_t row_, entry_;  // elements of a token's and an entry's row
  int64_t ring_v_, sink_k_, sink_v_, entry_k_, entry_v_, clusters_;
  ClusterLayout cluster_layout_;
  std::vector<std::byte> cluster_bytes_;
  std::vector<std::vector<std::byte>> states_;
  Elements q_, k_, v_, out_, key_up_, value_up_;
  std::vector<std::byte> staged_k_, staged_v_;
  std::vector<float> memory_rotation_, sink_rotation_, weight_, slope_;
  std::vector<int32_t> count_, selected_row_;
  std::vector<float> score_, log_gate_;
};

// Rows and heads of the world against the contract in double; `out` as in StreamAttentionArgs. All
// of them, but that of long segments at large shapes, which take long, every eleventh does.
inline void ExpectOutputs(const AttentionWorld& world, const AttentionCase& c, const Elements& out,
                          double tolerance, double margin) {
  const int64_t width = int64_t{c.heads} * c.head_dim;
  for (int32_t s = 0; s < world.batch().num_segments; ++s) {
    const StreamSegment& segment = world.batch().segments[s];
    for (int32_t i = 0; i < segment.num_rows; ++i) {
      for (int32_t head = 0; head < c.heads; ++head) {
        const bool is_large = int64_t{c.max_selected} * c.head_dim > 16384 && segment.num_rows > 2;
        if (is_large && (i * c.heads + head) % 11 != 0) continue;
        const int64_t first = (segment.first_row + i) * width + int64_t{head} * c.head_dim;
        double least = INFINITY;  // of the largest differences from each choice's output
        const auto outputs = world.Outputs(s, i, head, margin);
        for (const std::vector<double>& want : outputs) {
          double most = 0;
          for (int64_t d = 0; d < c.head_dim; ++d) {
            const double difference = std::abs(out[first + d] - want[d]);
            most = std::isnan(difference) ? INFINITY : std::max(most, difference);
          }
          least = std::min(least, most);
        }
        ASSERT_LT(least, tolerance) << "segment " << s << " row " << i << " head " << head << ", "
                                    << outputs.size() << " choices of clusters";
      }
    }
  }
}

inline std::vector<int> StreamNumbers(size_t n) {
  std::vector<int> streams(n);
  for (size_t i = 0; i < n; ++i) streams[i] = static_cast<int>(i);
  return streams;
}

// Young and old streams, wrapped rings, segments that go on, close early or are one token, windows
// that are not a multiple of the segment, sinks in and out of the window.
inline std::vector<ChunkSpec> RaggedChunks() {
  return {
      {.first_position = 0, .segment_rows = {16, 16, 16, 5}},
      {.first_position = 21, .segment_rows = {3}, .first_start = 16},
      {.first_position = 45, .segment_rows = {1, 16, 2, 9}, .first_start = 38, .leave_begin = 1},
      {.first_position = 1000003, .segment_rows = {16, 4, 16}, .leave_begin = 999950},
      {.first_position = 77, .segment_rows = {1}, .first_start = 70, .leave_begin = 33},
      {.first_position = 41, .segment_rows = {7}, .leave_begin = 0},
      {.first_position = 333,
       .segment_rows = {15, 16, 16, 16, 16, 1},
       .first_start = 332,
       .leave_begin = 295}};
}

}  // namespace rasq
