// Cuts a loop over rows into tasks for the pool. Private to kernels/.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/base/thread_pool.h"

namespace rasq {

// Calls body(begin, end) over disjoint ranges that cover [0, rows). `row_cost` is about how many
// bytes or elementary steps a row takes: cheap loops stay on the caller, since handing a task over
// costs about what kTaskCost does.
template <typename Body>
void ForRowRanges(ThreadPool& pool, int64_t rows, int64_t row_cost, const Body& body) {
  constexpr int64_t kTaskCost = 32 * 1024;
  if (rows <= 0) return;
  const int64_t grain = std::max<int64_t>(1, kTaskCost / std::max<int64_t>(1, row_cost));
  // More tasks than threads, so that a thread that was held up does not hold up the others.
  const int64_t num_tasks =
      std::clamp<int64_t>(rows / grain, 1, std::min<int64_t>(rows, 4L * pool.num_threads()));
  pool.ParallelFor(num_tasks, [&](int64_t task, int /*thread*/) {
    body(rows * task / num_tasks, rows * (task + 1) / num_tasks);
  });
}

}  // namespace rasq
