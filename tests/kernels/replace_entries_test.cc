#include "kernels/replace_entries.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstring>
#include <map>
#include <random>
#include <vector>

#include "tests/support/stream_batches.h"

namespace rasq {
namespace {

// A stream's table of entries in a slab, as the operation finds it.
class Table {
 public:
  explicit Table(int32_t capacity) : capacity_(capacity), bytes_(capacity * 24) {
    for (int32_t i = 0; i < capacity; ++i) position()[i] = -1;
  }
  std::byte* state() { return bytes_.data(); }
  int64_t* position() { return reinterpret_cast<int64_t*>(bytes_.data()); }
  double* priority() { return reinterpret_cast<double*>(bytes_.data() + capacity_ * 8); }
  float* log_gate() { return reinterpret_cast<float*>(bytes_.data() + capacity_ * 16); }
  int32_t* token() { return reinterpret_cast<int32_t*>(bytes_.data() + capacity_ * 20); }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  const int32_t capacity_;
  std::vector<std::byte> bytes_;
};

struct Results {
  std::vector<int32_t> born, died, row_token, slot, num_replaced;
  std::vector<int64_t> row_position;
  std::vector<float> row_log_gate;
};

// Runs a batch; gates, tokens and priorities of the leaving tokens come from `priority`.
Results Replace(const BatchBuilder& builder, const StreamShape& shape,
                const std::vector<double>& staged_priority, absl::Status* status_out = nullptr) {
  Results r;
  const StreamBatch batch = builder.Batch();
  std::vector<float> gate(batch.num_staged + 1);
  std::vector<int32_t> token(batch.num_staged + 1);
  for (int32_t i = 0; i < batch.num_chunks; ++i) {
    const StreamChunk& c = batch.chunks[i];
    for (int64_t p = c.leave_begin; p < c.leave_end; ++p) {
      gate[c.first_staged + p - c.leave_begin] = -0.5f * static_cast<float>(p);
      token[c.first_staged + p - c.leave_begin] = static_cast<int32_t>(p * 10);
    }
  }
  r.born.resize(builder.num_entries() + 1, -7);
  r.died = r.row_token = r.born;
  r.row_position.resize(r.born.size(), -7);
  r.row_log_gate.resize(r.born.size(), -7);
  r.slot.resize(batch.num_staged + 1, -7);
  r.num_replaced.resize(batch.num_chunks, -7);
  const int64_t capacity = shape.capacity;
  const ReplaceEntriesArgs args{.batch = batch,
                                .shape = shape,
                                .position_offset = 0,
                                .priority_offset = capacity * 8,
                                .log_gate_offset = capacity * 16,
                                .token_offset = capacity * 20,
                                .staged_priority = staged_priority.data(),
                                .staged_log_gate = gate.data(),
                                .staged_token = token.data(),
                                .born = r.born.data(),
                                .died = r.died.data(),
                                .row_position = r.row_position.data(),
                                .row_log_gate = r.row_log_gate.data(),
                                .row_token = r.row_token.data(),
                                .slot = r.slot.data(),
                                .num_replaced = r.num_replaced.data()};
  ThreadPool pool(2);
  const absl::Status status = ReplaceEntriesCpu(args, pool);
  if (status_out != nullptr) {
    *status_out = status;
  } else {
    EXPECT_TRUE(status.ok()) << status;
  }
  return r;
}

TEST(ReplaceEntriesTest, ByHand) {
  // Window 2, segments of 2, one sink, two slots: slot 0 holds position 1 (priority 5), slot 1 is
  // empty. The stream goes on at 4 with segments at 4, 6 and 8: before them leave {2? no: 1 has
  // left}, so positions 2 | 3, 4... Segment at 4 sees [1, 2): nothing new leaves. Segment at 6:
  // 2 and 3 leave, with priorities 5 and 5; 2 takes the empty slot, 3 is equal to the rest and
  // newest: rejected. Segment at 8: 4 (priority 7) pushes out 2, the newer of the equals; 5
  // (priority 6) pushes out 1.
  const StreamShape shape{.window_rows = 2,
                          .segment_rows = 2,
                          .sink_rows = 1,
                          .capacity = 2,
                          .max_selected = 2,
                          .memory_span = 2,
                          .ring_rows = 4};
  Table table(2);
  table.position()[0] = 1;
  table.priority()[0] = 5;
  table.log_gate()[0] = -3;
  table.token()[0] = 77;
  BatchBuilder builder(shape);
  builder.Add({.first_position = 4, .segment_rows = {2, 2, 2}, .leave_begin = 2}, table.state());
  const Results r = Replace(builder, shape, {5, 5, 7, 6});
  const auto expect = [&](int row, int64_t position, int born, int died) {
    EXPECT_EQ(r.row_position[row], position) << row;
    EXPECT_EQ(r.born[row], born) << row;
    EXPECT_EQ(r.died[row], died) << row;
  };
  expect(0, 1, 0, 2);
  expect(2, 2, 1, 2);
  expect(4, 4, 2, INT32_MAX);
  expect(5, 5, 2, INT32_MAX);
  EXPECT_EQ(r.row_position[1], -1);
  for (int j = 0; j < 3; ++j) {
    EXPECT_FALSE(r.born[1] <= j && j < r.died[1]) << "the empty slot is read";
    EXPECT_FALSE(r.born[3] <= j && j < r.died[3]) << "the rejected token is read";
  }
  EXPECT_EQ(r.row_token[0], 77);
  EXPECT_EQ(r.row_log_gate[0], -3);
  EXPECT_EQ(r.row_token[4], 40);
  EXPECT_EQ(r.slot[0], -1);
  EXPECT_EQ(r.slot[1], -1);
  EXPECT_EQ(r.slot[2], 1);
  EXPECT_EQ(r.slot[3], 0);
  EXPECT_EQ(r.num_replaced[0], 2);
  EXPECT_EQ(table.position()[0], 5);
  EXPECT_EQ(table.position()[1], 4);
  EXPECT_EQ(table.priority()[1], 7);
  EXPECT_EQ(table.log_gate()[1], -2);
  EXPECT_EQ(table.token()[1], 40);
}

// Many segments at once against one after another, against the L best of all that have left.
TEST(ReplaceEntriesTest, ManySegmentsAtOnceAreOneAfterAnother) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 60; ++round) {
    const auto pick = [&](int low, int high) {
      return low + static_cast<int32_t>(random() % (high - low + 1));
    };
    StreamShape shape{.window_rows = pick(0, 20),
                      .segment_rows = pick(1, 9),
                      .sink_rows = pick(0, 5),
                      .capacity = pick(0, 30),
                      .max_selected = 4,
                      .memory_span = 4,
                      .ring_rows = 0};
    shape.ring_rows = shape.window_rows + shape.segment_rows;
    // Few distinct priorities, so that ties abound; some pinned.
    std::vector<double> priority(2000);
    for (double& p : priority) p = pick(0, 9) == 0 ? INFINITY : -pick(0, 12);

    Table at_once(shape.capacity), by_one(shape.capacity);
    int64_t replaced_at_once = 0, replaced_by_one = 0;
    int64_t position = 0, left = 0;
    for (int batch = 0; batch < 5; ++batch) {
      ChunkSpec spec{.first_position = position, .segment_rows = {}, .leave_begin = left};
      const int num_segments = pick(1, 6);
      for (int i = 0; i < num_segments; ++i) {
        spec.segment_rows.push_back(pick(1, shape.segment_rows));
      }
      BatchBuilder builder(shape);
      builder.Add(spec, at_once.state());
      const StreamChunk chunk = builder.chunks()[0];
      const Results r = Replace(
          builder, shape,
          std::vector<double>(priority.begin() + left, priority.begin() + chunk.leave_end + 1));
      replaced_at_once += r.num_replaced[0];

      for (int j = 0; j < num_segments; ++j) {
        const StreamSegment& s = builder.segments()[j];
        BatchBuilder one(shape);
        one.Add({.first_position = s.start, .segment_rows = {s.num_rows}, .leave_begin = left},
                by_one.state());
        const int64_t end = one.chunks()[0].leave_end;
        const Results r1 = Replace(
            one, shape, std::vector<double>(priority.begin() + left, priority.begin() + end + 1));
        replaced_by_one += r1.num_replaced[0];
        left = end;

        // The best of all candidates so far, older before newer.
        std::vector<int64_t> best;
        for (int64_t p = shape.sink_rows; p < left; ++p) best.push_back(p);
        std::stable_sort(best.begin(), best.end(),
                         [&](int64_t a, int64_t b) { return priority[a] > priority[b]; });
        if (static_cast<int64_t>(best.size()) > shape.capacity) best.resize(shape.capacity);
        std::sort(best.begin(), best.end());
        std::vector<int64_t> alive;
        for (int32_t i = 0; i < builder.num_entries(); ++i) {
          if (r.born[i] <= j && j < r.died[i]) alive.push_back(r.row_position[i]);
        }
        std::sort(alive.begin(), alive.end());
        ASSERT_EQ(alive, best) << "round " << round << " batch " << batch << " segment " << j;
      }
      position += chunk.num_rows;
      ASSERT_EQ(at_once.bytes(), by_one.bytes()) << "round " << round << " batch " << batch;
      ASSERT_EQ(replaced_at_once, replaced_by_one);
      for (int64_t i = 0; i < chunk.leave_end - chunk.leave_begin; ++i) {
        if (r.slot[i] < 0) continue;
        EXPECT_EQ(at_once.position()[r.slot[i]], chunk.leave_begin + i);
      }
    }
  }
}

