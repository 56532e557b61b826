#include "kernels/razor_entries.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/stream_attention.h"
#include "tests/support/head_store_world.h"

namespace rasq {
namespace {

using testing::HeadStoreWorld;

constexpr int32_t kHeads = 3, kDim = 6, kWindow = 8, kSegment = 4;

struct Case {
  DType element;
  RazorPolicy policy;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << Name(c.element) << "_sinks" << c.policy.sink_rows << "_local" << c.policy.local_tokens
       << "_compression" << c.policy.compression << "_retrieval" << c.policy.retrieval_rows;
}

StreamShape ShapeOf(const RazorPolicy& policy) {
  return {.window_rows = kWindow,
          .segment_rows = kSegment,
          .sink_rows = 0,
          .capacity = static_cast<int32_t>(NumRazorRows(policy, kHeads)),
          .max_selected = policy.sink_rows + std::max(policy.retrieval_rows, policy.local_rows + 1),
          .memory_span = 0,
          .ring_rows = kWindow + kSegment};
}

RazorEntriesArgs ArgsOf(HeadStoreWorld& world, const StreamBatch& batch,
                        const RazorPolicy& policy) {
  return {.store = world.Store(batch),
          .policy = policy,
          .mean_k_offset = world.own,
          .mean_v_offset = world.own + kHeads * kDim * int64_t{sizeof(double)},
          .lists = world.Lists()};
}

HeadStoreWorld MakeWorld(const RazorPolicy& policy, DType element) {
  return HeadStoreWorld(ShapeOf(policy), element, kHeads, kDim,
                        2 * kHeads * kDim * int64_t{sizeof(double)});
}

class RazorEntriesTest : public ::testing::TestWithParam<Case> {
 protected:
  // What a head must read, from the definition alone: whole lists of positions.
  void ExpectLists(const HeadStoreWorld& world, int64_t start) const {
    const RazorPolicy& policy = GetParam().policy;
    for (int32_t h = 0; h < kHeads; ++h) {
      SCOPED_TRACE(::testing::Message() << "head " << h << " at " << start);
      const bool retrieves = (policy.retrieval_heads >> h & 1) != 0;
      int64_t newest = kWindow + policy.retrieval_rows;
      if (!retrieves) {
        newest = policy.local_tokens;
        if (policy.compression > 0) newest = std::max(newest, start / policy.compression);
        newest = std::max<int64_t>(newest, kWindow);
      }
      std::vector<int64_t> kept, folded;
      for (int64_t p = 0; p < start - kWindow; ++p) {
        if (p < policy.sink_rows || p >= start - newest) {
          kept.push_back(p);
        } else if (!retrieves) {
          folded.push_back(p);
        }
      }
      ASSERT_EQ(world.count[h], static_cast<int32_t>(kept.size() + (folded.empty() ? 0 : 1)));
      for (size_t i = 0; i < kept.size(); ++i) {
        EXPECT_EQ(world.BiasOf(h, i), 0);
        for (const bool key : {true, false}) {
          for (int32_t d = 0; d < kDim; ++d) {
            ASSERT_EQ(world.Stored(key, world.RowOf(h, i), d), world.At(key, kept[i], h, d))
                << "position " << kept[i];
          }
        }
      }
      if (folded.empty()) continue;
      const int64_t last = static_cast<int64_t>(kept.size());
      EXPECT_NEAR(world.BiasOf(h, last), std::log(static_cast<double>(folded.size())), 1e-6);
      for (const bool key : {true, false}) {
        for (int32_t d = 0; d < kDim; ++d) {
          double mean = 0;
          for (const int64_t p : folded) mean += world.At(key, p, h, d);
          mean /= static_cast<double>(folded.size());
          EXPECT_NEAR(world.Stored(key, world.RowOf(h, last), d), mean,
                      std::abs(mean) * Rounding(GetParam().element) + 1e-12);
        }
      }
    }
  }
};

// Segments of changing lengths, some of them in two parts: the second part changes nothing.
TEST_P(RazorEntriesTest, KeepsAndFoldsByItsDefinition) {
  HeadStoreWorld world = MakeWorld(GetParam().policy, GetParam().element);
  ThreadPool pool(2);
  const std::vector<int32_t> lengths = {4, 4, 1, 3, 4, 2, 4, 4, 4, 1, 1, 4, 4, 3, 4, 4, 4, 4, 4};
  for (size_t i = 0; i < lengths.size(); ++i) {
    const int64_t start = world.position;
    const int32_t first = i % 3 == 2 && lengths[i] > 1 ? 1 : lengths[i];
    for (int32_t done = 0; done < lengths[i];) {
      const int32_t rows = done == 0 ? first : lengths[i] - done;
      const BatchBuilder builder = world.Segment(rows, done == 0 ? -1 : start);
      const absl::Status status =
          RazorEntriesCpu(ArgsOf(world, builder.Batch(), GetParam().policy), pool);
      ASSERT_TRUE(status.ok()) << status;
      ExpectLists(world, start);
      world.Write(rows);
      done += rows;
    }
  }
}

// The first as published, where nothing is folded, where all but the window is, growing with the
// stream, and first in, first out.
const RazorPolicy kPolicies[] = {{.sink_rows = 2,
                                  .retrieval_rows = 64,
                                  .local_rows = 64,
                                  .local_tokens = 100,
                                  .compression = 5,
                                  .retrieval_heads = 0b010},
                                 {.sink_rows = 0,
                                  .retrieval_rows = 64,
                                  .local_rows = 0,
                                  .local_tokens = 0,
                                  .compression = 0,
                                  .retrieval_heads = 0b001},
                                 {.sink_rows = 3,
                                  .retrieval_rows = 64,
                                  .local_rows = 30,
                                  .local_tokens = 11,
                                  .compression = 2,
                                  .retrieval_heads = 0b100},
                                 {.sink_rows = 2,
                                  .retrieval_rows = 7,
                                  .local_rows = 3,
                                  .local_tokens = 11,
                                  .compression = 0,
                                  .retrieval_heads = 0b101}};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const RazorPolicy& policy : kPolicies) {
    cases.push_back({DType::kFloat32, policy});
    cases.push_back({DType::kBfloat16, policy});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, RazorEntriesTest, ::testing::ValuesIn(Cases()),
                         ::testing::PrintToStringParamName());

// A mean with bias log(n) weighs as much as n copies of it.
TEST(RazorCompensationTest, CountsAsOftenAsItStandsForTokens) {
  const RazorPolicy policy{.sink_rows = 0,
                           .retrieval_rows = 0,
                           .local_rows = 0,
                           .local_tokens = 0,
                           .compression = 0,
                           .retrieval_heads = 0};
  HeadStoreWorld world = MakeWorld(policy, DType::kFloat32);
  ThreadPool pool(1);
  while (world.position < 28) {
    const BatchBuilder builder = world.Segment(kSegment);
    ASSERT_TRUE(RazorEntriesCpu(ArgsOf(world, builder.Batch(), policy), pool).ok());
    world.Write(kSegment);
  }
  const BatchBuilder builder = world.Segment(/*rows=*/1);  // 20 tokens have left
  ASSERT_TRUE(RazorEntriesCpu(ArgsOf(world, builder.Batch(), policy), pool).ok());
  const auto q = RandomFloats(kHeads * kDim, 1, 3), k = RandomFloats(kHeads * kDim, 2),
             v = RandomFloats(kHeads * kDim, 3);
  const auto attend = [&](const StreamShape& shape, HeadLists lists) {
    std::vector<float> out(kHeads * kDim);
    StreamAttentionArgs args{.batch = builder.Batch(),
                             .shape = shape,
                             .element = DType::kFloat32,
                             .num_heads = kHeads,
                             .num_kv_heads = kHeads,
                             .head_dim = kDim,
                             .q = q.data(),
                             .k = k.data(),
                             .v = v.data(),
                             .ring_k_offset = 0,
                             .ring_v_offset = world.ring_v,
                             .reads_memory = true,
                             .entry_type = EntryType::kElement,
                             .compressed_dim = kDim,
                             .selected = {.count = lists.count,
                                          .row = lists.row,
                                          .score = nullptr,
                                          .log_gate = lists.bias,
                                          .position = nullptr},
                             .entry_k_offset = world.store_k,
                             .entry_v_offset = world.store_v,
                             .out = out.data()};
    args.entries_per_head = true;
    args.staged_k = args.staged_v = world.state.data();  // of which no list names a row
    const absl::Status status = StreamAttentionCpu(args, pool);
    EXPECT_TRUE(status.ok()) << status;
    return out;
  };
  const std::vector<float> got = attend(world.shape, world.Lists());
  StreamShape copies = world.shape;
  copies.max_selected = 20;
  std::vector<int32_t> count(kHeads, 20), row;
  for (int32_t h = 0; h < kHeads; ++h) row.insert(row.end(), 20, world.RowOf(h, 0));
  std::vector<float> bias(row.size());
  const std::vector<float> want = attend(copies, {count.data(), row.data(), bias.data()});
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-5) << i;
}

