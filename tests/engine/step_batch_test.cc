#include "engine/step_batch.h"

#include <vector>

#include "gtest/gtest.h"

namespace rasq {
namespace {

StateLayout Layout(Strategy strategy, int32_t capacity) {
  StateLayout layout;
  layout.strategy = strategy;
  layout.shape = {.window_rows = 8,
                  .segment_rows = 4,
                  .sink_rows = 2,
                  .capacity = capacity,
                  .max_selected = 2,
                  .memory_span = 2,
                  .ring_rows = 12};
  return layout;
}

StreamStep Stream(const StateLayout& layout, StreamCursor& cursor, int32_t tokens) {
  StreamStep step{.layout = &layout, .cursor = &cursor};
  for (int32_t i = 0; i < tokens; ++i) step.tokens.push_back({.id = 100 + i});
  return step;
}

TEST(StepBatchTest, CutsAStreamIntoSegments) {
  const StateLayout layout = Layout(Strategy::kRasq, 6);
  StreamCursor cursor{.position = 18, .segment_start = 16};  // two of four tokens are there
  std::vector<StreamStep> streams = {Stream(layout, cursor, 9)};
  streams[0].tokens[7].starts_segment = true;
  const StepBatch batch = MakeStepBatch(streams);

  ASSERT_EQ(batch.groups.size(), 1u);
  const StepGroup& group = batch.groups[0];
  ASSERT_EQ(group.segments.size(), 4u);  // positions 18-19, 20-23, 24, 25-26
  const std::vector<int64_t> starts = {16, 20, 24, 25};
  const std::vector<int32_t> rows = {2, 4, 1, 2}, begins = {0, 1, 1, 1}, first = {0, 2, 6, 7};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(group.segments[i].start, starts[i]) << i;
    EXPECT_EQ(group.segments[i].num_rows, rows[i]) << i;
    EXPECT_EQ(group.segments[i].begins, begins[i]) << i;
    EXPECT_EQ(group.segments[i].first_row, first[i]) << i;
  }
  const StreamChunk& chunk = group.chunks[0];
  EXPECT_EQ(chunk.first_position, 18);
  EXPECT_EQ(chunk.num_rows, 9);
  EXPECT_EQ(chunk.leave_begin, 16 - 8);  // what left before the open segment began
  EXPECT_EQ(chunk.leave_end, 25 - 8);
  EXPECT_EQ(group.num_staged, 9);
  EXPECT_EQ(group.num_entry_rows, 6 + 9);
  EXPECT_EQ(batch.last_row[0], 8);
}

TEST(StepBatchTest, ATokenOfTheOpenSegmentMovesNothing) {
  const StateLayout layout = Layout(Strategy::kRasq, 6);
  StreamCursor cursor{.position = 18, .segment_start = 16};
  const std::vector<StreamStep> streams = {Stream(layout, cursor, 1)};
  const StepBatch batch = MakeStepBatch(streams);
  EXPECT_EQ(batch.groups[0].num_staged, 0);
  EXPECT_EQ(batch.groups[0].num_entry_rows, 0);
  EXPECT_EQ(batch.groups[0].segments[0].begins, 0);
}

TEST(StepBatchTest, NothingLeavesAtAStreamsStart) {
  const StateLayout layout = Layout(Strategy::kRasq, 6);
  StreamCursor cursor;
  const std::vector<StreamStep> streams = {Stream(layout, cursor, 12)};
  const StepBatch batch = MakeStepBatch(streams);
  EXPECT_EQ(batch.groups[0].num_staged, 0);
  EXPECT_EQ(batch.groups[0].segments.size(), 3u);
}

TEST(StepBatchTest, StreamsOfOneLayoutFormAGroup) {
  const StateLayout memory = Layout(Strategy::kRasq, 6), window = Layout(Strategy::kWindow, 0);
  StreamCursor a{.position = 16, .segment_start = 12}, b = a, c = a;
  const std::vector<StreamStep> streams = {Stream(memory, a, 4), Stream(window, b, 4),
                                           Stream(memory, c, 1)};
  const StepBatch batch = MakeStepBatch(streams);
  ASSERT_EQ(batch.groups.size(), 2u);
  EXPECT_EQ(batch.groups[0].stream, (std::vector<int32_t>{0, 2}));
  EXPECT_EQ(batch.groups[1].stream, (std::vector<int32_t>{1}));
  // Rows follow the groups; a group's own numbers count from its own start.
  EXPECT_EQ(batch.groups[0].chunks[1].first_row, 4);
  EXPECT_EQ(batch.groups[1].chunks[0].first_row, 5);
  EXPECT_EQ(batch.groups[1].chunks[0].first_staged, 0);
  EXPECT_EQ(batch.groups[1].first_staged, batch.groups[0].num_staged);
  EXPECT_EQ(batch.groups[1].num_entry_rows, 0);  // no memory, no entries
  EXPECT_EQ(batch.last_row, (std::vector<int32_t>{3, 8, 4}));
}

TEST(StepBatchTest, StoresAreCountedByTheirSegments) {
  StateLayout first = Layout(Strategy::kRazor, 0), second = Layout(Strategy::kGca, 0);
  first.store.max_listed = second.store.max_listed = 2;
  const StateLayout window = Layout(Strategy::kWindow, 0);
  StreamCursor a{.position = 16, .segment_start = 12}, b = a, c = a, d = a;
  const std::vector<StreamStep> streams = {Stream(window, a, 8), Stream(first, b, 4),
                                           Stream(first, c, 2), Stream(second, d, 1)};
  const StepBatch batch = MakeStepBatch(streams);
  ASSERT_EQ(batch.groups.size(), 3u);
  EXPECT_EQ(batch.groups[1].first_store, 0);
  EXPECT_EQ(batch.groups[2].first_store, 2);
  EXPECT_EQ(batch.num_store_segments, 3);
  EXPECT_EQ(batch.num_segments, 5);
}

}  // namespace
}  // namespace rasq