TEST(ReplaceEntriesTest, ChunksWithoutBeginningSegmentsAreLeftAlone) {
  const StreamShape shape{.window_rows = 2,
                          .segment_rows = 4,
                          .sink_rows = 0,
                          .capacity = 2,
                          .max_selected = 2,
                          .memory_span = 2,
                          .ring_rows = 6};
  Table table(2);
  const Table before = table;
  BatchBuilder builder(shape);
  builder.Add({.first_position = 5, .segment_rows = {2}, .first_start = 4}, table.state());
  const Results r = Replace(builder, shape, {0});
  EXPECT_EQ(r.num_replaced[0], 0);
  EXPECT_EQ(r.born[0], -7);
  EXPECT_EQ(table.bytes(), before.bytes());
}

TEST(ReplaceEntriesTest, ArgumentErrors) {
  const StreamShape shape{.window_rows = 2,
                          .segment_rows = 4,
                          .sink_rows = 0,
                          .capacity = 2,
                          .max_selected = 2,
                          .memory_span = 2,
                          .ring_rows = 6};
  Table table(2);
  BatchBuilder builder(shape);
  builder.Add({.first_position = 8, .segment_rows = {4}, .leave_begin = 5}, table.state());
  absl::Status status;
  StreamShape bad = shape;
  bad.capacity = -1;
  Replace(builder, bad, {0, 0}, &status);
  EXPECT_EQ(status.message(), "ReplaceEntries: capacity=-1");
  builder.chunks()[0].leave_begin = 6;  // a segment that starts at 8 lets none leave from 8 - 2 on
  builder.chunks()[0].leave_end = 7;
  Replace(builder, shape, {0, 0}, &status);
  EXPECT_EQ(status.message(), "ReplaceEntries: chunk 0: leave_end=7");
  builder.chunks()[0].leave_end = 4;
  Replace(builder, shape, {0, 0}, &status);
  EXPECT_EQ(status.message(), "ReplaceEntries: chunk 0: leave_end=4");
}

}  // namespace
}  // namespace rasq
