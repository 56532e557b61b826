// Streams whose memories lose entries: the operations from the buffer's walk to what attention
// reads (kernels/summarize_entries.h), on any backend.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/ops.h"
#include "tests/support/entry_format.h"
#include "tests/support/gpu_twin.h"
#include "tests/support/stream_batches.h"
#include "tests/support/tensors.h"

namespace rasq {

struct SummaryCase {
  DType type = DType::kFloat32;
  EntryType entry_type = EntryType::kElement;
  int32_t capacity = 0, kv_heads = 0, compressed = 0, summaries = 0;
  float decay = 0;
  int32_t segment = 16;
  // Of a token, by stream and position; its priority is the same.
  std::function<float(int, int64_t)> log_gate = [](int stream, int64_t position) {
    return -4 * std::abs(RandomFloats(1, stream * 1000003ULL + position)[0]);
  };
  // Key or value, [kv_heads, compressed].
  std::function<std::vector<float>(int, int64_t, bool, int64_t)> vector =
      [](int stream, int64_t position, bool key, int64_t size) {
        return RandomFloats(size, (stream * 2 + (key ? 0 : 1)) * 1000003ULL + position + 7);
      };
  std::vector<float> query = {};  // [kv_heads, summaries, compressed]; empty: random

  int64_t row() const { return int64_t{kv_heads} * compressed; }
  EntryFormat format() const { return {entry_type, type, kv_heads, compressed}; }
  std::vector<float> Query() const {
    return query.empty() ? RandomFloats(row() * summaries, 99, 4) : query;
  }
  StreamShape shape() const {
    return {.window_rows = 40,
            .segment_rows = segment,
            .sink_rows = 4,
            .capacity = capacity,
            .max_selected = 8,
            .memory_span = 8,
            .ring_rows = 40 + segment};
  }
};

// A stream's share of a step.
struct SummaryPart {
  int stream = 0;
  std::vector<int32_t> segment_rows;
  bool goes_on = false;  // its first segment began in an earlier step
};

// Segments of such lengths, in parts of as many rows as `rows` says next.
inline std::vector<SummaryPart> CutSegments(int stream, const std::vector<int32_t>& lengths,
                                            const std::function<int32_t()>& rows) {
  std::vector<SummaryPart> parts;
  int32_t done = 0;  // rows of the next segment
  for (size_t next = 0; next < lengths.size();) {
    SummaryPart part{.stream = stream, .segment_rows = {}, .goes_on = done > 0};
    for (int32_t room = rows(); room > 0 && next < lengths.size();) {
      const int32_t take = std::min(room, lengths[next] - done);
      part.segment_rows.push_back(take);
      room -= take;
      done += take;
      if (done < lengths[next]) continue;
      done = 0;
      ++next;
    }
    parts.push_back(std::move(part));
  }
  return parts;
}

// Most segments are whole, others of any length.
inline std::vector<int32_t> RandomSegments(uint64_t seed, int count, int32_t segment = 16) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> lengths(count);
  for (int32_t& length : lengths) {
    length = random() % 3 == 0 ? 1 + static_cast<int32_t>(random() % segment) : segment;
  }
  return lengths;
}

class SummaryWorld {
 public:
  // What a step said of its segments.
  struct Outcome {
    StreamBatch batch;
    std::vector<StreamChunk> chunks;
    std::vector<StreamSegment> segments;
    std::vector<int32_t> lost_row, lost_end;
    std::vector<float> keep, mass;
    std::vector<std::byte> staged_k, staged_v;
    std::vector<int32_t> selected_row, count, row;
    std::vector<float> selected_score, selected_log_gate, score, log_gate;
  };

