// The selection on the GPU against the CPU's: the same entries in the same order.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "tests/support/gpu_twin.h"
#include "tests/support/stream_batches.h"

namespace rasq::testing {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

enum class Keys { kDistinct, kFew, kEqual, kMostlyDead, kDead, kOdd };

struct Case {
  int32_t capacity;
  int32_t max_selected;
  Keys keys;
  std::vector<ReadPolicy> policies;  // taken in turns by the chunks
  int64_t spare = 0;                 // elements of a row beyond its entries
  std::vector<float> factors = {};   // of segments in turn; empty: none
};

float KeyAt(Keys kind, std::mt19937_64& random) {
  const auto uniform = static_cast<float>(random() % (1 << 20)) * 0x1p-20f;
  switch (kind) {
    case Keys::kDistinct:
      return std::normal_distribution<float>(-1, 4)(random);
    case Keys::kFew: {
      const float few[] = {-1, -0.0f, 0.0f, 1.5f, 1.5000001f, -kInf};
      return few[random() % 6];
    }
    case Keys::kEqual:
      return -3.5f;
    case Keys::kMostlyDead:
      return random() % 64 == 0 ? uniform : -kInf;
    case Keys::kDead:
      return -kInf;
    case Keys::kOdd: {
      const float odd[] = {std::nanf(""), -std::nanf(""), kInf, -kInf, 1e-42f, -1e-42f, uniform};
      return odd[random() % 7];
    }
  }
  return 0;
}

struct Results {
  std::vector<int32_t> count, row;
  std::vector<float> score, log_gate;
  std::vector<int64_t> position;
  std::vector<int32_t> budget;
  std::vector<std::vector<std::byte>> state;
};

Results RunOn(Ops& ops, const Case& test, bool pads) {
  std::mt19937_64 random(11);
  const StreamShape shape{.window_rows = 40,
                          .segment_rows = 16,
                          .sink_rows = 0,
                          .capacity = test.capacity,
                          .max_selected = test.max_selected,
                          .memory_span = test.max_selected,
                          .ring_rows = 56};
  const std::vector<ChunkSpec> specs = {
      {.first_position = 4'000'000'000, .segment_rows = {16}, .leave_begin = 3'999'999'944},
      // Goes on with an open segment, then two that begin.
      {.first_position = 100'005,
       .segment_rows = {3, 16, 9},
       .first_start = 99'997,
       .leave_begin = 99'957},
      {.first_position = 200'005, .segment_rows = {1}, .first_start = 200'000},
      {.first_position = 300'000, .segment_rows = {16, 16, 16, 16, 16, 2}, .leave_begin = 299'944},
  };
  const int64_t width = test.max_selected;
  // In the state: count, row, score, log_gate, position.
  const SelectionOffsets at{.count = 0,
                            .row = 8,
                            .score = 8 + 4 * width,
                            .log_gate = 8 + 8 * width,
                            .position = 8 + 16 * width};
  Arrays arrays(ops);
  BatchBuilder builder(shape);
  std::vector<DeviceArray*> states;
  std::vector<ReadPolicy> policy;
  std::vector<int64_t> row_position;
  int64_t stride = 0;
  for (size_t i = 0; i < specs.size(); ++i) {
    std::vector<std::byte> state(8 + 24 * width);
    for (std::byte& b : state) b = static_cast<std::byte>(random() % 128);
    const auto count = static_cast<int32_t>(random() % (width + 1));
    std::memcpy(state.data(), &count, 4);
    states.push_back(&arrays.Add(static_cast<int64_t>(state.size()), state.data()));
    builder.Add(specs[i], states.back()->data<std::byte>());
    const StreamChunk& c = builder.chunks().back();
    policy.push_back(test.policies[i % test.policies.size()]);
    std::vector<int64_t> slots(test.capacity);
    std::iota(slots.begin(), slots.end(), c.leave_begin - test.capacity);
    std::shuffle(slots.begin(), slots.end(), random);
    row_position.insert(row_position.end(), slots.begin(), slots.end());
    for (int64_t p = c.leave_begin; p < c.leave_end; ++p) row_position.push_back(p);
    stride = std::max(stride, test.capacity + c.leave_end - c.leave_begin);
  }
  stride += test.spare;
  const int64_t num_segments = builder.Batch().num_segments;
  if (pads) {
    for (int i = 0; i < 2; ++i) {
      builder.Add({.first_position = 0, .segment_rows = {1}}, nullptr);
      policy.push_back({.budget = 1, .gain = 0, .floor = 0});
    }
  }
  StreamBatch batch = builder.Batch();
  std::vector<float> key, score, gate;
  for (int64_t i = 0; i < num_segments; ++i) {
    const StreamChunk& c = builder.chunks()[builder.segments()[i].chunk];
    const int64_t n = test.capacity + c.leave_end - c.leave_begin;
    for (int64_t j = 0; j < stride; ++j) {
      key.push_back(j < n ? KeyAt(test.keys, random) : 1e9f);
      score.push_back(static_cast<float>(random() % 1000));
    }
  }
  // Padding's rows, which are not read.
  key.resize(batch.num_segments * stride, 1);
  score.resize(key.size());
  for (size_t i = 0; i < row_position.size(); ++i) gate.push_back(-0.5f * static_cast<float>(i));
  std::vector<int32_t> slot(batch.num_staged);
  for (int32_t& s : slot) s = static_cast<int32_t>(random() % 1000);
  batch.chunks = arrays.Put(builder.chunks());
  batch.segments = arrays.Put(builder.segments());
  if (pads) batch.num_staged += 3;
  const int64_t n = batch.num_segments * width;
  DeviceArray& out_count = arrays.Poisoned(int64_t{batch.num_segments} * 4);
  DeviceArray& out_row = arrays.Poisoned(n * 4);
  DeviceArray& out_score = arrays.Poisoned(n * 4);
  DeviceArray& out_gate = arrays.Poisoned(n * 4);
  DeviceArray& out_position = arrays.Poisoned(n * 8);
  DeviceArray& out_budget = arrays.Poisoned(int64_t{batch.num_segments} * 4);
  std::vector<float> factor(test.factors.empty() ? 0 : batch.num_segments);
  for (size_t i = 0; i < factor.size(); ++i) factor[i] = test.factors[i % test.factors.size()];
  const absl::Status status =
      ops.SelectEntries({.batch = batch,
                         .shape = shape,
                         .score = arrays.Put(score),
                         .key = arrays.Put(key),
                         .stride = stride,
                         .row_position = arrays.Put(row_position),
                         .row_log_gate = arrays.Put(gate),
                         .slot = arrays.Put(slot),
                         .policy = arrays.Put(policy),
                         .factor = factor.empty() ? nullptr : arrays.Put(factor),
                         .budget = out_budget.data<int32_t>(),
                         .state = at,
                         .selected = {.count = out_count.data<int32_t>(),
                                      .row = out_row.data<int32_t>(),
                                      .score = out_score.data<float>(),
                                      .log_gate = out_gate.data<float>(),
                                      .position = out_position.data<int64_t>()}});
  EXPECT_TRUE(status.ok()) << status;
  Results r{.count = out_count.ToHostAs<int32_t>(),
            .row = out_row.ToHostAs<int32_t>(),
            .score = out_score.ToHostAs<float>(),
            .log_gate = out_gate.ToHostAs<float>(),
            .position = out_position.ToHostAs<int64_t>(),
            .budget = out_budget.ToHostAs<int32_t>(),
            .state = {}};
  for (const DeviceArray* state : states) r.state.push_back(state->ToHost());
  for (size_t i = num_segments; i < r.count.size(); ++i) EXPECT_EQ(r.count[i], -1) << "padding";
  for (size_t i = num_segments * width; i < r.row.size(); ++i) EXPECT_EQ(r.row[i], -1) << "padding";
  r.count.resize(num_segments);
  r.budget.resize(num_segments);
  return r;
}

void ExpectTwins(const Case& test) {
  SCOPED_TRACE(::testing::Message()
               << "capacity " << test.capacity << " max_selected " << test.max_selected << " keys "
               << static_cast<int>(test.keys));
  const Results got = RunOn(*Gpu(), test, /*pads=*/true);
  const Results want = RunOn(*Cpu(), test, /*pads=*/false);
  ASSERT_EQ(got.count, want.count);
  ASSERT_EQ(got.budget, want.budget);
  for (size_t s = 0; s < want.count.size(); ++s) {
    const int64_t first = static_cast<int64_t>(s) * test.max_selected;
    for (int64_t i = first; i < first + want.count[s]; ++i) {
      ASSERT_EQ(got.row[i], want.row[i]) << "segment " << s << " place " << i - first;
      ASSERT_EQ(got.position[i], want.position[i]);
      // Copied: the same bits, also where these are no numbers.
      ASSERT_EQ(std::memcmp(&got.score[i], &want.score[i], 4), 0);
      ASSERT_EQ(std::memcmp(&got.log_gate[i], &want.log_gate[i], 4), 0);
    }
    for (int64_t i = first + want.count[s]; i < first + test.max_selected; ++i) {
      ASSERT_EQ(got.row[i], -1) << "written behind the selection";
    }
  }
  ASSERT_EQ(got.state, want.state);
}

class SelectEntriesCudaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    RASQ_NEEDS_GPU();
    if (Cpu() == nullptr) GTEST_SKIP() << "no CPU backend in bfloat16";
  }
};

