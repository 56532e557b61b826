#include <gtest/gtest.h>

#include <climits>
#include <cmath>
#include <cstring>
#include <limits>
#include <ostream>
#include <vector>

#include "kernels/retrieval_scores.h"
#include "tests/support/entry_format.h"
#include "tests/support/gpu_twin.h"
#include "tests/support/stream_batches.h"
#include "tests/support/tensors.h"

namespace rasq {
namespace {

using testing::Arrays;
using testing::DeviceArray;
using testing::Gpu;

constexpr DType kType = DType::kBfloat16;

struct ScoresCase {
  const char* name;
  int32_t segment, capacity, dim;
  EntryType entry_type = EntryType::kElement;
};
void PrintTo(const ScoresCase& c, std::ostream* out) {
  *out << c.name << " " << Name(c.entry_type, kType);
}

class RetrievalScoresCudaTest : public ::testing::TestWithParam<ScoresCase> {};

// Queries from the ring and the batch, young streams with few or none, a segment that goes on.
const std::vector<ChunkSpec> kChunks = {
    {.first_position = 205, .segment_rows = {3, 5, 16, 7}, .first_start = 200, .leave_begin = 165},
    {.first_position = 0, .segment_rows = {16, 2}},
    {.first_position = 7, .segment_rows = {1}},
    {.first_position = 1000003, .segment_rows = {16, 16}, .leave_begin = 999950}};

TEST_P(RetrievalScoresCudaTest, MatchesDouble) {
  RASQ_NEEDS_GPU();
  const ScoresCase& c = GetParam();
  const StreamShape shape{.window_rows = 40,
                          .segment_rows = c.segment,
                          .sink_rows = 0,
                          .capacity = c.capacity,
                          .max_selected = 1,
                          .memory_span = 1,
                          .ring_rows = 40 + c.segment};
  BatchBuilder builder(shape);
  const int64_t dim = c.dim, query_bytes = dim * 2;
  const EntryFormat format{c.entry_type, kType, 1, dim};
  std::vector<std::vector<std::byte>> states;
  for (size_t i = 0; i < kChunks.size(); ++i) {
    const Elements ring(kType, RandomFloats(c.segment * dim, 10 + i, 0.3f));
    const auto slots = format.Rows(RandomFloats(c.capacity * dim, 20 + i, 0.3f));
    states.push_back(ring.bytes());
    states.back().insert(states.back().end(), slots.begin(), slots.end());
  }
  for (size_t i = 0; i < kChunks.size(); ++i) builder.Add(kChunks[i], states[i].data());
  const StreamBatch batch = builder.Batch();
  const Elements query(kType, RandomFloats(batch.num_rows * dim, 3, 0.3f));
  const auto staged = format.Rows(RandomFloats(batch.num_staged * dim, 4, 0.3f));
  const int32_t n = builder.num_entries();
  std::vector<int32_t> born(n), died(n, INT32_MAX);
  for (int32_t i = 0; i < n; ++i) {
    if (i % 7 == 3) born[i] = 2;
    if (i % 5 == 1) died[i] = 3;
  }
  const std::vector<float> gate = RandomFloats(n, 5);
  const int64_t stride = n + 3;

  Arrays arrays(*Gpu());
  std::vector<StreamChunk> chunks = builder.chunks();
  for (size_t i = 0; i < chunks.size(); ++i) chunks[i].state = arrays.Put(states[i]);
  StreamBatch on_gpu = batch;
  on_gpu.chunks = arrays.Put(chunks);
  on_gpu.segments = arrays.Put(builder.segments());
  on_gpu.num_staged += 9;  // an upper bound
  const int64_t out_bytes = batch.num_segments * stride * 4;
  DeviceArray &score = arrays.Poisoned(out_bytes), &key = arrays.Poisoned(out_bytes);
  const absl::Status status = Gpu()->RetrievalScores({.batch = on_gpu,
                                                      .shape = shape,
                                                      .index_dim = c.dim,
                                                      .element = kType,
                                                      .entry_type = c.entry_type,
                                                      .temperature = 2.5f,
                                                      .query_ring_offset = 0,
                                                      .query = arrays.Put(query),
                                                      .entry_index_offset = c.segment * query_bytes,
                                                      .staged_index = arrays.Put(staged),
                                                      .born = arrays.Put(born),
                                                      .died = arrays.Put(died),
                                                      .row_log_gate = arrays.Put(gate),
                                                      .score = score.data<float>(),
                                                      .key = key.data<float>(),
                                                      .stride = stride});
  ASSERT_TRUE(status.ok()) << status;
  const std::vector<float> scores = score.ToHostAs<float>(), keys = key.ToHostAs<float>();

  for (int32_t s = 0; s < batch.num_segments; ++s) {
    const StreamSegment& segment = batch.segments[s];
    const StreamChunk& chunk = batch.chunks[segment.chunk];
    const int64_t num_entries = c.capacity + chunk.leave_end - chunk.leave_begin;
    const int64_t num_queries = std::min<int64_t>(segment.start, c.segment);
    for (int64_t i = 0; i < stride; ++i) {
      const float got_score = scores[s * stride + i], got_key = keys[s * stride + i];
      if (segment.begins == 0 || i >= num_entries) {  // left alone: still poison
        ASSERT_TRUE(std::isnan(got_score) && std::isnan(got_key)) << s << " " << i;
        continue;
      }
      const int64_t row = chunk.first_entry + i;
      const int32_t j = s - chunk.first_segment;
      if (num_queries == 0 || born[row] > j || died[row] <= j) {
        ASSERT_EQ(got_score, 0) << s << " " << i;
        ASSERT_EQ(got_key, -std::numeric_limits<float>::infinity()) << s << " " << i;
        continue;
      }
      double best = -1e30, size = 0;
      for (int64_t p = segment.start - num_queries; p < segment.start; ++p) {
        double sum = 0, sizes = 0;
        for (int64_t d = 0; d < dim; ++d) {
          const double q = p < chunk.first_position
                               ? Elements::Load(kType, chunk.state, p % c.segment * dim + d)
                               : query[(chunk.first_row + p - chunk.first_position) * dim + d];
          const bool is_slot = i < c.capacity;
          const std::byte* rows = is_slot ? chunk.state + c.segment * query_bytes : staged.data();
          const int64_t at = is_slot ? i : chunk.first_staged + i - c.capacity;
          const double e = c.entry_type == EntryType::kInt8
                               ? double{format.Scale(rows, at, 0)} * format.Quantum(rows, at, 0, d)
                               : format.Load(rows, at, 0, d);
          sum += q * e;
          sizes += std::abs(q * e);
        }
        best = std::max(best, sum);
        size = std::max(size, sizes);
      }
      // Products are exact in float32; a sum of dim of them rounds at most dim times.
      const double tolerance = 2.5 * size * static_cast<double>(dim) * 0x1p-23 + 1e-6;
      ASSERT_NEAR(got_score, 2.5 * best, tolerance) << s << " " << i;
      ASSERT_NEAR(got_key, 2.5 * best + gate[row], tolerance) << s << " " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, RetrievalScoresCudaTest,
    ::testing::Values(ScoresCase{"one_entry", 16, 1, 24}, ScoresCase{"narrow", 16, 70, 8},
                      ScoresCase{"two_blocks", 16, 600, 64}, ScoresCase{"wide", 16, 1100, 128},
                      ScoresCase{"widest", 16, 90, 200}, ScoresCase{"many_queries", 80, 300, 72},
                      ScoresCase{"one_entry", 16, 1, 24, EntryType::kInt8},
                      ScoresCase{"narrow", 16, 70, 8, EntryType::kInt8},
                      ScoresCase{"two_blocks", 16, 600, 64, EntryType::kInt8},
                      ScoresCase{"wide", 16, 1100, 128, EntryType::kInt8},
                      ScoresCase{"widest", 16, 90, 200, EntryType::kInt8},
                      ScoresCase{"many_queries", 80, 300, 72, EntryType::kInt8}));

}  // namespace
}  // namespace rasq
