// Threads for what may hold a thread: tokenizing, and waiting for another call of the same session
// that does. gRPC has few threads, and they also carry every other call's bytes: megabytes of text
// on one would stall health checks and streams.
#pragma once

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "kernels/base/mutex.h"

namespace rasq {

class WorkerPool {
 public:
  explicit WorkerPool(int num_threads);
  // Runs what is queued, then joins.
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // In the order of the calls, by whichever thread is free. Any thread may call it; it never waits.
  void Submit(std::function<void()> task);

 private:
  void Run();

  Mutex mu_;
  CondVar work_or_stop_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace rasq
