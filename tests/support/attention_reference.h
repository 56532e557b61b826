// What attention should give (stream_attention.h), word for word, in double: from a call's own
// arguments, which are in host memory.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/stream_attention.h"
#include "tests/support/entry_format.h"
#include "tests/support/tensors.h"

namespace rasq {

class AttentionReference {
 public:
  // What a query and head gives: its output, and the logarithm of its softmax's denominator.
  struct Attended {
    std::vector<double> out;
    double lse;
  };

  // The keys that one query and head sees: sinks, tokens by position, then entries.
  struct Keys {
    size_t num_sinks = 0;
    size_t num_exact = 0;  // sinks and tokens
    std::vector<double> logits;
    std::vector<std::vector<double>> values;
  };

  explicit AttentionReference(const StreamAttentionArgs& args)
      : a_(args),
        rows_{args.entry_type, args.element, args.num_kv_heads, args.compressed_dim},
        slots_{args.entry_type, args.element, args.entries_per_head ? 1 : args.num_kv_heads,
               args.compressed_dim} {
    if (!args.reads_memory || HasExactEntries(args)) return;
    const int64_t size = int64_t{args.num_kv_heads} * args.head_dim * args.compressed_dim;
    key_up_ = Vector(args.key_up, 0, size);
    value_up_ = Vector(args.value_up, 0, size);
  }

  // Row i of a segment's part, in order of choice: where the logits of centroids are nearer to each
  // other than `margin`, rounding may choose either cluster. First what the exact logits choose.
  std::vector<Attended> Outputs(int32_t segment, int32_t i, int32_t head, double margin) const {
    const StreamSegment& s = a_.batch.segments[segment];
    const StreamChunk& c = a_.batch.chunks[s.chunk];
    const std::vector<double> q =
        Vector(a_.q, (s.first_row + i) * int64_t{a_.num_heads} + head, a_.head_dim);
    const int64_t position = c.first_position + s.first_row - c.first_row + i;
    Keys keys = KeysOf(segment, q, position, head);
    const auto count = static_cast<int64_t>(keys.logits.size() - keys.num_exact);
    if (count > 0 && a_.fused_weight != nullptr) {
      const int64_t blocks = NumFusedBlocks(a_.shape.max_selected);
      Fuse(a_.fused_weight + ListOf(segment, KvHead(head)) * blocks, keys);
    }
    if (a_.clusters.segments == nullptr || count <= a_.clusters.min_entries) return {Mean(keys)};

    const ClusterLayout& at = a_.clusters.layout;
    const std::byte* part = ClusterPart(segment, KvHead(head));
    const std::vector<double> choice = AddCentroids(segment, q, head, part, keys);
    std::vector<Attended> outputs;
    for (const std::vector<bool>& read : Choices(choice, margin)) {
      Keys chosen = keys;
      for (int64_t j = 0; j < count; ++j) {
        if (!read[LoadAs<uint8_t>(part + at.cluster, j)]) {
          chosen.logits[keys.num_exact + j] = -INFINITY;
        }
      }
      for (size_t k = 0; k < read.size(); ++k) {
        if (read[k]) chosen.logits[keys.num_exact + count + k] = -INFINITY;
      }
      outputs.push_back(Mean(chosen));
    }
    return outputs;
  }

