// The threads that the CPU operations share.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace rasq {

class ThreadPool {
 public:
  // `num_threads` counts the caller's own thread; 0 means one per processor that this process may
  // run on. Workers run every library call on one thread (they set OpenMP's thread count to 1).
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const;

  // Runs task(i, thread) for every i in [0, num_tasks), thread in [0, num_threads), and returns
  // when all are done. Tasks are handed out one by one in order of i. One call at a time; tasks may
  // not call ParallelFor. A single task, or a pool of one thread, runs on the caller.
  void ParallelFor(int64_t num_tasks, const std::function<void(int64_t task, int thread)>& task);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace rasq
