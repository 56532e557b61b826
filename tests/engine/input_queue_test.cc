#include "engine/input_queue.h"

#include <memory>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace rasq {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int32_t kSegment = 4;

std::shared_ptr<const Input> Ids(std::vector<int32_t> ids, int64_t segment_break = -1) {
  return std::make_shared<Input>(Input{.ids = std::move(ids), .segment_break = segment_break});
}

std::vector<int32_t> IdsOf(const std::vector<InputToken>& tokens) {
  std::vector<int32_t> ids;
  for (const InputToken& token : tokens) ids.push_back(token.id);
  return ids;
}

TEST(InputQueueTest, KeepsOrderAcrossRuns) {
  InputQueue queue(/*hidden=*/2);
  queue.Push(Ids({1, 2, 3}));
  queue.Push(Ids({}));
  queue.Push(Ids({4, 5}));
  EXPECT_EQ(queue.size(), 5);
  EXPECT_THAT(IdsOf(queue.Peek(4)), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(IdsOf(queue.Pop(2)), ElementsAre(1, 2));
  EXPECT_THAT(IdsOf(queue.Pop(2)), ElementsAre(3, 4));
  EXPECT_THAT(IdsOf(queue.Peek(10)), ElementsAre(5));
  EXPECT_EQ(queue.size(), 1);
}

TEST(InputQueueTest, ACopyIsIndependent) {
  InputQueue queue(/*hidden=*/2);
  queue.Push(Ids({1, 2, 3}));
  InputQueue copy = queue;
  copy.Pop(3);
  EXPECT_THAT(IdsOf(queue.Peek(3)), ElementsAre(1, 2, 3));
}

TEST(InputQueueTest, EmbeddingsOutliveTheQueue) {
  std::vector<InputToken> tokens;
  {
    InputQueue queue(/*hidden=*/2);
    queue.Push(std::make_shared<Input>(
        Input{.ids = {-1, -1}, .embeddings = {1, 2, 3, 4}, .pinned = true}));
    queue.Pop(1);
    tokens = queue.Pop(1);
  }
  ASSERT_EQ(tokens.size(), 1u);
  EXPECT_TRUE(tokens[0].pinned);
  EXPECT_EQ(tokens[0].embedding.get()[0], 3);
  EXPECT_EQ(tokens[0].embedding.get()[1], 4);
}

TEST(InputQueueTest, WholeSegmentsWaitForATokenBehindThem) {
  InputQueue queue(/*hidden=*/2);
  queue.Push(Ids({1, 2, 3, 4}));
  EXPECT_THAT(queue.Parts({}, kSegment, 100, /*keep_last=*/true), IsEmpty());
  EXPECT_THAT(queue.Parts({}, kSegment, 100, /*keep_last=*/false), ElementsAre(4));
  queue.Push(Ids({5}));
  EXPECT_THAT(queue.Parts({}, kSegment, 100, /*keep_last=*/true), ElementsAre(4));
  EXPECT_THAT(queue.Parts({}, kSegment, 100, /*keep_last=*/false), ElementsAre(4, 1));
}

TEST(InputQueueTest, TheOpenSegmentGoesOn) {
  InputQueue queue(/*hidden=*/2);
  queue.Push(Ids({1, 2, 3, 4, 5}));
  const StreamCursor cursor{.position = 11, .segment_start = 8};  // three tokens of four
  EXPECT_THAT(queue.Parts(cursor, kSegment, 100, /*keep_last=*/false), ElementsAre(1, 4));
}

TEST(InputQueueTest, ABreakClosesASegmentEarly) {
  InputQueue queue(/*hidden=*/2);
  queue.Push(Ids({1, 2, 3, 4, 5, 6}, /*segment_break=*/5));
  queue.Push(Ids({7}));
  EXPECT_THAT(queue.Parts({}, kSegment, 100, /*keep_last=*/true), ElementsAre(4, 1));
  EXPECT_THAT(queue.Parts({}, kSegment, 100, /*keep_last=*/false), ElementsAre(4, 1, 2));
}

TEST(InputQueueTest, PartsStayWithinCount) {
  InputQueue queue(/*hidden=*/2);
  queue.Push(Ids(std::vector<int32_t>(100, 7)));
  EXPECT_THAT(queue.Parts({}, kSegment, 10, /*keep_last=*/true), ElementsAre(4, 4));
  EXPECT_THAT(queue.Parts({}, kSegment, 8, /*keep_last=*/true), ElementsAre(4, 4));
}

}  // namespace
}  // namespace rasq
