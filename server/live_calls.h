// The calls in flight: what a stopping server refuses, tells and waits for.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <set>

#include "absl/base/thread_annotations.h"
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
  // False once Drain was called: the call is to be refused. Counted in both cases.
  bool Enter();
  void Leave();

  // Is told of Drain (at once, if that was called before) until it is forgotten or gone.
  void Watch(const std::shared_ptr<Drainable>& stream);
  void Forget(const std::shared_ptr<Drainable>& stream);

  void Drain();
  // True if no call is left, false if there is one at `deadline`.
  bool WaitIdle(std::chrono::steady_clock::time_point deadline);

 private:
  Mutex mu_;
  CondVar idle_;
  int64_t live_ ABSL_GUARDED_BY(mu_) = 0;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  std::set<std::weak_ptr<Drainable>, std::owner_less<>> streams_ ABSL_GUARDED_BY(mu_);
};

}  // namespace rasq