TEST(RazorEntriesBoundsTest, AreNamed) {
  const RazorPolicy policy = kPolicies[3];
  HeadStoreWorld world = MakeWorld(policy, DType::kFloat32);
  const BatchBuilder builder = world.Segment(/*rows=*/1);
  const auto message = [&](const std::function<void(RazorEntriesArgs&)>& change) {
    RazorEntriesArgs args = ArgsOf(world, builder.Batch(), policy);
    change(args);
    return std::string(ValidateRazorEntries(args).message());
  };
  EXPECT_EQ(message([](RazorEntriesArgs&) {}), "");
  EXPECT_EQ(message([](RazorEntriesArgs& a) { a.policy.local_rows = 4; }),
            "RazorEntries: capacity=" + std::to_string(world.shape.capacity));
  EXPECT_EQ(message([](RazorEntriesArgs& a) { a.store.shape.max_selected = 8; }),
            "RazorEntries: max_selected=8");
  EXPECT_EQ(message([](RazorEntriesArgs& a) { a.store.num_kv_heads = 65; }),
            "RazorEntries: num_kv_heads=65");
  EXPECT_EQ(message([](RazorEntriesArgs& a) { a.mean_v_offset = -1; }),
            "RazorEntries: mean_v_offset=-1");
  EXPECT_EQ(message([](RazorEntriesArgs& a) { a.lists.bias = nullptr; }),
            "RazorEntries: bias=null");
}

// A store too small for what the policy keeps, and more than one segment, are refused.
TEST(RazorEntriesBoundsTest, OfTheBatch) {
  RazorPolicy policy = kPolicies[3];
  ThreadPool pool(1);
  HeadStoreWorld world = MakeWorld(policy, DType::kFloat32);
  while (world.position < 28) world.Write(kSegment);
  world.left = 16;
  const BatchBuilder builder = world.Segment(/*rows=*/1);
  policy.local_tokens = 12;
  EXPECT_EQ(RazorEntriesCpu(ArgsOf(world, builder.Batch(), policy), pool).message(),
            "RazorEntries: chunk 0: leave_end=20: more than local_rows=3 are kept");
  BatchBuilder two(world.shape);
  two.Add({.first_position = 28, .segment_rows = {4, 1}, .leave_begin = 16}, world.state.data());
  EXPECT_EQ(RazorEntriesCpu(ArgsOf(world, two.Batch(), kPolicies[3]), pool).message(),
            "RazorEntries: chunk 0: num_segments=2");
}

}  // namespace
}  // namespace rasq