TEST_F(SelectEntriesCudaTest, FixedBudgets) {
  for (const int32_t capacity : {1, 33, 1024, 20000}) {
    for (const int32_t max_selected : {1, 31, 100, 1500}) {
      for (const auto keys : {Keys::kDistinct, Keys::kFew, Keys::kEqual, Keys::kMostlyDead,
                              Keys::kDead, Keys::kOdd}) {
        ExpectTwins({.capacity = capacity,
                     .max_selected = max_selected,
                     .keys = keys,
                     .policies = {{.budget = 64, .gain = 0, .floor = -kInf},
                                  {.budget = 1, .gain = 0, .floor = -kInf},
                                  {.budget = 3000, .gain = 0, .floor = 0.0f}},
                     .spare = capacity % 2 == 0 ? 0 : 5});
      }
    }
  }
}

TEST_F(SelectEntriesCudaTest, BudgetsThatGrow) {
  // The entropies differ in their last bits, which rounding to whole entries hides.
  for (const int32_t capacity : {2, 33, 1024, 20000}) {
    for (const auto keys :
         {Keys::kDistinct, Keys::kFew, Keys::kEqual, Keys::kMostlyDead, Keys::kDead}) {
      ExpectTwins({.capacity = capacity,
                   .max_selected = 700,
                   .keys = keys,
                   .policies = {{.budget = 100, .gain = 1.7f, .floor = -kInf},
                                {.budget = 17, .gain = 1e30f, .floor = -kInf},
                                {.budget = 5, .gain = 0.3f, .floor = -2.5f}}});
    }
  }
}

