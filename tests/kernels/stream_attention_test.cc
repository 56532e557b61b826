#include "kernels/stream_attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <ostream>
#include <random>
#include <vector>

#include "kernels/rotary.h"
#include "tests/support/stream_batches.h"
#include "tests/support/tensors.h"

namespace rasq {
namespace {

struct AttentionCase {
  const char* name;
  DType type;
  int32_t window, segment, sinks, capacity, max_selected;
  int32_t heads, kv_heads, head_dim, compressed;
  std::vector<ChunkSpec> chunks;
};
void PrintTo(const AttentionCase& c, std::ostream* out) { *out << c.name << " " << Name(c.type); }

// A batch of streams with all that attention reads. Tokens' keys and values are a function of
// (stream, position), so that the same stream may be cut in different ways. What attention must not
// read is NaN.
class World {
 public:
  explicit World(const AttentionCase& c, const std::vector<ChunkSpec>& chunks,
                 const std::vector<int>& streams, bool select_staged = true)
      : c_(c),
        shape_{.window_rows = c.window,
               .segment_rows = c.segment,
               .sink_rows = c.sinks,
               .capacity = c.capacity,
               .max_selected = c.max_selected,
               .memory_span = c.max_selected,
               .ring_rows = c.window + c.segment},
        builder_(shape_) {
    row_ = int64_t{c.kv_heads} * c.head_dim;
    entry_ = int64_t{c.kv_heads} * c.compressed;
    const int64_t size = SizeOf(c.type);
    ring_v_ = shape_.ring_rows * row_ * size;
    sink_k_ = 2 * ring_v_;
    sink_v_ = sink_k_ + c.sinks * row_ * size;
    entry_k_ = sink_v_ + c.sinks * row_ * size;
    entry_v_ = entry_k_ + c.capacity * entry_ * size;
    for (size_t i = 0; i < chunks.size(); ++i) {
      states_.emplace_back(entry_v_ + c.capacity * entry_ * size);
    }
    for (size_t i = 0; i < chunks.size(); ++i) builder_.Add(chunks[i], states_[i].data());
    batch_ = builder_.Batch();
    q_ = Elements(c.type, int64_t{batch_.num_rows} * c.heads * c.head_dim);
    k_ = Elements(c.type, batch_.num_rows * row_);
    v_ = Elements(c.type, batch_.num_rows * row_);
    out_ = Elements(c.type, q_.size(), std::numeric_limits<float>::quiet_NaN());
    staged_k_ = Elements(c.type, RandomFloats(batch_.num_staged * entry_, 71));
    staged_v_ = Elements(c.type, RandomFloats(batch_.num_staged * entry_, 72));
    for (int32_t i = 0; i < batch_.num_chunks; ++i) FillChunk(batch_.chunks[i], streams[i]);
    for (int32_t i = 0; i < batch_.num_segments; ++i) {
      Select(i, streams[batch_.segments[i].chunk], select_staged);
    }
    FillRotations();
    const float up_scale = 1 / std::sqrt(static_cast<float>(c.head_dim));
    key_up_ = RandomFloats(entry_ * c.head_dim, 81, up_scale);
    value_up_ = RandomFloats(entry_ * c.head_dim, 82, up_scale);
    weight_ = RandomFloats(c.heads, 83);
    slope_ = RandomFloats(c.heads, 84, 0.1f);
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
    return a;
  }

  const StreamBatch& batch() const { return batch_; }
  const Elements& out() const { return out_; }

  // The contract, word for word, in double: one query and head; its output.
  std::vector<double> Expected(int32_t segment_index, int32_t i, int32_t head) const {
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
    double most = logits[0], sum = 0;
    for (const double logit : logits) most = std::max(most, logit);
    std::vector<double> out(dim);
    for (size_t j = 0; j < logits.size(); ++j) {
      const double e = std::exp(logits[j] - most);
      sum += e;
      for (int64_t d = 0; d < dim; ++d) out[d] += e * values[j][d];
    }
    for (double& value : out) value /= sum;
    return out;
  }