  SummaryWorld(Ops& ops, const SummaryCase& c, int num_streams, bool padded = false)
      : c_(c), shape_(c.shape()), format_(c.format()), ops_(ops), padded_(padded), arrays_(ops) {
    const auto take = [this](int64_t bytes) {
      const int64_t offset = state_bytes_;
      state_bytes_ += (bytes + 15) / 16 * 16;
      return offset;
    };
    const int64_t capacity = c.capacity, slots = c.row() * c.summaries * 4;
    position_ = take(capacity * 8);
    priority_ = take(capacity * 8);
    log_gate_ = take(capacity * 4);
    token_ = take(capacity * 4);
    mass_ = take(4);
    summary_k_ = take(slots);
    summary_v_ = take(slots);
    entry_k_ = take((capacity + c.summaries) * format_.row_bytes());
    entry_v_ = take((capacity + c.summaries) * format_.row_bytes());
    std::vector<std::byte> state(state_bytes_);
    std::fill_n(state.begin() + position_, capacity * 8, std::byte{0xff});
    for (int i = 0; i < num_streams; ++i) {
      states_.push_back(&arrays_.Add(state_bytes_, state.data()));
    }
    cursors_.resize(num_streams);
    query_ = arrays_.Put(c.Query());
  }

  Outcome Run(const std::vector<SummaryPart>& parts) {
    BatchBuilder builder(shape_);
    for (const SummaryPart& part : parts) {
      Cursor& cursor = cursors_[part.stream];
      builder.Add({.first_position = cursor.position,
                   .segment_rows = part.segment_rows,
                   .first_start = part.goes_on ? cursor.segment_start : -1,
                   .leave_begin = std::max<int64_t>(0, cursor.segment_start - shape_.window_rows)},
                  states_[part.stream]->data<std::byte>());
    }
    Outcome out{
        .batch = builder.Batch(), .chunks = builder.chunks(), .segments = builder.segments()};
    for (size_t i = 0; i < parts.size(); ++i) {
      const StreamChunk& chunk = out.chunks[i];
      cursors_[parts[i].stream] = {
          .position = chunk.first_position + chunk.num_rows,
          .segment_start = out.segments[chunk.first_segment + chunk.num_segments - 1].start};
    }
    RunOps(parts, builder, out);
    return out;
  }

  // [kv_heads, summaries, compressed]
  std::vector<float> Slots(int stream, bool key) const {
    const std::vector<std::byte> state = State(stream);
    std::vector<float> slots(c_.row() * c_.summaries);
    std::memcpy(slots.data(), &state[key ? summary_k_ : summary_v_], slots.size() * 4);
    return slots;
  }
  float Mass(int stream) const {
    float mass;
    std::memcpy(&mass, &State(stream)[mass_], 4);
    return mass;
  }
  std::vector<std::byte> State(int stream) const { return states_[stream]->ToHost(); }
  // Of entries, and behind them the slots'.
  std::vector<std::byte> SlotRows(int stream, bool key) const {
    const std::vector<std::byte> state = State(stream);
    return {state.begin() + (key ? entry_k_ : entry_v_), state.end()};
  }

 private:
  struct Cursor {
    int64_t position = 0, segment_start = 0;
  };

  template <typename T>
  static std::vector<T> Fetched(const testing::DeviceArray& array) {
    return array.ToHostAs<T>();
  }