TEST_F(SelectEntriesCudaTest, TheNewest) {
  for (const int32_t capacity : {1, 33, 1024, 20000}) {
    for (const auto keys : {Keys::kDistinct, Keys::kMostlyDead, Keys::kDead, Keys::kOdd}) {
      ExpectTwins({.capacity = capacity,
                   .max_selected = 700,
                   .keys = keys,
                   .policies = {{.budget = 100, .gain = 0, .floor = -kInf, .newest = true},
                                {.budget = 9000, .gain = 2, .floor = 0, .newest = true},
                                {.budget = 64, .gain = 0, .floor = -kInf}},
                   .factors = {0.25f, 2}});
    }
  }
}

TEST_F(SelectEntriesCudaTest, BudgetsThatAHeadScales) {
  for (const int32_t capacity : {33, 1024}) {
    ExpectTwins({.capacity = capacity,
                 .max_selected = 150,
                 .keys = Keys::kDistinct,
                 .policies = {{.budget = 100, .gain = 0, .floor = -kInf},
                              {.budget = 17, .gain = 0.5f, .floor = -kInf}},
                 .factors = {0.25f, 0.001f, 2, 1e30f}});
  }
}

TEST_F(SelectEntriesCudaTest, TheLargestSelection) {
  ExpectTwins({.capacity = 18000,
               .max_selected = 16384,
               .keys = Keys::kDistinct,
               .policies = {{.budget = 16384, .gain = 0, .floor = -kInf},
                            {.budget = 12345, .gain = 0, .floor = -kInf}}});
}

TEST_F(SelectEntriesCudaTest, SelectionsBeyondSharedMemoryAreRefused) {
  SelectEntriesArgs args{};
  args.shape = {.segment_rows = 1, .max_selected = 16385, .ring_rows = 1};
  EXPECT_EQ(Gpu()->SelectEntries(args).message(), "SelectEntries: max_selected=16385");
}

}  // namespace
}  // namespace rasq::testing
