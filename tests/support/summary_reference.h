// What summaries should be (kernels/summarize_entries.h), in double and segment after segment; and
// that the operations give it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/ops.h"
#include "tests/support/summary_world.h"

namespace rasq {

// One stream's slots, segment after segment.
class SummaryReference {
 public:
  SummaryReference(const SummaryCase& c, int stream)
      : c_(c), stream_(stream), query_(c.Query()), key(c.row() * c.summaries), value(key) {}

  // Returns the positions that the segment loses.
  std::vector<int64_t> Begin(int64_t start) {
    std::map<int64_t, double> before = buffer_;  // position to log gate
    for (; left_ < start - c_.shape().window_rows; ++left_) {
      if (left_ < c_.shape().sink_rows) continue;
      const double gate = c_.log_gate(stream_, left_);
      before[left_] = buffer_[left_] = gate;
      if (buffer_.size() <= static_cast<size_t>(c_.capacity)) continue;
      // The lowest falls out, of equals the newest: later ones replace it as the least.
      auto least = buffer_.begin();
      for (auto entry = buffer_.begin(); entry != buffer_.end(); ++entry) {
        if (entry->second <= least->second) least = entry;
      }
      buffer_.erase(least);
    }
    std::vector<int64_t> lost;
    double gates = 0;
    for (const auto& [position, gate] : before) {
      if (buffer_.contains(position)) continue;
      lost.push_back(position);
      gates += std::exp(gate);
    }
    if (gates < 1e-40) return {};  // as good as 0 in float32
    for (int64_t slot = 0; slot < int64_t{c_.kv_heads} * c_.summaries; ++slot) Move(slot, lost);
    mass = c_.decay * mass + gates;
    return lost;
  }

 private:
  void Move(int64_t slot, const std::vector<int64_t>& lost) {
    const int64_t head = slot / c_.summaries, width = c_.compressed;
    std::vector<double> mean_k(width), mean_v(width);
    double sum = 0;
    for (const int64_t position : lost) {
      const std::vector<double> k = Stored(position, head, true), v = Stored(position, head, false);
      double dot = 0;
      for (int64_t d = 0; d < width; ++d) dot += query_[slot * width + d] * k[d];
      const double weight =
          std::exp(dot / std::sqrt(static_cast<double>(width)) + c_.log_gate(stream_, position));
      sum += weight;
      for (int64_t d = 0; d < width; ++d) {
        mean_k[d] += weight * k[d];
        mean_v[d] += weight * v[d];
      }
    }
    const double keep = mass == 0 ? 0 : c_.decay;
    for (int64_t d = 0; d < width; ++d) {
      double& k = key[slot * width + d];
      double& v = value[slot * width + d];
      k = keep * k + (1 - keep) * mean_k[d] / sum;
      v = keep * v + (1 - keep) * mean_v[d] / sum;
    }
  }

  // A head's vector of an entry as it is stored.
  std::vector<double> Stored(int64_t position, int64_t head, bool is_key) const {
    const EntryFormat format = c_.format();
    const std::vector<std::byte> row = format.Rows(c_.vector(stream_, position, is_key, c_.row()));
    std::vector<double> x(c_.compressed);
    for (int32_t d = 0; d < c_.compressed; ++d) x[d] = format.Load(row.data(), 0, head, d);
    return x;
  }

  const SummaryCase c_;
  const int stream_;
  const std::vector<float> query_;
  std::map<int64_t, double> buffer_;
  int64_t left_ = 0;

