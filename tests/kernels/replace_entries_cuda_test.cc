// The walk of the rotating buffer on the GPU against the CPU's, bit for bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "tests/support/gpu_twin.h"
#include "tests/support/stream_batches.h"

namespace rasq::testing {
namespace {

enum class Priorities { kDistinct, kFew, kEqual, kPinned, kRising, kFalling };

struct Case {
  const char* name;
  int32_t capacity;
  std::vector<ChunkSpec> chunks;
  std::vector<int32_t> occupied;  // slots of each chunk's table
  Priorities priorities;
  int32_t window = 100;
  int32_t segment = 64;
  int32_t sinks = 0;
  int32_t num_padding = 0;
};

StreamShape ShapeOf(const Case& test) {
  return {.window_rows = test.window,
          .segment_rows = test.segment,
          .sink_rows = test.sinks,
          .capacity = test.capacity,
          .max_selected = 1,
          .memory_span = 1,
          .ring_rows = test.window + test.segment};
}

double PriorityAt(Priorities kind, int64_t position, std::mt19937_64& random) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  switch (kind) {
    case Priorities::kDistinct:
      return std::normal_distribution<double>(0, 3)(random);
    case Priorities::kFew: {
      const double few[] = {-1, -0.0, 0.0, 2, -kInf, std::nan(""), 1e300, -1e-300};
      return few[random() % 8];
    }
    case Priorities::kEqual:
      return 1;
    case Priorities::kPinned:
      return random() % 3 == 0 ? kInf : -static_cast<double>(random() % 40);
    case Priorities::kRising:
      return 1e-3 * static_cast<double>(position);
    case Priorities::kFalling:
      return -1e-3 * static_cast<double>(position);
  }
  return 0;
}

// All that a backend leaves behind. The slots' tables are of the chunks, one after another.
struct Results {
  std::vector<std::byte> born, died, row_position, row_log_gate, row_token, slot, num_replaced;
  std::vector<std::vector<std::byte>> state;
};

Results RunOn(Ops& ops, const Case& test, bool pads) {
  std::mt19937_64 random(7);
  const StreamShape shape = ShapeOf(test);
  const int64_t capacity = test.capacity;
  Arrays arrays(ops);
  BatchBuilder builder(shape);
  std::vector<DeviceArray*> states;
  std::vector<double> priority;
  for (size_t i = 0; i < test.chunks.size(); ++i) {
    std::vector<std::byte> table(capacity * 24 + 8);
    auto* slot_position = reinterpret_cast<int64_t*>(table.data());
    auto* slot_priority = reinterpret_cast<double*>(table.data() + capacity * 8);
    auto* slot_log_gate = reinterpret_cast<float*>(table.data() + capacity * 16);
    auto* slot_token = reinterpret_cast<int32_t*>(table.data() + capacity * 20);
    std::vector<int32_t> order(capacity);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    for (int64_t s = 0; s < capacity; ++s) {
      const bool occupied = order[s] < test.occupied[i];
      slot_position[s] = occupied ? test.chunks[i].leave_begin - 1 - 3 * order[s] : -1;
      double p = PriorityAt(test.priorities, slot_position[s], random);
      if (std::isnan(p)) p = -std::numeric_limits<double>::infinity();  // as one that entered
      slot_priority[s] = p;
      slot_log_gate[s] = static_cast<float>(random() % 1000);
      slot_token[s] = static_cast<int32_t>(random() % 1000);
    }
    states.push_back(&arrays.Add(static_cast<int64_t>(table.size()), table.data()));
    builder.Add(test.chunks[i], states.back()->data<std::byte>());
    const StreamChunk& c = builder.chunks().back();
    for (int64_t p = c.leave_begin; p < c.leave_end; ++p) {
      priority.push_back(PriorityAt(test.priorities, p, random));
    }
  }
  const int64_t num_entries = builder.num_entries();
  if (pads) {
    for (int32_t i = 0; i < test.num_padding; ++i) {
      builder.Add({.first_position = 0, .segment_rows = {1}}, nullptr);
    }
  }
  StreamBatch batch = builder.Batch();
  const int64_t num_staged = batch.num_staged;
  std::vector<float> gate(num_staged);
  std::vector<int32_t> token(num_staged);
  for (int64_t i = 0; i < num_staged; ++i) {
    gate[i] = -0.25f * static_cast<float>(i);
    token[i] = static_cast<int32_t>(7 * i);
  }
  if (pads) batch.num_staged += 5;
  batch.chunks = arrays.Put(builder.chunks());
  batch.segments = arrays.Put(builder.segments());
  DeviceArray& born = arrays.Poisoned(builder.num_entries() * 4);
  DeviceArray& died = arrays.Poisoned(builder.num_entries() * 4);
  DeviceArray& row_position = arrays.Poisoned(builder.num_entries() * 8);
  DeviceArray& row_log_gate = arrays.Poisoned(builder.num_entries() * 4);
  DeviceArray& row_token = arrays.Poisoned(builder.num_entries() * 4);
  DeviceArray& slot = arrays.Poisoned(num_staged * 4);
  DeviceArray& num_replaced = arrays.Poisoned(static_cast<int64_t>(batch.num_chunks) * 4);
  const absl::Status status = ops.ReplaceEntries({.batch = batch,
                                                  .shape = shape,
                                                  .position_offset = 0,
                                                  .priority_offset = capacity * 8,
                                                  .log_gate_offset = capacity * 16,
                                                  .token_offset = capacity * 20,
                                                  .staged_priority = arrays.Put(priority),
                                                  .staged_log_gate = arrays.Put(gate),
                                                  .staged_token = arrays.Put(token),
                                                  .born = born.data<int32_t>(),
                                                  .died = died.data<int32_t>(),
                                                  .row_position = row_position.data<int64_t>(),
                                                  .row_log_gate = row_log_gate.data<float>(),
                                                  .row_token = row_token.data<int32_t>(),
                                                  .slot = slot.data<int32_t>(),
                                                  .num_replaced = num_replaced.data<int32_t>()});
  EXPECT_TRUE(status.ok()) << status;
  Results r{.born = born.ToHost(),
            .died = died.ToHost(),
            .row_position = row_position.ToHost(),
            .row_log_gate = row_log_gate.ToHost(),
            .row_token = row_token.ToHost(),
            .slot = slot.ToHost(),
            .num_replaced = num_replaced.ToHost(),
            .state = {}};
  for (const DeviceArray* state : states) r.state.push_back(state->ToHost());
  // Padding's rows stay as they were; what is left compares with a batch without padding.
  const auto cut = [](std::vector<std::byte>& bytes, int64_t size) {
    EXPECT_TRUE(std::all_of(bytes.begin() + size, bytes.end(),
                            [](std::byte b) { return b == std::byte{0xff}; }));
    bytes.resize(size);
  };
  cut(r.born, num_entries * 4);
  cut(r.died, num_entries * 4);
  cut(r.row_position, num_entries * 8);
  cut(r.row_log_gate, num_entries * 4);
  cut(r.row_token, num_entries * 4);
  cut(r.num_replaced, static_cast<int64_t>(test.chunks.size()) * 4);
  return r;
}

template <typename T>
void ExpectSame(const char* what, const std::vector<std::byte>& got,
                const std::vector<std::byte>& want) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < got.size() / sizeof(T); ++i) {
    T g, w;
    std::memcpy(&g, got.data() + i * sizeof(T), sizeof(T));
    std::memcpy(&w, want.data() + i * sizeof(T), sizeof(T));
    ASSERT_EQ(std::memcmp(&g, &w, sizeof(T)), 0) << what << "[" << i << "]: " << g << " " << w;
  }
}