  // A query that stands at `position`, which may be before the segment.
  Keys KeysOf(int32_t segment, const std::vector<double>& q, int64_t position, int32_t head) const {
    const StreamSegment& s = a_.batch.segments[segment];
    const StreamChunk& c = a_.batch.chunks[s.chunk];
    const StreamShape& shape = a_.shape;
    const int64_t kv_head = KvHead(head), dim = a_.head_dim;
    const double scale = 1 / std::sqrt(static_cast<double>(dim));
    Keys keys;
    for (int64_t j = 0; j < std::min<int64_t>(shape.sink_rows, s.start - shape.window_rows); ++j) {
      const std::vector<double> key =
          Turn(Head(c.state + a_.sink_k_offset, j, kv_head),
               a_.sink_rotation + (int64_t{segment} * shape.sink_rows + j) * dim, 1);
      keys.logits.push_back(Dot(q, key) * scale);
      keys.values.push_back(Head(c.state + a_.sink_v_offset, j, kv_head));
    }
    keys.num_sinks = keys.logits.size();
    for (int64_t p = std::max<int64_t>(0, s.start - shape.window_rows); p <= position; ++p) {
      keys.logits.push_back(Dot(q, Token(c, p, kv_head, a_.ring_k_offset, a_.k)) * scale);
      keys.values.push_back(Token(c, p, kv_head, a_.ring_v_offset, a_.v));
    }
    keys.num_exact = keys.logits.size();
    const int64_t list = ListOf(segment, kv_head);
    const int32_t count = a_.reads_memory ? a_.selected.count[list] : 0;
    if (count == 0) return keys;
    const std::vector<double> turned = Turned(segment, q);
    for (int64_t j = 0; j < count; ++j) {
      const int64_t at = list * shape.max_selected + j;
      const double age =
          static_cast<double>(std::max<int64_t>(0, count - a_.num_summaries - 1 - j));
      keys.logits.push_back(Dot(turned, Entry(c, at, kv_head, /*key=*/true)) * scale +
                            At(a_.score_weight, head) * At(a_.selected.score, at) +
                            At(a_.selected.log_gate, at) - At(a_.age_slope, head) * age);
      keys.values.push_back(Entry(c, at, kv_head, /*key=*/false));
    }
    return keys;
  }

  // `n` elements of the call's type.
  std::vector<double> Vector(const void* rows, int64_t row, int64_t n) const {
    std::vector<double> x(n);
    for (int64_t d = 0; d < n; ++d) {
      x[d] = Elements::Load(a_.element, static_cast<const std::byte*>(rows), row * n + d);
    }
    return x;
  }

 private:
  int64_t KvHead(int64_t head) const { return head / (a_.num_heads / a_.num_kv_heads); }
  int64_t ListOf(int64_t segment, int64_t kv_head) const {
    return a_.entries_per_head ? segment * a_.num_kv_heads + kv_head : segment;
  }
  static double At(const float* values, int64_t i) { return values == nullptr ? 0 : values[i]; }

  std::vector<double> Turned(int64_t segment, const std::vector<double>& q) const {
    return a_.memory_rotation == nullptr ? q
                                         : Turn(q, a_.memory_rotation + segment * a_.head_dim, -1);
  }

  // P^+ x; of an exact entry x.
  std::vector<double> Widened(int64_t kv_head, const std::vector<double>& x, bool key) const {
    const std::vector<double>& up = key ? key_up_ : value_up_;
    if (up.empty()) return x;
    std::vector<double> y(a_.head_dim);
    const double* row = &up[kv_head * a_.head_dim * a_.compressed_dim];
    for (double& sum : y) {
      for (const double value : x) sum += *row++ * value;
    }
    return y;
  }

  // The mean of the values by the logits' softmax.
  static Attended Mean(const Keys& keys) {
    double most = keys.logits[0], sum = 0;
    for (const double logit : keys.logits) most = std::max(most, logit);
    std::vector<double> out(keys.values[0].size());
    for (size_t j = 0; j < keys.logits.size(); ++j) {
      const double e = std::exp(keys.logits[j] - most);
      sum += e;
      for (size_t d = 0; d < out.size(); ++d) out[d] += e * keys.values[j][d];
    }
    for (double& value : out) value /= sum;
    return {.out = out, .lse = most + std::log(sum)};
  }

  // Puts one key in the place of all entries: the blocks' means by their weights, with the
  // logarithm of all their mass.
  static void Fuse(const float* weight, Keys& keys) {
    const size_t first = keys.num_exact, num_keys = keys.logits.size();
    std::vector<double> out(keys.values[0].size());
    double mass = 0;
    for (size_t begin = first; begin < num_keys; begin += kFusedRows) {
      const size_t end = std::min<size_t>(begin + kFusedRows, num_keys);
      Keys block;
      block.logits.assign(keys.logits.begin() + begin, keys.logits.begin() + end);
      block.values.assign(keys.values.begin() + begin, keys.values.begin() + end);
      const Attended mean = Mean(block);
      const double w = weight[(begin - first) / kFusedRows];
      for (size_t d = 0; d < out.size(); ++d) out[d] += w * mean.out[d];
      mass += std::exp(mean.lse);
    }
    keys.logits.resize(first);
    keys.logits.push_back(std::log(mass));
    keys.values.resize(first);
    keys.values.push_back(out);
  }

