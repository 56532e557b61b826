#include "kernels/base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "kernels/base/mutex.h"

// Of libgomp, which oneDNN's products consult for their thread count. Declared here since <omp.h>
// comes with the compiler's own OpenMP, which need not be the one that oneDNN was built with.
extern "C" {
int omp_get_max_threads(void);
void omp_set_num_threads(int num_threads);
}

namespace rasq {
namespace {

// Library calls made by this thread run on it alone while this lives.
class SingleThreadScope {
 public:
  SingleThreadScope() : saved_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~SingleThreadScope() { omp_set_num_threads(saved_); }
  SingleThreadScope(const SingleThreadScope&) = delete;
  SingleThreadScope& operator=(const SingleThreadScope&) = delete;

 private:
  const int saved_;
};

// A step is a chain of some hundred short jobs: a worker that waits this many pauses (10 to 50 us)
// before it sleeps finds the next one without a wake-up, which costs as much as a small job.
constexpr int kSpins = 1000;

void Pause() { __builtin_ia32_pause(); }

int ProcessorsOfThisProcess() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(/*pid=*/0, sizeof(set), &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

}  // namespace

struct ThreadPool::Impl {
  using Task = std::function<void(int64_t task, int thread)>;

  // Takes tasks until there are none left.
  void Work(const Task& work, int64_t count, int thread) {
    for (int64_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) work(i, thread);
  }

  void WorkerLoop(int thread) {
    omp_set_num_threads(1);
    uint64_t seen = 0;
    while (true) {
      for (int i = 0; i < kSpins && generation.load() == seen; ++i) Pause();
      const Task* work;
      int64_t count;
      {
        MutexLock lock(mu);
        while (!stop && generation.load() == seen) wake.Wait(mu);
        if (stop) return;
        seen = generation.load();
        if (task == nullptr) continue;  // the job ended before this thread came
        work = task;
        count = num_tasks;
        ++num_inside;
      }
      Work(*work, count, thread);
      MutexLock lock(mu);
      if (--num_inside == 0) done.Signal();
    }
  }

  std::vector<std::thread> workers;
  std::atomic<uint64_t> generation{0};  // of the newest job; written under mu
  std::atomic<int64_t> next{0};         // the next task of the job
  Mutex mu;
  CondVar wake;
  CondVar done;
  bool stop ABSL_GUARDED_BY(mu) = false;
  const Task* task ABSL_GUARDED_BY(mu) = nullptr;  // null: no job takes workers
  int64_t num_tasks ABSL_GUARDED_BY(mu) = 0;
  int num_inside ABSL_GUARDED_BY(mu) = 0;  // workers in the job
};

ThreadPool::ThreadPool(int num_threads) : impl_(std::make_unique<Impl>()) {
  if (num_threads <= 0) num_threads = ProcessorsOfThisProcess();
  for (int thread = 1; thread < num_threads; ++thread) {
    impl_->workers.emplace_back([impl = impl_.get(), thread] { impl->WorkerLoop(thread); });
  }
}

ThreadPool::~ThreadPool() {
  {
    MutexLock lock(impl_->mu);
    impl_->stop = true;
    impl_->generation.fetch_add(1);
  }
  impl_->wake.SignalAll();
  for (std::thread& worker : impl_->workers) worker.join();
}

int ThreadPool::num_threads() const { return static_cast<int>(impl_->workers.size()) + 1; }

void ThreadPool::ParallelFor(int64_t num_tasks,
                             const std::function<void(int64_t task, int thread)>& task) {
  const SingleThreadScope single_thread;
  if (num_tasks <= 1 || impl_->workers.empty()) {
    for (int64_t i = 0; i < num_tasks; ++i) task(i, /*thread=*/0);
    return;
  }
  {
    MutexLock lock(impl_->mu);
    impl_->task = &task;
    impl_->num_tasks = num_tasks;
    impl_->next.store(0);
    impl_->generation.fetch_add(1);
  }
  const int64_t num_helpers = std::min<int64_t>(impl_->workers.size(), num_tasks - 1);
  for (int64_t i = 0; i < num_helpers; ++i) impl_->wake.Signal();
  impl_->Work(task, num_tasks, /*thread=*/0);
  // All tasks are taken: latecomers stay outside, and those inside are waited for.
  MutexLock lock(impl_->mu);
  impl_->task = nullptr;
  while (impl_->num_inside > 0) impl_->done.Wait(impl_->mu);
}

}  // namespace rasq
