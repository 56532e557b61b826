#include "kernels/base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace rasq {
namespace {

TEST(ThreadPoolTest, RunsEveryTaskOnce) {
  for (const int num_threads : {1, 2, 5}) {
    ThreadPool pool(num_threads);
    ASSERT_EQ(pool.num_threads(), num_threads);
    for (const int64_t num_tasks : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> runs(num_tasks);
      std::atomic<bool> good_threads{true};
      pool.ParallelFor(num_tasks, [&](int64_t task, int thread) {
        ++runs[task];
        if (thread < 0 || thread >= num_threads) good_threads = false;
      });
      for (int64_t i = 0; i < num_tasks; ++i) EXPECT_EQ(runs[i], 1) << num_threads << " " << i;
      EXPECT_TRUE(good_threads);
    }
  }
}

TEST(ThreadPoolTest, WritesOfTasksAreSeenByTheCaller) {
  ThreadPool pool(3);
  std::vector<int64_t> values(10);
  for (int64_t round = 0; round < 2000; ++round) {  // latecomers of one job must not join the next
    pool.ParallelFor(10, [&](int64_t task, int /*thread*/) { values[task] += task; });
  }
  for (int64_t i = 0; i < 10; ++i) EXPECT_EQ(values[i], 2000 * i);
}

TEST(ThreadPoolTest, SingleTaskRunsOnTheCaller) {
  ThreadPool pool(2);
  const std::thread::id caller = std::this_thread::get_id();
  pool.ParallelFor(1, [&](int64_t /*task*/, int thread) {
    EXPECT_EQ(thread, 0);
    EXPECT_EQ(std::this_thread::get_id(), caller);
  });
}

TEST(ThreadPoolTest, ZeroMeansOneThreadPerProcessor) { EXPECT_GE(ThreadPool(0).num_threads(), 1); }

}  // namespace
}  // namespace rasq
