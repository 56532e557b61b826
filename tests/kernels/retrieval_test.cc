// What retrieval is made of: index tokens, scores, selection.
#include <gtest/gtest.h>

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/index_tokens.h"
#include "kernels/retrieval_scores.h"
#include "kernels/select_entries.h"
#include "tests/support/entry_format.h"
#include "tests/support/stream_batches.h"
#include "tests/support/tensors.h"

namespace rasq {
namespace {

constexpr DType kTypes[] = {DType::kFloat32, DType::kBfloat16};
constexpr float kInf = std::numeric_limits<float>::infinity();

StreamShape Shape(int32_t window, int32_t segment, int32_t capacity, int32_t max_selected) {
  return {.window_rows = window,
          .segment_rows = segment,
          .sink_rows = 0,
          .capacity = capacity,
          .max_selected = max_selected,
          .memory_span = max_selected,
          .ring_rows = window + segment};
}

TEST(IndexTokensTest, ByHand) {
  // (3, 4) has length 5; zero stays zero. Gate ln 3 - 0 with bias 0: sigmoid 3/4.
  std::byte state[1];
  BatchBuilder builder(Shape(4, 4, 2, 2));
  builder.Add({.first_position = 100, .segment_rows = {2}}, state);
  const std::vector<float> projected = {3, 4, 0, 0, 1.09861229f, 0, 2, -6, 8, -1000};
  const std::vector<uint8_t> pinned = {0, 1};
  WritePolicy policy{.log_growth = 0.5, .noise = 0, .seed = 1};
  for (const DType type : kTypes) {
    Elements query(type, 4), key(type, 4);
    std::vector<float> log_gate(2);
    std::vector<double> priority(2);
    IndexTokensArgs args{.batch = builder.Batch(),
                         .projected = projected.data(),
                         .projected_stride = 5,
                         .index_dim = 2,
                         .has_gate = true,
                         .gate_bias = 0,
                         .query = query.data(),
                         .key = key.data(),
                         .element = type,
                         .pinned = pinned.data(),
                         .policy = &policy,
                         .log_gate = log_gate.data(),
                         .priority = priority.data()};
    ThreadPool pool(1);
    ASSERT_TRUE(IndexTokensCpu(args, pool).ok());
    const float want_query[] = {0.6f, 0.8f, 0, 1}, want_key[] = {0, 0, -0.6f, 0.8f};
    for (int i = 0; i < 4; ++i) {
      EXPECT_NEAR(query[i], want_query[i], 2 * Rounding(type));
      EXPECT_NEAR(key[i], want_key[i], 2 * Rounding(type));
    }
    EXPECT_NEAR(log_gate[0], std::log(0.75), 1e-7);
    EXPECT_EQ(log_gate[1], -1000);
    EXPECT_DOUBLE_EQ(priority[0], double{log_gate[0]} + 50);
    EXPECT_EQ(priority[1], INFINITY);
    policy.by_age = true;
    ASSERT_TRUE(IndexTokensCpu(args, pool).ok());
    EXPECT_EQ(priority[0], 100);
    EXPECT_EQ(priority[1], INFINITY);
    policy.by_age = false;
    // Without a gate the outputs below it are left alone.
    args.has_gate = false;
    args.projected_stride = 4;
    log_gate = {7, 7};
    ASSERT_TRUE(IndexTokensCpu(args, pool).ok());
    EXPECT_EQ(log_gate[0], 7);
  }
}

TEST(IndexTokensTest, Int8KeysByHand) {
  // (-6, 8) is (-0.6, 0.8) in length 1: 0.8 becomes 127, -0.6 becomes -95.25. Zero stays zero.
  std::byte state[1];
  BatchBuilder builder(Shape(4, 4, 2, 2));
  builder.Add({.first_position = 100, .segment_rows = {2}}, state);
  const std::vector<float> projected = {3, 4, -6, 8, 0, 2, 0, 0};
  for (const DType type : kTypes) {
    const EntryFormat int8{EntryType::kInt8, type, 1, 2};
    ASSERT_EQ(int8.row_bytes(), 8);
    Elements query(type, 4);
    std::vector<std::byte> key(2 * int8.row_bytes());
    ThreadPool pool(1);
    ASSERT_TRUE(IndexTokensCpu({.batch = builder.Batch(),
                                .projected = projected.data(),
                                .projected_stride = 4,
                                .index_dim = 2,
                                .query = query.data(),
                                .key = key.data(),
                                .element = type,
                                .entry_type = EntryType::kInt8},
                               pool)
                    .ok());
    EXPECT_NEAR(query[1], 0.8f, 2 * Rounding(type));
    EXPECT_EQ(int8.Quantum(key.data(), 0, 0, 0), -95);
    EXPECT_EQ(int8.Quantum(key.data(), 0, 0, 1), 127);
    EXPECT_FLOAT_EQ(int8.Scale(key.data(), 0, 0), 0.8f / 127);
    EXPECT_EQ(int8.Quantum(key.data(), 1, 0, 0), 0);
    EXPECT_EQ(int8.Quantum(key.data(), 1, 0, 1), 0);
    EXPECT_EQ(int8.Scale(key.data(), 1, 0), 0);
  }
}

TEST(IndexTokensTest, NoiseIsGumbelAndAFunctionOfSeedAndPosition) {
  std::byte state[1];
  constexpr int kRows = 20000;
  const auto run = [&](int64_t first, uint64_t seed) {
    BatchBuilder builder(Shape(4, kRows, 2, 2));
    builder.Add({.first_position = first, .segment_rows = {kRows}}, state);
    const std::vector<float> projected(kRows * 3);
    const std::vector<uint8_t> pinned(kRows);
    const WritePolicy policy{.log_growth = 0, .noise = 1, .seed = seed};
    std::vector<float> query(kRows), key(kRows), log_gate(kRows);
    std::vector<double> priority(kRows);
    const IndexTokensArgs args{.batch = builder.Batch(),
                               .projected = projected.data(),
                               .projected_stride = 3,
                               .index_dim = 1,
                               .has_gate = true,
                               .gate_bias = 0,
                               .query = query.data(),
                               .key = key.data(),
                               .element = DType::kFloat32,
                               .pinned = pinned.data(),
                               .policy = &policy,
                               .log_gate = log_gate.data(),
                               .priority = priority.data()};
    ThreadPool pool(2);
    EXPECT_TRUE(IndexTokensCpu(args, pool).ok());
    return priority;
  };
  const std::vector<double> a = run(0, 1), b = run(5000, 1), c = run(0, 2);
  double sum = 0, squares = 0;
  for (int i = 0; i < kRows; ++i) {
    const double gumbel = a[i] - std::log(0.5);  // the gate's own log
    sum += gumbel;
    squares += gumbel * gumbel;
  }
  // Mean 0.5772 and variance pi^2/6; the mean of 20000 has a deviation of 0.009, the variance's
  // is below 0.025: five of them.
  const double mean = sum / kRows;
  EXPECT_NEAR(mean, 0.57721566, 0.045);
  EXPECT_NEAR(squares / kRows - mean * mean, 1.6449, 0.125);
  EXPECT_TRUE(std::equal(a.begin() + 5000, a.end(), b.begin()));
  EXPECT_NE(a[0], c[0]);
}

TEST(IndexTokensTest, ArgumentErrors) {
  std::byte state[1];
  BatchBuilder builder(Shape(4, 4, 2, 2));
  builder.Add({.first_position = 0, .segment_rows = {1}}, state);
  IndexTokensArgs args{};
  args.batch = builder.Batch();
  EXPECT_EQ(ValidateIndexTokens(args).message(), "IndexTokens: index_dim=0");
  args.index_dim = 4;
  args.has_gate = true;
  args.projected_stride = 8;
  EXPECT_EQ(ValidateIndexTokens(args).message(), "IndexTokens: projected_stride=8");
  args.projected_stride = 9;
  EXPECT_EQ(ValidateIndexTokens(args).message(), "IndexTokens: projected=null");
}

struct ScoreWorld {
  ScoreWorld(const StreamShape& shape_in, DType type, int32_t dim, const ChunkSpec& spec,
             EntryType entry_type = EntryType::kElement)
      : shape(shape_in), format{entry_type, type, 1, dim}, builder(shape_in) {
    const int64_t row_bytes = dim * SizeOf(type);
    state.resize(shape.segment_rows * row_bytes + shape.capacity * format.row_bytes());
    builder.Add(spec, state.data());
    batch = builder.Batch();
    entry_offset = shape.segment_rows * row_bytes;
    ring = Elements(type, RandomFloats(shape.segment_rows * dim, 1, 0.3f));
    query = Elements(type, RandomFloats(batch.num_rows * dim, 3, 0.3f));
    const auto slots = format.Rows(RandomFloats(shape.capacity * dim, 2, 0.3f));
    staged = format.Rows(RandomFloats(batch.num_staged * dim, 4, 0.3f));
    std::memcpy(state.data(), ring.data(), ring.bytes().size());
    std::memcpy(state.data() + entry_offset, slots.data(), slots.size());
    gate = RandomFloats(builder.num_entries(), 5);
    stride = builder.num_entries() + 3;
    score.assign(batch.num_segments * stride, 9);
    key = score;
    args = {.batch = batch,
            .shape = shape,
            .index_dim = dim,
            .element = type,
            .entry_type = entry_type,
            .temperature = 2.5f,
            .query_ring_offset = 0,
            .query = query.data(),
            .entry_index_offset = entry_offset,
            .staged_index = staged.data(),
            .born = nullptr,
            .died = nullptr,
            .row_log_gate = gate.data(),
            .score = score.data(),
            .key = key.data(),
            .stride = stride};
  }
  // A number of an entry row's key, its scale applied without rounding.
  double Key(int64_t row, int64_t d) const {
    const bool is_slot = row < shape.capacity;
    const std::byte* rows = is_slot ? state.data() + entry_offset : staged.data();
    const int64_t at = is_slot ? row : row - shape.capacity;
    if (format.type == EntryType::kElement) return format.Load(rows, at, 0, d);
    return double{format.Scale(rows, at, 0)} * format.Quantum(rows, at, 0, d);
  }
  StreamShape shape;
  EntryFormat format;
  BatchBuilder builder;
  StreamBatch batch;
  std::vector<std::byte> state, staged;
  int64_t entry_offset, stride;
  Elements ring, query;
  std::vector<float> gate, score, key;
  RetrievalScoresArgs args;
};

void ExpectScores(EntryType entry_type) {
  for (const DType type : kTypes) {
    for (const int32_t capacity : {1, 70, 512, 1100}) {
      // The first segment goes on; the second has queries in the ring and the batch, and so on.
      const StreamShape shape = Shape(40, 16, capacity, 8);
      ScoreWorld w(shape, type, 24,
                   {.first_position = 205,
                    .segment_rows = {3, 5, 16, 7},
                    .first_start = 200,
                    .leave_begin = 165},
                   entry_type);
      const int32_t n = w.builder.num_entries();
      std::vector<int32_t> born(n), died(n, INT32_MAX);
      for (int32_t i = 0; i < n; ++i) {
        if (i % 7 == 3) born[i] = 2;
        if (i % 5 == 1) died[i] = 3;
      }
      w.args.born = born.data();
      w.args.died = died.data();
      ThreadPool pool(2);
      ASSERT_TRUE(RetrievalScoresCpu(w.args, pool).ok());
      for (int32_t s = 0; s < w.batch.num_segments; ++s) {
        const StreamSegment& segment = w.batch.segments[s];
        for (int32_t i = 0; i < n; ++i) {
          const float got = w.score[s * w.stride + i], got_key = w.key[s * w.stride + i];
          if (segment.begins == 0) {
            ASSERT_EQ(got_key, 9);
            continue;
          }
          if (!(born[i] <= s && s < died[i])) {
            ASSERT_EQ(got_key, -kInf) << s << " " << i;
            continue;
          }
          double best = -kInf;
          for (int64_t p = segment.start - 16; p < segment.start; ++p) {
            double dot = 0;
            for (int64_t d = 0; d < 24; ++d) {
              const double q = p < 205 ? w.ring[p % 16 * 24 + d] : w.query[(p - 205) * 24 + d];
              dot += q * w.Key(i, d);
            }
            best = std::max(best, dot);
          }
          // Products of the stored elements are exact; 24 sums below 2.2, times 2.5.
          ASSERT_NEAR(got, 2.5 * best, 24 * 5.5 * 0x1p-24) << s << " " << i;
          ASSERT_EQ(got_key, got + w.gate[i]);
        }
        EXPECT_EQ(w.key[s * w.stride + n], 9) << "wrote past the entries";
      }
    }
  }
}

TEST(RetrievalScoresTest, MatchesDouble) { ExpectScores(EntryType::kElement); }
TEST(RetrievalScoresTest, Int8MatchesDouble) { ExpectScores(EntryType::kInt8); }

TEST(RetrievalScoresTest, ByHandAtTheStreamsStart) {
  // One query (1, 0) so far; entries (0.5, 9) and (-1, 0), the third dead. Temperature 2.
  const StreamShape shape = Shape(0, 4, 3, 2);
  ScoreWorld w(shape, DType::kFloat32, 2,
               {.first_position = 1, .segment_rows = {1}, .leave_begin = 1});
  const std::vector<float> query = {1, 0, 8, 8}, slots = {0.5f, 9, -1, 0, 7, 7};
  std::memcpy(w.state.data(), query.data(), 16);
  std::memcpy(w.state.data() + w.entry_offset, slots.data(), 24);
  const std::vector<int32_t> born = {0, 0, 0}, died = {INT32_MAX, INT32_MAX, 0};
  const std::vector<float> gate = {-1, -2, -3};
  w.args.born = born.data();
  w.args.died = died.data();
  w.args.row_log_gate = gate.data();
  w.args.temperature = 2;
  ThreadPool pool(1);
  ASSERT_TRUE(RetrievalScoresCpu(w.args, pool).ok());
  // Position 0's query lies in ring row 0.
  EXPECT_EQ(w.score[0], 1);
  EXPECT_EQ(w.key[0], 0);
  EXPECT_EQ(w.score[1], -2);
  EXPECT_EQ(w.key[1], -4);
  EXPECT_EQ(w.key[2], -kInf);
  w.args.stride = 2;
  EXPECT_EQ(RetrievalScoresCpu(w.args, pool).message(), "RetrievalScores: stride=2");
}

// A batch's selection with its arrays; one chunk's state holds an open segment's selection.
struct SelectWorld {
  SelectWorld(const StreamShape& shape_in, const ChunkSpec& spec)
      : shape(shape_in), builder(shape_in), state(1024) {
    builder.Add(spec, state.data());
    batch = builder.Batch();
    const int64_t n = int64_t{batch.num_segments} * shape.max_selected;
    count.resize(batch.num_segments);
    row.resize(n);
    score.resize(n);
    log_gate.resize(n);
    position.resize(n);
    for (int32_t i = 0; i < builder.num_entries(); ++i) {
      row_position.push_back(1000 + (i * 7) % 11);
      row_gate.push_back(-0.25f * static_cast<float>(i));
    }
    slot.assign(batch.num_staged + 1, -1);
    args.batch = batch;
    args.shape = shape;
    args.stride = builder.num_entries();
    args.row_position = row_position.data();
    args.row_log_gate = row_gate.data();
    args.slot = slot.data();
    args.policy = &policy;
    args.state = {.count = 0, .row = 64, .score = 128, .log_gate = 192, .position = 256};
    args.selected = {.count = count.data(),
                     .row = row.data(),
                     .score = score.data(),
                     .log_gate = log_gate.data(),
                     .position = position.data()};
  }
  absl::Status Run(const std::vector<float>& keys) {
    std::vector<float> scores(keys);
    for (float& s : scores) s *= 10;
    args.key = keys.data();
    args.score = scores.data();
    ThreadPool pool(2);
    return SelectEntriesCpu(args, pool);
  }
  std::vector<int32_t> Selected(int32_t segment) const {
    const auto first = row.begin() + segment * shape.max_selected;
    return std::vector<int32_t>(first, first + count[segment]);
  }
  StreamShape shape;
  BatchBuilder builder;
  std::vector<std::byte> state;
  StreamBatch batch;
  ReadPolicy policy{.budget = 3, .gain = 0, .floor = -kInf};
  std::vector<int32_t> count, row, slot;
  std::vector<float> score, log_gate, row_gate;
  std::vector<int64_t> position, row_position;
  SelectEntriesArgs args{};
};

TEST(SelectEntriesTest, ByHand) {
  // Five entries at positions 1000 + {0, 7, 3, 10, 6}. Keys 1, 2, 2, dead, 2: of the three equal
  // ones the newer two win when two are taken; in order of position: rows 4, 1.
  SelectWorld w(Shape(10, 4, 5, 4), {.first_position = 5, .segment_rows = {2}});
  w.policy.budget = 2;
  const std::vector<float> keys = {1, 2, 2, -kInf, 2};
  ASSERT_TRUE(w.Run(keys).ok());
  EXPECT_EQ(w.Selected(0), (std::vector<int32_t>{4, 1}));
  EXPECT_EQ(w.position[0], 1006);
  EXPECT_EQ(w.score[0], 20);
  EXPECT_EQ(w.log_gate[0], -1);
  // All that live: 1000, 1003, 1006, 1007.
  w.policy.budget = 100;
  ASSERT_TRUE(w.Run(keys).ok());
  EXPECT_EQ(w.Selected(0), (std::vector<int32_t>{0, 2, 4, 1}));
  // A floor, though the budget is larger; a key at the floor stays.
  w.policy.floor = 2;
  ASSERT_TRUE(w.Run(keys).ok());
  EXPECT_EQ(w.Selected(0), (std::vector<int32_t>{2, 4, 1}));
  w.policy.floor = 3;
  ASSERT_TRUE(w.Run(keys).ok());
  EXPECT_TRUE(w.Selected(0).empty());
  ASSERT_TRUE(w.Run({-kInf, -kInf, -kInf, -kInf, -kInf}).ok());
  EXPECT_TRUE(w.Selected(0).empty());
}

TEST(SelectEntriesTest, TheNewestByHand) {
  // Live entries at 1000, 1007, 1003, 1006: whatever their keys, the three newest, without score.
  SelectWorld w(Shape(10, 4, 5, 4), {.first_position = 5, .segment_rows = {2}});
  w.policy = {.budget = 3, .gain = 100, .floor = 50, .newest = true};
  const std::vector<float> factor = {2};
  std::vector<int32_t> budget(1);
  w.args.factor = factor.data();
  w.args.budget = budget.data();
  ASSERT_TRUE(w.Run({9, 2, 7, -kInf, 1}).ok());
  EXPECT_EQ(w.Selected(0), (std::vector<int32_t>{2, 4, 1}));
  EXPECT_EQ(budget[0], 3);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(w.score[i], 0) << i;
  EXPECT_EQ(w.log_gate[0], -0.5f);
  w.policy.budget = 100;  // at most max_selected
  ASSERT_TRUE(w.Run({9, 2, 7, 0, 1}).ok());
  EXPECT_EQ(w.Selected(0), (std::vector<int32_t>{2, 4, 1, 3}));
}

TEST(SelectEntriesTest, BudgetGrowsWithComplexity) {
  // Four equal keys: the softmax is uniform, c = 1, so k = 1 * (1 + gain).
  SelectWorld w(Shape(10, 4, 4, 4), {.first_position = 5, .segment_rows = {2}});
  w.policy.budget = 1;
  w.policy.gain = 2;
  ASSERT_TRUE(w.Run({1, 1, 1, 1}).ok());
  EXPECT_EQ(w.count[0], 3);
  // One far above the others: c = 0.
  ASSERT_TRUE(w.Run({100, 1, 1, 1}).ok());
  EXPECT_EQ(w.count[0], 1);
  // Two of weight 1/2, two of none: ln 2 / ln 4 = 1/2, k = 2.
  ASSERT_TRUE(w.Run({100, 1, 100, 1}).ok());
  EXPECT_EQ(w.count[0], 2);
  w.policy.gain = 1e30f;
  ASSERT_TRUE(w.Run({1, 1, 1, 1}).ok());
  EXPECT_EQ(w.count[0], 4);
}

TEST(SelectEntriesTest, AFactorScalesTheBudget) {
  SelectWorld w(Shape(10, 4, 5, 4), {.first_position = 5, .segment_rows = {2}});
  w.policy.budget = 3;
  std::vector<float> factor = {0.5f};
  std::vector<int32_t> budget(1);
  w.args.factor = factor.data();
  w.args.budget = budget.data();
  const std::vector<float> keys = {1, 2, 3, -kInf, 4};
  ASSERT_TRUE(w.Run(keys).ok());  // 1.5, rounded away from zero
  EXPECT_EQ(w.Selected(0), (std::vector<int32_t>{2, 4}));
  EXPECT_EQ(budget[0], 2);
  factor[0] = 0.01f;  // at least one
  ASSERT_TRUE(w.Run(keys).ok());
  EXPECT_EQ(w.Selected(0), (std::vector<int32_t>{4}));
  EXPECT_EQ(budget[0], 1);
  factor[0] = 100;  // at most max_selected
  ASSERT_TRUE(w.Run(keys).ok());
  EXPECT_EQ(w.count[0], 4);
  EXPECT_EQ(budget[0], 4);
}

TEST(SelectEntriesTest, TheOpenSegmentsSelectionLivesInTheState) {
  // Two slots; tokens 8..13 leave for segments at 18 and 22 (window 8). The last segment selects
  // slot 1 and the staged rows 1 and 4, which got slots 0 and 5... of the state.
  SelectWorld w(
      Shape(8, 4, 2, 3),
      {.first_position = 16, .segment_rows = {2, 4, 3}, .first_start = 14, .leave_begin = 8});
  ASSERT_EQ(w.batch.num_staged, 6);
  // What the segment at 14 chose.
  const int32_t count = 1, row = 1;
  const float score = 4, gate = -4;
  const int64_t position = 3;
  std::memcpy(w.state.data(), &count, 4);
  std::memcpy(w.state.data() + 64, &row, 4);
  std::memcpy(w.state.data() + 128, &score, 4);
  std::memcpy(w.state.data() + 192, &gate, 4);
  std::memcpy(w.state.data() + 256, &position, 8);
  w.slot = {-1, 0, -1, -1, 1, -1};
  w.args.slot = w.slot.data();
  for (size_t i = 0; i < w.row_position.size(); ++i) w.row_position[i] = static_cast<int64_t>(i);
  std::vector<float> keys(3 * 8, -kInf);
  keys[8 + 2] = 1;                                 // second segment: staged row 0
  keys[16 + 3] = keys[16 + 6] = keys[16 + 1] = 1;  // third: slot 1, staged rows 1 and 4
  ASSERT_TRUE(w.Run(keys).ok());
  EXPECT_EQ(w.Selected(0), (std::vector<int32_t>{1}));
  EXPECT_EQ(w.score[0], 4);
  EXPECT_EQ(w.log_gate[0], -4);
  EXPECT_EQ(w.position[0], 3);
  EXPECT_EQ(w.Selected(1), (std::vector<int32_t>{2}));
  EXPECT_EQ(w.Selected(2), (std::vector<int32_t>{1, 3, 6}));
  int32_t left[3];
  std::memcpy(left, w.state.data(), 4);
  EXPECT_EQ(left[0], 3);
  std::memcpy(left, w.state.data() + 64, 12);
  EXPECT_EQ(left[0], 1);
  EXPECT_EQ(left[1], 0);
  EXPECT_EQ(left[2], 1);
}

TEST(SelectEntriesTest, ArgumentErrors) {
  SelectWorld w(Shape(10, 4, 5, 4), {.first_position = 5, .segment_rows = {2}});
  const std::vector<float> keys(5);
  w.policy.budget = 0;
  EXPECT_EQ(w.Run(keys).message(), "SelectEntries: policy[0].budget=0");
  w.policy.budget = 1;
  w.policy.gain = -1;
  EXPECT_EQ(w.Run(keys).message(), "SelectEntries: policy[0].gain=-1");
  w.policy.gain = 0;
  w.args.stride = 4;
  EXPECT_EQ(w.Run(keys).message(), "SelectEntries: stride=4");
}

}  // namespace
}  // namespace rasq