 public:
  double mass = 0;
  std::vector<double> key, value;  // [kv_heads, summaries, compressed]
};

// Weights and means in float32: values are below 1, logits below 24 and have errors of 2^-19.
inline constexpr double kSummaryTolerance = 0x1p-16;

// That rows of slots hold the reference's, as far as their format does. `row`: of slot 0.
inline void ExpectSlotRows(const SummaryCase& c, const std::vector<std::byte>& rows, int64_t row,
                           const std::vector<double>& want) {
  const EntryFormat format = c.format();
  for (int32_t slot = 0; slot < c.kv_heads * c.summaries; ++slot) {
    const int32_t head = slot / c.summaries, t = slot % c.summaries;
    double most = 0;
    for (int32_t d = 0; d < c.compressed; ++d) {
      most = std::max(most, std::abs(want[slot * c.compressed + d]));
    }
    // In int8 half a step, and the step's own rounding.
    const double step = c.entry_type == EntryType::kInt8 ? most / 127 * 0.51 : 0;
    for (int32_t d = 0; d < c.compressed; ++d) {
      ASSERT_NEAR(format.Load(rows.data(), row + t, head, d), want[slot * c.compressed + d],
                  kSummaryTolerance + step + most * Rounding(c.type))
          << "head " << head << " slot " << t << " number " << d;
    }
  }
}

// Runs streams of such segments, each step a part of each stream, and compares all that comes out.
inline void ExpectDouble(Ops& ops, const SummaryCase& c, bool padded,
                         const std::vector<std::vector<int32_t>>& lengths, uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto num_streams = static_cast<int>(lengths.size());
  SummaryWorld world(ops, c, num_streams, padded);
  std::vector<SummaryReference> references;
  std::vector<std::vector<SummaryPart>> parts;
  size_t num_steps = 0;
  for (int i = 0; i < num_streams; ++i) {
    references.emplace_back(c, i);
    // Steps of a token, of less than a segment, and of many.
    parts.push_back(CutSegments(i, lengths[i], [&] {
      const int32_t most[] = {1, 12, 100, 300};
      return 1 + static_cast<int32_t>(random() % most[random() % 4]);
    }));
    num_steps = std::max(num_steps, parts.back().size());
  }
  int num_losing = 0;
  for (size_t step = 0; step < num_steps; ++step) {
    std::vector<SummaryPart> now;
    for (const auto& of_stream : parts) {
      if (step < of_stream.size()) now.push_back(of_stream[step]);
    }
    const SummaryWorld::Outcome got = world.Run(now);
    if (::testing::Test::HasFatalFailure()) return;
    for (size_t i = 0; i < now.size(); ++i) {
      const StreamChunk& chunk = got.chunks[i];
      SummaryReference& want = references[now[i].stream];
      SCOPED_TRACE(::testing::Message() << "step " << step << " stream " << now[i].stream);
      const bool begins = chunk.num_segments > 1 || !now[i].goes_on;
      int32_t lost_end = 0;
      for (int32_t s = chunk.first_segment; s < chunk.first_segment + chunk.num_segments; ++s) {
        const StreamSegment& segment = got.segments[s];
        const std::vector<int64_t> lost =
            segment.begins != 0 ? want.Begin(segment.start) : std::vector<int64_t>();
        num_losing += lost.empty() ? 0 : 1;
        const int64_t first_row = got.batch.num_staged + int64_t{s} * c.summaries;
        if (begins) {
          lost_end += static_cast<int32_t>(lost.size());
          ASSERT_EQ(got.lost_end[s], lost_end);
          ASSERT_NEAR(got.mass[s], want.mass, want.mass * 1e-5);
          ExpectSlotRows(c, got.staged_k, first_row, want.key);
          ExpectSlotRows(c, got.staged_v, first_row, want.value);
        }
        // What attention reads: the selection, and the slots behind it.
        const int64_t most = c.shape().max_selected, from = s * most, to = s * (most + c.summaries);
        const int32_t count = s % static_cast<int32_t>(most + 1);
        ASSERT_EQ(got.count[s], count + c.summaries);
        for (int64_t j = 0; j < count; ++j) {
          const int32_t row = got.selected_row[from + j];
          ASSERT_EQ(got.row[to + j], row < c.capacity ? row : row + c.summaries);
          ASSERT_EQ(got.score[to + j], got.selected_score[from + j]);
          ASSERT_EQ(got.log_gate[to + j], got.selected_log_gate[from + j]);
        }
        for (int32_t t = 0; t < c.summaries; ++t) {
          const int64_t row = got.row[to + count + t];
          ASSERT_EQ(begins ? row - (c.capacity + c.summaries) + chunk.first_staged : row,
                    begins ? first_row + t : c.capacity + t);
          ASSERT_EQ(got.score[to + count + t], 0);
          if (want.mass == 0) {
            ASSERT_EQ(got.log_gate[to + count + t], -INFINITY);
          } else {
            ASSERT_NEAR(got.log_gate[to + count + t], std::log(want.mass), 2e-5);
          }
        }
      }
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
  EXPECT_GT(num_losing, 20) << "the test shows little";
  for (int i = 0; i < num_streams; ++i) {
    EXPECT_NEAR(world.Mass(i), references[i].mass, references[i].mass * 1e-5);
    for (const bool key : {true, false}) {
      const std::vector<float> slots = world.Slots(i, key);
      const std::vector<double>& want = key ? references[i].key : references[i].value;
      for (size_t d = 0; d < slots.size(); ++d) {
        ASSERT_NEAR(slots[d], want[d], kSummaryTolerance) << "stream " << i << " number " << d;
      }
      ExpectSlotRows(c, world.SlotRows(i, key), c.capacity, want);
    }
  }
}

}  // namespace rasq