void ExpectTwins(const Case& test) {
  SCOPED_TRACE(test.name);
  const Results got = RunOn(*Gpu(), test, /*pads=*/true);
  const Results want = RunOn(*Cpu(), test, /*pads=*/false);
  ExpectSame<int32_t>("num_replaced", got.num_replaced, want.num_replaced);
  ExpectSame<int32_t>("born", got.born, want.born);
  ExpectSame<int32_t>("died", got.died, want.died);
  ExpectSame<int64_t>("row_position", got.row_position, want.row_position);
  ExpectSame<float>("row_log_gate", got.row_log_gate, want.row_log_gate);
  ExpectSame<int32_t>("row_token", got.row_token, want.row_token);
  ExpectSame<int32_t>("slot", got.slot, want.slot);
  for (size_t i = 0; i < got.state.size(); ++i) {
    ExpectSame<int32_t>("state", got.state[i], want.state[i]);
  }
}

// A chunk of `num_segments` whole segments of 64 at `position`, with a window of 100: all of their
// tokens but the last segment's and the window leave, and 64 from before.
ChunkSpec Segments(int64_t position, int num_segments) {
  return {.first_position = position,
          .segment_rows = std::vector<int32_t>(num_segments, 64),
          .leave_begin = position - 100 - 64};
}

