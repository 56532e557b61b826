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
  EXPECT_TRUE(calls.Enter());
  calls.Drain();
  EXPECT_EQ(watched->drains, 1);
  EXPECT_EQ(forgotten->drains, 0);
  EXPECT_FALSE(calls.Enter());
  const auto late = std::make_shared<CountingStream>();
  calls.Watch(late);
  EXPECT_EQ(late->drains, 1);
}

TEST(LiveCallsTest, WaitsForTheLastCall) {
  LiveCalls calls;
  EXPECT_TRUE(calls.WaitIdle(steady_clock::now()));
  calls.Enter();
  calls.Enter();
  EXPECT_FALSE(calls.WaitIdle(steady_clock::now()));
  std::thread leaver([&calls] {
    calls.Leave();
    calls.Leave();
  });
  EXPECT_TRUE(calls.WaitIdle(steady_clock::now() + std::chrono::minutes(1)));
  leaver.join();
}

}  // namespace
}  // namespace rasq
