// The calls in flight: what a stopping server refuses, tells and waits for.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <set>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "kernels/base/mutex.h"

namespace rasq {

// A stream that would go on for ever and ends itself when told.
class Drainable {
 public:
  virtual ~Drainable() = default;
  virtual void Drain() = 0;
};

// Any thread may call any method.
class LiveCalls {
 public:
  // `max_calls` at once; 0: no limit.
  explicit LiveCalls(int64_t max_calls = 0) : max_calls_(max_calls) {}

  // Why the call is to be refused: kUnavailable once Drain was called, kResourceExhausted past the
  // limit. Counted in every case.
  absl::Status Enter();
  void Leave();

  // Is told of Drain (at once, if that was called before) until it is forgotten or gone.
  void Watch(const std::shared_ptr<Drainable>& stream);
  void Forget(const std::shared_ptr<Drainable>& stream);

  void Drain();
  bool draining() const;
  // True if no call is left, false if there is one at `deadline` or when GiveUp is called.
  bool WaitIdle(std::chrono::steady_clock::time_point deadline);
  void GiveUp();

 private:
  const int64_t max_calls_;
  mutable Mutex mu_;
  CondVar idle_or_given_up_;
  int64_t live_ ABSL_GUARDED_BY(mu_) = 0;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  bool given_up_ ABSL_GUARDED_BY(mu_) = false;
  std::set<std::weak_ptr<Drainable>, std::owner_less<>> streams_ ABSL_GUARDED_BY(mu_);
};

}  // namespace rasq
