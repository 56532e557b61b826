#include "server/live_calls.h"

#include <thread>

#include "gtest/gtest.h"

namespace rasq {
namespace {

using std::chrono::steady_clock;

class CountingStream : public Drainable {
 public:
  void Drain() override { ++drains; }
  int drains = 0;
};

TEST(LiveCallsTest, DrainTellsStreamsAndRefusesCalls) {
  LiveCalls calls;
  const auto watched = std::make_shared<CountingStream>();
  const auto forgotten = std::make_shared<CountingStream>();
  auto gone = std::make_shared<CountingStream>();
  calls.Watch(watched);
  calls.Watch(forgotten);
  calls.Watch(gone);
  calls.Forget(forgotten);
  gone.reset();
  EXPECT_TRUE(calls.Enter().ok());
  calls.Drain();
  EXPECT_EQ(watched->drains, 1);
  EXPECT_EQ(forgotten->drains, 0);
  EXPECT_TRUE(absl::IsUnavailable(calls.Enter()));
  EXPECT_TRUE(calls.draining());
  const auto late = std::make_shared<CountingStream>();
  calls.Watch(late);
  EXPECT_EQ(late->drains, 1);
}

TEST(LiveCallsTest, WaitsForTheLastCall) {
  LiveCalls calls;
  EXPECT_TRUE(calls.WaitIdle(steady_clock::now()));
  EXPECT_TRUE(calls.Enter().ok());
  EXPECT_TRUE(calls.Enter().ok());
  EXPECT_FALSE(calls.WaitIdle(steady_clock::now()));
  std::thread leaver([&calls] {
    calls.Leave();
    calls.Leave();
  });
  EXPECT_TRUE(calls.WaitIdle(steady_clock::now() + std::chrono::minutes(1)));
  leaver.join();
}

TEST(LiveCallsTest, GivingUpEndsTheWait) {
  LiveCalls calls;
  EXPECT_TRUE(calls.Enter().ok());
  std::thread impatient([&calls] { calls.GiveUp(); });
  const auto start = steady_clock::now();
  EXPECT_FALSE(calls.WaitIdle(start + std::chrono::minutes(5)));
  EXPECT_LT(steady_clock::now() - start, std::chrono::minutes(1));
  impatient.join();
}

TEST(LiveCallsTest, TooManyAreRefused) {
  LiveCalls calls(/*max_calls=*/2);
  EXPECT_TRUE(calls.Enter().ok());
  EXPECT_TRUE(calls.Enter().ok());
  EXPECT_TRUE(absl::IsResourceExhausted(calls.Enter()));
  calls.Leave();  // the refused one: it was counted
  calls.Leave();
  EXPECT_TRUE(calls.Enter().ok());
}

}  // namespace
}  // namespace rasq