constexpr int64_t kFar = 3'000'000'000;  // beyond 32 bits

class ReplaceEntriesCudaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    RASQ_NEEDS_GPU();
    if (Cpu() == nullptr) GTEST_SKIP() << "no CPU backend in bfloat16";
  }
};

TEST_F(ReplaceEntriesCudaTest, OneSegmentOfEachStream) {
  for (const int32_t capacity : {0, 1, 33, 1024, 1057}) {
    for (const auto kind :
         {Priorities::kDistinct, Priorities::kFew, Priorities::kEqual, Priorities::kPinned}) {
      const int32_t half = capacity / 2;
      ExpectTwins({.name = "full, half full, empty, open",
                   .capacity = capacity,
                   .chunks = {Segments(kFar, 1),
                              Segments(9000, 1),
                              Segments(164, 1),
                              {.first_position = 500, .segment_rows = {3}, .first_start = 490}},
                   .occupied = {capacity, half, 0, half},
                   .priorities = kind,
                   .sinks = 7,
                   .num_padding = 2});
    }
  }
}

TEST_F(ReplaceEntriesCudaTest, ManySegments) {
  // 8256 entrants: several tiles. Rising priorities replace with every entrant, falling ones with
  // none. The last capacity is beyond shared memory and has two supergroups a lane.
  for (const int32_t capacity : {1, 33, 1024, 4096, 16384, 20000, 40000}) {
    for (const auto kind : {Priorities::kDistinct, Priorities::kFew, Priorities::kPinned,
                            Priorities::kRising, Priorities::kFalling}) {
      SCOPED_TRACE(capacity);
      ExpectTwins({.name = "append",
                   .capacity = capacity,
                   .chunks = {Segments(kFar, 129), Segments(150'000, 3)},
                   .occupied = {capacity, std::max(0, capacity - 100)},
                   .priorities = kind});
    }
  }
}

TEST_F(ReplaceEntriesCudaTest, SegmentsOfOddLengths) {
  // The first chunk goes on with an open segment; windows and sinks that nothing has left yet.
  ExpectTwins({.name = "odd",
               .capacity = 50,
               .chunks = {{.first_position = 1000,
                           .segment_rows = {3, 9, 1, 5, 9},
                           .first_start = 994,
                           .leave_begin = 960},
                          {.first_position = 0, .segment_rows = {9, 9, 9, 9, 9, 9, 4}},
                          {.first_position = 3, .segment_rows = {1, 2}},
                          {.first_position = 77, .segment_rows = {9}, .leave_begin = 41}},
               .occupied = {49, 0, 0, 10},
               .priorities = Priorities::kFew,
               .window = 33,
               .segment = 9,
               .sinks = 5,
               .num_padding = 3});
}

TEST_F(ReplaceEntriesCudaTest, CapacitiesBeyondTheTreeAreRefused) {
  Case test{.name = "", .capacity = 65537, .chunks = {}, .occupied = {}, .priorities = {}};
  ReplaceEntriesArgs args{};
  args.shape = ShapeOf(test);
  EXPECT_EQ(Gpu()->ReplaceEntries(args).message(), "ReplaceEntries: capacity=65537");
}

}  // namespace
}  // namespace rasq::testing