 private:
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
    const int64_t at = h * c_.compressed + e;
    if (row < c_.capacity) {
      return Elements::Load(c_.type, c.state + (key ? entry_k_ : entry_v_), row * entry_ + at);
    }
    return (key ? staged_k_ : staged_v_)[(c.first_staged + row - c_.capacity) * entry_ + at];
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
    for (size_t i = 0; i < rest.size(); ++i) {
      Elements::Store(c_.type, c.state + sink_k_, i, rest[i]);
    }
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
  BatchBuilder builder_;
  StreamBatch batch_;
  int64_t row_, entry_;  // elements of a token's and an entry's row
  int64_t ring_v_, sink_k_, sink_v_, entry_k_, entry_v_;
  std::vector<std::vector<std::byte>> states_;
  Elements q_, k_, v_, out_, staged_k_, staged_v_;
  std::vector<float> memory_rotation_, sink_rotation_, key_up_, value_up_, weight_, slope_;
  std::vector<int32_t> count_, selected_row_;
  std::vector<float> score_, log_gate_;
};

std::vector<int> Streams(size_t n) {
  std::vector<int> streams(n);
  for (size_t i = 0; i < n; ++i) streams[i] = static_cast<int>(i);
  return streams;
}

class StreamAttentionShapeTest : public testing::TestWithParam<AttentionCase> {};

TEST_P(StreamAttentionShapeTest, MatchesDouble) {
  const AttentionCase& c = GetParam();
  World world(c, c.chunks, Streams(c.chunks.size()));
  ThreadPool pool(2);
  const absl::Status status = StreamAttentionCpu(world.Args(), pool);
  ASSERT_TRUE(status.ok()) << status;
  // Values are below 1 and an output is their mean, so an error d of the logits moves it by 2d at
  // most. float32: logits below 16 from sums of 64 products, d < 64 * 2^-20 * 16 / 8. bfloat16:
  // moving a query into the memory's frame and its map each round at 2^-9, as do the two up maps
  // and the weights; memory logits are below 2, so d < 3 * 2^-8, and the store adds 2^-9.
  const float tolerance = c.type == DType::kBfloat16 ? 0x1p-5f : 0x1p-13f;
  const int64_t width = int64_t{c.heads} * c.head_dim;
  for (int32_t s = 0; s < world.batch().num_segments; ++s) {
    const StreamSegment& segment = world.batch().segments[s];
    for (int32_t i = 0; i < segment.num_rows; ++i) {
      for (int32_t head = 0; head < c.heads; ++head) {
        const std::vector<double> want = world.Expected(s, i, head);
        for (int64_t d = 0; d < c.head_dim; ++d) {
          const float got = world.out()[(segment.first_row + i) * width + head * c.head_dim + d];
          ASSERT_NEAR(got, want[d], tolerance)
              << "segment " << s << " row " << i << " head " << head << " element " << d;
        }
      }
    }
  }
}

TEST_P(StreamAttentionShapeTest, DoesNotDependOnOtherStreamsOrSegments) {
  const AttentionCase& c = GetParam();
  World all(c, c.chunks, Streams(c.chunks.size()), /*select_staged=*/false);
  ThreadPool pool(2);
  ASSERT_TRUE(StreamAttentionCpu(all.Args(), pool).ok());
  const int64_t row_bytes = int64_t{c.heads} * c.head_dim * SizeOf(c.type);
  for (int32_t s = 0; s < all.batch().num_segments; ++s) {
    const StreamSegment& segment = all.batch().segments[s];
    const StreamChunk& chunk = all.batch().chunks[segment.chunk];
    const int64_t first = chunk.first_position + segment.first_row - chunk.first_row;
    const ChunkSpec alone{.first_position = first,
                          .segment_rows = {segment.num_rows},
                          .first_start = segment.begins != 0 ? -1 : segment.start,
                          .leave_begin = std::max<int64_t>(0, segment.start - c.window)};
    World one(c, {alone}, {segment.chunk}, /*select_staged=*/false);
    ASSERT_TRUE(StreamAttentionCpu(one.Args(), pool).ok());
    EXPECT_EQ(std::memcmp(one.out().bytes().data(),
                          all.out().bytes().data() + segment.first_row * row_bytes,
                          segment.num_rows * row_bytes),
              0)
        << "segment " << s;
  }
}

// Young and old streams, wrapped rings, segments that go on, close early or are one token, windows
// that are not a multiple of the segment, sinks in and out of the window.
const std::vector<ChunkSpec> kRagged = {
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

std::vector<AttentionCase> Cases() {
  std::vector<AttentionCase> cases;
  for (const DType type : {DType::kFloat32, DType::kBfloat16}) {
    cases.push_back({"gqa3", type, 37, 16, 4, 50, 20, 6, 2, 16, 8, kRagged});
    cases.push_back({"mha_odd_dims", type, 40, 16, 1, 3, 3, 3, 3, 10, 7, kRagged});
    cases.push_back({"no_memory", type, 37, 16, 4, 0, 0, 4, 1, 8, 0, kRagged});
    cases.push_back({"no_sinks", type, 37, 16, 0, 80, 70, 2, 1, 32, 32, kRagged});
    cases.push_back({"no_window",
                     type,
                     0,
                     16,
                     2,
                     9,
                     4,
                     2,
                     2,
                     8,
                     4,
                     {{.first_position = 50, .segment_rows = {16, 3}, .leave_begin = 40}}});
    cases.push_back({"shipped",
                     type,
                     448,
                     64,
                     4,
                     1024,
                     128,
                     6,
                     2,
                     64,
                     32,
                     {{.first_position = 5000, .segment_rows = {64, 64, 10}, .leave_begin = 4500},
                      {.first_position = 300, .segment_rows = {1}, .first_start = 256}}});
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Shapes, StreamAttentionShapeTest, testing::ValuesIn(Cases()));

TEST(StreamAttentionTest, ByHand) {
  // One head of two dimensions; no window, sinks or rotation to speak of. Two tokens begin a
  // segment at 0: the first sees itself alone. The second, q = (sqrt(2) ln 3, 0), sees keys (1, 0)
  // and (0, 0): logits ln 3 and 0, weights 3/4 and 1/4 of the values (4, 0) and (0, 8).
  for (const DType type : {DType::kFloat32, DType::kBfloat16}) {
    const StreamShape shape{.window_rows = 4,
                            .segment_rows = 4,
                            .sink_rows = 0,
                            .capacity = 0,
                            .max_selected = 0,
                            .memory_span = 0,
                            .ring_rows = 8};
    std::vector<std::byte> state(8 * 2 * 2 * 4);
    BatchBuilder builder(shape);
    builder.Add({.first_position = 0, .segment_rows = {2}}, state.data());
    const Elements q(type, {9, 9, std::sqrt(2.0f) * std::log(3.0f), 0});
    const Elements k(type, {1, 0, 0, 0}), v(type, {4, 0, 0, 8});
    Elements out(type, 4);
    ThreadPool pool(1);
    StreamAttentionArgs a{};
    a.batch = builder.Batch();
    a.shape = shape;
    a.element = type;
    a.num_heads = a.num_kv_heads = 1;
    a.head_dim = 2;
    a.q = q.data();
    a.k = k.data();
    a.v = v.data();
    a.ring_v_offset = 8 * 2 * SizeOf(type);
    a.out = out.data();
    ASSERT_TRUE(StreamAttentionCpu(a, pool).ok());
    EXPECT_EQ(out[0], 4);
    EXPECT_EQ(out[1], 0);
    EXPECT_NEAR(out[2], 3, 16 * Rounding(type));
    EXPECT_NEAR(out[3], 2, 16 * Rounding(type));
  }
}

TEST(StreamAttentionTest, ArgumentErrors) {
  const AttentionCase c{
      "errors", DType::kFloat32,
      37,       16,
      4,        50,
      20,       6,
      2,        16,
      8,        {{.first_position = 100, .segment_rows = {16}, .leave_begin = 60}}};
  World world(c, c.chunks, {0});
  ThreadPool pool(1);
  const auto message = [&](auto change) {
    StreamAttentionArgs args = world.Args();
    change(args);
    const absl::Status status = StreamAttentionCpu(args, pool);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  using Args = StreamAttentionArgs;
  EXPECT_EQ(message([](Args& a) { a.num_heads = 5; }), "StreamAttention: num_heads=5");
  EXPECT_EQ(message([](Args& a) { a.head_dim = 15; }), "StreamAttention: head_dim=15");
  EXPECT_EQ(message([](Args& a) { a.compressed_dim = 17; }), "StreamAttention: compressed_dim=17");
  EXPECT_EQ(message([](Args& a) { a.key_up = nullptr; }), "StreamAttention: key_up=null");
  EXPECT_EQ(message([](Args& a) { a.shape.ring_rows = 50; }), "StreamAttention: ring_rows=50");
  EXPECT_EQ(message([](Args& a) { a.selected.count[0] = 21; }),
            "StreamAttention: selected.count[0]=21");
  EXPECT_EQ(message([](Args& a) {
              a.selected.count[0] = 1;
              a.selected.row[0] = 53 + 1000;
            }),
            "StreamAttention: segment 0: selected.row[0]=1053");
}

}  // namespace
}  // namespace rasq
