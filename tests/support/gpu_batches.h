// Batches of streams on the GPU, for tests of a CUDA operation against its CPU twin: the CPU takes
// the builder's own, the GPU a copy of it with states in device memory, padding behind the chunks,
// and more staging rows than are used.
#pragma once

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/support/gpu_twin.h"
#include "tests/support/stream_batches.h"

namespace rasq::testing {

using States = std::vector<std::vector<std::byte>>;  // of the chunks, in their order

// State bytes that look like nothing in particular.
inline States RandomStates(int64_t num_chunks, int64_t bytes) {
  States states;
  for (int64_t i = 0; i < num_chunks; ++i) {
    std::mt19937_64 random(1000 + i);
    states.emplace_back(bytes);
    for (std::byte& b : states.back()) b = static_cast<std::byte>(random());
  }
  return states;
}

struct GpuBatch {
  static constexpr int32_t kPadding = 3;  // chunks, each of one row
  static constexpr int32_t kUnusedStaged = 5;

  // The states lie `misaligned` bytes behind an aligned address.
  GpuBatch(Arrays& arrays, const BatchBuilder& builder, const States& contents,
           int misaligned = 0) {
    batch = builder.Batch();
    std::vector<StreamChunk> chunks(batch.chunks, batch.chunks + batch.num_chunks);
    std::vector<StreamSegment> segments(batch.segments, batch.segments + batch.num_segments);
    for (size_t i = 0; i < chunks.size(); ++i) {
      std::vector<std::byte> shifted(misaligned);
      shifted.insert(shifted.end(), contents[i].begin(), contents[i].end());
      states.push_back(&arrays.Add(shifted.size(), shifted.data()));
      chunks[i].state = states.back()->data<std::byte>() + misaligned;
    }
    for (int32_t i = 0; i < kPadding; ++i) {
      segments.push_back({.chunk = static_cast<int32_t>(chunks.size()),
                          .first_row = batch.num_rows + i,
                          .num_rows = 1,
                          .begins = 1,
                          .start = 0});
      chunks.push_back({.state = nullptr,
                        .first_position = 0,
                        .first_row = batch.num_rows + i,
                        .num_rows = 1,
                        .first_segment = static_cast<int32_t>(segments.size()) - 1,
                        .num_segments = 1,
                        .leave_begin = 0,
                        .leave_end = 0,
                        .first_staged = batch.num_staged,
                        .first_entry = builder.num_entries()});
    }
    batch.num_chunks += kPadding;
    batch.num_segments += kPadding;
    batch.num_rows += kPadding;
    batch.num_staged += kUnusedStaged;
    batch.chunks = arrays.Put(chunks);
    batch.segments = arrays.Put(segments);
  }

  StreamBatch batch;
  std::vector<const DeviceArray*> states;
};

// All-ones bits: what Arrays::Poisoned holds.
inline float Poison() { return std::bit_cast<float>(~uint32_t{0}); }

// got[i] is want[i] within |want[i]| * relative + absolute; where `want` is NaN or infinite, `got`
// is too. What `got` has beyond `want` was left alone: it is NaN still.
template <typename T, typename U>
void ExpectNear(const std::vector<T>& got, const std::vector<U>& want, double relative,
                double absolute) {
  ASSERT_GE(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    const double g = ToFloat(got[i]);
    const double w = i < want.size() ? ToFloat(want[i]) : std::numeric_limits<double>::quiet_NaN();
    if (std::isnan(w)) {
      ASSERT_TRUE(std::isnan(g)) << i << ": " << g;
    } else if (std::isinf(w)) {
      ASSERT_EQ(g, w) << i;
    } else {
      ASSERT_NEAR(g, w, std::abs(w) * relative + absolute) << i;
    }
  }
}

// Both sides round once, from nearly the same number: one ulp of bfloat16 at most, and what is lost
// before where terms cancel.
inline void ExpectBfloat16Near(const DeviceArray& got, const Elements& want, double absolute = 0) {
  ExpectNear(got.ToHostAs<bfloat16>(), want.ToFloats(), 0x1p-7, absolute);
}

}  // namespace rasq::testing
