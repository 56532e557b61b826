// Layout of states, the pool of their slots, and the pseudo-inverse that reads compressed entries.
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/slot_pool.h"
#include "engine/state_layout.h"
#include "engine/weights.h"
#include "gtest/gtest.h"
#include "tests/support/model_harness.h"

namespace rasq {
namespace {

using testing::ModelHarness;

TEST(StateLayoutTest, PartsDoNotOverlapAndAddUp) {
  ModelHarness harness({.checkpoint = "models/default", .backend = "float32"});
  const auto layout = *MakeStateLayout(Strategy::kRasq, harness.model().config(), harness.memory(),
                                       DType::kFloat32, {});
  std::set<int64_t> offsets;
  const auto add = [&](int64_t offset) {
    EXPECT_EQ(offset % 256, 0);
    EXPECT_TRUE(offsets.insert(offset).second) << offset;
  };
  for (size_t l = 0; l < layout.layers.size(); ++l) {
    for (int64_t at : {layout.layers[l].ring_k, layout.layers[l].ring_v, layout.layers[l].sink_k,
                       layout.layers[l].sink_v}) {
      add(at);
    }
    if (l < 2) continue;  // memory is read from layer 2 up
    add(layout.layers[l].entry_k);
    add(layout.layers[l].entry_v);
  }
  // 512 rows of 2 heads of 64 floats in 8 layers, twice; 1024 entries of 2 x 32 in 6 layers, twice;
  // the index 1024 x 64 twice; and some tables.
  const int64_t exact = int64_t{512} * 2 * 64 * 4 * 8 * 2,
                entries = int64_t{1024} * 2 * 32 * 4 * 6 * 2;
  const int64_t index = int64_t{1024} * 64 * 4 * 2;
  EXPECT_GT(layout.bytes, exact + entries + index);
  EXPECT_LT(layout.bytes, (exact + entries + index) * 12 / 10);
}

// models/README.md tells these numbers.
TEST(StateLayoutTest, BytesOfTheShapes) {
  for (const auto& [name, bytes] :
       {std::pair("llama-3.1-8b-shape", 170'400'512), std::pair("qwen2.5-7b-shape", 75'733'760)}) {
    const auto checkpoint =
        Checkpoint::Open(testing::SourcePath(std::string("models/") + name), LoadFormat::kDummy);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    const auto layout = MakeStateLayout(Strategy::kRasq, (*checkpoint)->model(),
                                        (*checkpoint)->memory(), DType::kBfloat16, {});
    ASSERT_TRUE(layout.ok()) << layout.status();
    EXPECT_EQ(layout->bytes, bytes) << name;
  }
}

// README.md tells these numbers.
TEST(StateLayoutTest, BytesInInt8) {
  for (const auto& [name, bytes] :
       {std::pair("default", 3'274'240), std::pair("llama-3.1-8b-shape", 122'292'992)}) {
    const auto checkpoint =
        Checkpoint::Open(testing::SourcePath(std::string("models/") + name), LoadFormat::kDummy);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    MemoryConfig memory = (*checkpoint)->memory();
    memory.entry_type = EntryType::kInt8;
    const auto layout =
        MakeStateLayout(Strategy::kRasq, (*checkpoint)->model(), memory, DType::kBfloat16, {});
    ASSERT_TRUE(layout.ok()) << layout.status();
    EXPECT_EQ(layout->bytes, bytes) << name;
    EXPECT_EQ(layout->entry_type, EntryType::kInt8);
    const auto window =
        MakeStateLayout(Strategy::kWindow, (*checkpoint)->model(), memory, DType::kBfloat16, {});
    EXPECT_EQ(window->entry_type, EntryType::kElement);  // it has none
  }
}

TEST(SlotPoolTest, AsManyAsFit) {
  SlotRoom room{.free_bytes = 1000, .reserve_bytes = 100, .other_bytes = 250, .slot_bytes = 200};
  EXPECT_EQ(*SlotsThatFit(room), 3);
  room.free_bytes = 950;
  EXPECT_EQ(*SlotsThatFit(room), 3);
  room.free_bytes = 550;
  EXPECT_EQ(*SlotsThatFit(room), 1);
  room.free_bytes = 549;
  const absl::Status status = SlotsThatFit(room).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("549 bytes are free"), absl::string_view::npos) << status;
  EXPECT_NE(status.message().find("550 are needed"), absl::string_view::npos) << status;
  room.free_bytes = int64_t{1} << 50;
  EXPECT_EQ(*SlotsThatFit(room), 1 << 20);
}

TEST(StateLayoutTest, AStrategyWithMemoryNeedsAnAdapter) {
  const ModelConfig model{.num_layers = 1, .num_heads = 1, .num_kv_heads = 1, .head_dim = 2};
  const auto layout = MakeStateLayout(Strategy::kRasq, model, MemoryConfig{}, DType::kFloat32, {});
  EXPECT_EQ(layout.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(MakeStateLayout(Strategy::kWindow, model, MemoryConfig{}, DType::kFloat32, {}).ok());
}

TEST(SlotPoolTest, SlotsComeBackOnce) {
  const auto ops = *OpenOps({.device = "cpu", .dtype = "float32"});
  const auto pool = *SlotPool::Create(*ops, /*num_slots=*/2, /*slot_bytes=*/512);
  Slot a = pool->Acquire(), b = pool->Acquire();
  ASSERT_TRUE(a && b);
  EXPECT_NE(a.data(), b.data());
  EXPECT_FALSE(pool->Acquire());
  EXPECT_EQ(pool->num_used(), 2);
  Slot moved = std::move(a);
  EXPECT_FALSE(a);  // NOLINT(bugprone-use-after-move): that it is empty is the point
  EXPECT_EQ(pool->num_used(), 2);
  moved = Slot();
  EXPECT_EQ(pool->num_used(), 1);
  EXPECT_TRUE(pool->Acquire());
}

TEST(PseudoInverseTest, HandComputed) {
  // P = [[1, 0, 0], [0, 2, 0]]: P^+ = [[1, 0], [0, 1/2], [0, 0]].
  const auto inverse = *PseudoInverses({1, 0, 0, 0, 2, 0}, 1, 2, 3);
  EXPECT_EQ(inverse, (std::vector<float>{1, 0, 0, 0.5f, 0, 0}));
  // P = [[1, 1]]: P P^T = 2, P^+ = [1/2, 1/2]; and the second of two matrices is its own.
  EXPECT_EQ(*PseudoInverses({3, 4, 1, 1}, 2, 1, 2),
            (std::vector<float>{3 / 25.0f, 4 / 25.0f, 0.5f, 0.5f}));
}

TEST(PseudoInverseTest, DependentRowsAreAnError) {
  const auto inverse = PseudoInverses({1, 2, 2, 4}, 1, 2, 2);
  EXPECT_EQ(inverse.status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace rasq