  const std::byte* ClusterPart(int32_t segment, int64_t kv_head) const {
    const StreamSegment& s = a_.batch.segments[segment];
    const int64_t head_bytes = a_.clusters.layout.head_bytes;
    const std::byte* heads = s.begins != 0
                                 ? a_.clusters.segments + segment * a_.num_kv_heads * head_bytes
                                 : a_.batch.chunks[s.chunk].state + a_.clusters.state_offset;
    return heads + kv_head * head_bytes;
  }

  // Adds the centroids as keys; returns the logits that clusters are chosen by.
  std::vector<double> AddCentroids(int64_t segment, const std::vector<double>& q, int32_t head,
                                   const std::byte* part, Keys& keys) const {
    const ClusterLayout& at = a_.clusters.layout;
    const std::vector<double> turned = Turned(segment, q);
    std::vector<double> choice;
    for (int64_t k = 0; k < a_.clusters.num_clusters; ++k) {
      const auto mean = [&](int64_t offset) { return double{LoadAs<float>(part + offset, k)}; };
      const auto vector = [&](int64_t offset, bool key) {
        return Widened(KvHead(head), Vector(part + offset, k, a_.compressed_dim), key);
      };
      const auto n = LoadAs<int32_t>(part + at.count, k);
      const double product =
          Dot(turned, vector(at.k, /*key=*/true)) / std::sqrt(static_cast<double>(a_.head_dim));
      choice.push_back(n == 0 ? -INFINITY : product + std::log(n));
      keys.logits.push_back(choice[k] + At(a_.score_weight, head) * mean(at.score) +
                            mean(at.log_gate) - At(a_.age_slope, head) * mean(at.age));
      keys.values.push_back(vector(at.v, /*key=*/false));
    }
    return choice;
  }

  // Which clusters may be read: the `read_clusters` of highest logit, and what becomes of these if
  // logits within `margin` of the lowest of them change places.
  std::vector<std::vector<bool>> Choices(const std::vector<double>& logits, double margin) const {
    std::vector<int> order;
    for (size_t k = 0; k < logits.size(); ++k) {
      if (logits[k] > -INFINITY) order.push_back(static_cast<int>(k));
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](int x, int y) { return logits[x] > logits[y]; });
    const auto num_read = std::min<size_t>(a_.clusters.read_clusters, order.size());
    std::vector<bool> read(logits.size());
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

  std::vector<double> Head(const void* rows, int64_t row, int64_t kv_head) const {
    return Vector(rows, row * a_.num_kv_heads + kv_head, a_.head_dim);
  }
  std::vector<double> Token(const StreamChunk& c, int64_t p, int64_t kv_head, int64_t ring_offset,
                            const void* own) const {
    if (p < c.first_position) return Head(c.state + ring_offset, p % a_.shape.ring_rows, kv_head);
    return Head(own, c.first_row + p - c.first_position, kv_head);
  }
  // Of the selection's arrays.
  std::vector<double> Entry(const StreamChunk& c, int64_t at, int64_t kv_head, bool key) const {
    const int64_t row = a_.selected.row[at];
    const std::byte* slots = c.state + (key ? a_.entry_k_offset : a_.entry_v_offset);
    const auto* staged = static_cast<const std::byte*>(key ? a_.staged_k : a_.staged_v);
    const bool in_slot = row < a_.shape.capacity;
    std::vector<double> x(a_.compressed_dim);
    for (int64_t e = 0; e < a_.compressed_dim; ++e) {
      x[e] = in_slot ? slots_.Load(slots, row, a_.entries_per_head ? 0 : kv_head, e)
                     : rows_.Load(staged, c.first_staged + row - a_.shape.capacity, kv_head, e);
    }
    return Widened(kv_head, x, key);
  }

  const StreamAttentionArgs a_;
  const EntryFormat rows_;   // staged
  const EntryFormat slots_;  // of states
  std::vector<double> key_up_, value_up_;
};

}  // namespace rasq