  void RunOps(const std::vector<SummaryPart>& parts, const BatchBuilder& builder, Outcome& out) {
    testing::Arrays arrays(ops_);
    const int32_t num_entries = builder.num_entries();
    if (padded_) Pad(num_entries, out);
    const int32_t staged = out.batch.num_staged;
    const auto num_segments = static_cast<int64_t>(out.segments.size());
    std::vector<float> gates(staged);
    std::vector<float> keys(staged * c_.row()), values(keys);
    for (size_t i = 0; i < parts.size(); ++i) {
      const StreamChunk& c = out.chunks[i];
      for (int64_t p = c.leave_begin; p < c.leave_end; ++p) {
        const int64_t row = c.first_staged + p - c.leave_begin;
        gates[row] = c_.log_gate(parts[i].stream, p);
        const auto put = [&](bool key, std::vector<float>& to) {
          const std::vector<float> x = c_.vector(parts[i].stream, p, key, c_.row());
          std::copy(x.begin(), x.end(), to.begin() + row * c_.row());
        };
        put(true, keys);
        put(false, values);
      }
    }
    const std::vector<double> priorities(gates.begin(), gates.end());
    StreamBatch batch = out.batch;
    batch.chunks = arrays.Put(out.chunks);
    batch.segments = arrays.Put(out.segments);
    const auto ints = [&](int64_t n) { return &arrays.Poisoned(n * 4); };
    auto *born = ints(num_entries), *died = ints(num_entries), *token = ints(num_entries),
         *row_gate = ints(num_entries), *slot = ints(staged), *replaced = ints(batch.num_chunks);
    testing::DeviceArray& row_position = arrays.Poisoned(int64_t{num_entries} * 8);
    Expect(ops_.ReplaceEntries({.batch = batch,
                                .shape = shape_,
                                .position_offset = position_,
                                .priority_offset = priority_,
                                .log_gate_offset = log_gate_,
                                .token_offset = token_,
                                .staged_priority = arrays.Put(priorities),
                                .staged_log_gate = arrays.Put(gates),
                                .staged_token = arrays.Put(std::vector<int32_t>(staged)),
                                .born = born->data<int32_t>(),
                                .died = died->data<int32_t>(),
                                .row_position = row_position.data<int64_t>(),
                                .row_log_gate = row_gate->data<float>(),
                                .row_token = token->data<int32_t>(),
                                .slot = slot->data<int32_t>(),
                                .num_replaced = replaced->data<int32_t>()}));
    auto *lost_row = ints(staged), *end = ints(num_segments), *keep = ints(num_segments),
         *mass = ints(num_segments);
    const LostEntries lost{.row = lost_row->data<int32_t>(),
                           .end = end->data<int32_t>(),
                           .keep = keep->data<float>(),
                           .mass = mass->data<float>()};
    Expect(ops_.LoseEntries({.batch = batch,
                             .shape = shape_,
                             .decay = c_.decay,
                             .mass_offset = mass_,
                             .died = died->data<int32_t>(),
                             .row_position = row_position.data<int64_t>(),
                             .row_log_gate = row_gate->data<float>(),
                             .found = ints(staged)->data<int32_t>(),
                             .lost = lost}));
    const auto rows = [&](const std::vector<float>& x) {
      std::vector<std::byte> bytes = format_.Rows(x);
      bytes.resize((staged + num_segments * c_.summaries) * format_.row_bytes(), std::byte{0x7f});
      return &arrays.Add(static_cast<int64_t>(bytes.size()), bytes.data());
    };
    testing::DeviceArray *staged_k = rows(keys), *staged_v = rows(values);
    Expect(ops_.SummarizeEntries({.batch = batch,
                                  .shape = shape_,
                                  .element = c_.type,
                                  .entry_type = c_.entry_type,
                                  .num_kv_heads = c_.kv_heads,
                                  .compressed_dim = c_.compressed,
                                  .num_summaries = c_.summaries,
                                  .query = query_,
                                  .row_log_gate = row_gate->data<float>(),
                                  .lost = lost,
                                  .summary_k_offset = summary_k_,
                                  .summary_v_offset = summary_v_,
                                  .entry_k_offset = entry_k_,
                                  .entry_v_offset = entry_v_,
                                  .staged_k = staged_k->data(),
                                  .staged_v = staged_v->data()}));
    RunList(arrays, batch, mass->data<float>(), out);
    for (const auto& [offset, staged_rows] :
         {std::pair(entry_k_, staged_k), {entry_v_, staged_v}}) {
      Expect(ops_.CommitRows({.batch = batch,
                              .entries_offset = offset,
                              .staged = staged_rows->data(),
                              .slot = slot->data<int32_t>(),
                              .row_bytes = format_.row_bytes()}));
    }
    out.lost_row = Fetched<int32_t>(*lost_row);
    out.lost_end = Fetched<int32_t>(*end);
    out.keep = Fetched<float>(*keep);
    out.mass = Fetched<float>(*mass);
    out.staged_k = staged_k->ToHost();
    out.staged_v = staged_v->ToHost();
  }

  // Selections of no meaning but that they differ.
  void RunList(testing::Arrays& arrays, const StreamBatch& batch, const float* mass, Outcome& out) {
    const int64_t most = shape_.max_selected, all = most + c_.summaries;
    std::vector<int32_t> count;
    for (size_t s = 0; s < out.segments.size(); ++s) {
      count.push_back(static_cast<int32_t>(s % (most + 1)));
      for (int64_t i = 0; i < most; ++i) {
        out.selected_row.push_back(static_cast<int32_t>((s * 5 + i * 3) % (c_.capacity + 20)));
      }
    }
    out.selected_score = RandomFloats(static_cast<int64_t>(count.size()) * most, 3);
    out.selected_log_gate = RandomFloats(static_cast<int64_t>(count.size()) * most, 4);
    const auto room = [&](int64_t n) {
      return &arrays.Poisoned(static_cast<int64_t>(count.size()) * n * 4);
    };
    auto *read_count = room(1), *row = room(all), *score = room(all), *log_gate = room(all);
    Expect(ops_.ListSummaries({.batch = batch,
                               .shape = shape_,
                               .num_summaries = c_.summaries,
                               .mass_offset = mass_,
                               .mass = mass,
                               .selected = {.count = arrays.Put(count),
                                            .row = arrays.Put(out.selected_row),
                                            .score = arrays.Put(out.selected_score),
                                            .log_gate = arrays.Put(out.selected_log_gate),
                                            .position = nullptr},
                               .read = {.count = read_count->data<int32_t>(),
                                        .row = row->data<int32_t>(),
                                        .score = score->data<float>(),
                                        .log_gate = log_gate->data<float>(),
                                        .position = nullptr}}));
    out.count = Fetched<int32_t>(*read_count);
    out.row = Fetched<int32_t>(*row);
    out.score = Fetched<float>(*score);
    out.log_gate = Fetched<float>(*log_gate);
  }

  // Chunks without a stream, and more staging rows than are used.
  void Pad(int32_t num_entries, Outcome& out) {
    for (int i = 0; i < 2; ++i) {
      const auto segment = static_cast<int32_t>(out.segments.size());
      out.segments.push_back({.chunk = static_cast<int32_t>(out.chunks.size()),
                              .first_row = out.batch.num_rows,
                              .num_rows = 1,
                              .begins = 1,
                              .start = 0});
      out.chunks.push_back({.state = nullptr,
                            .first_position = 0,
                            .first_row = out.batch.num_rows,
                            .num_rows = 1,
                            .first_segment = segment,
                            .num_segments = 1,
                            .leave_begin = 0,
                            .leave_end = 0,
                            .first_staged = out.batch.num_staged,
                            .first_entry = num_entries});
      ++out.batch.num_rows;
    }
    out.batch.num_chunks += 2;
    out.batch.num_segments += 2;
    out.batch.num_staged += 5;
  }

  static void Expect(const absl::Status& status) { ASSERT_TRUE(status.ok()) << status; }

  const SummaryCase c_;
  const StreamShape shape_;
  const EntryFormat format_;
  Ops& ops_;
  const bool padded_;
  testing::Arrays arrays_;
  int64_t state_bytes_ = 0;
  int64_t position_, priority_, log_gate_, token_, mass_, summary_k_, summary_v_, entry_k_,
      entry_v_;
  std::vector<testing::DeviceArray*> states_;
  std::vector<Cursor> cursors_;
  const float* query_;
};

}  // namespace rasq
