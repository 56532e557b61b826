#include "server/live_calls.h"

#include <utility>

namespace rasq {

bool LiveCalls::Enter() {
  MutexLock lock(mu_);
  ++live_;
  return !draining_;
}

void LiveCalls::Leave() {
  MutexLock lock(mu_);
  if (--live_ == 0) idle_.SignalAll();
}

void LiveCalls::Watch(const std::shared_ptr<Drainable>& stream) {
  {
    MutexLock lock(mu_);
    if (!draining_) {
      streams_.insert(stream);
      return;
    }
  }
  stream->Drain();
}

void LiveCalls::Forget(const std::shared_ptr<Drainable>& stream) {
  MutexLock lock(mu_);
  streams_.erase(stream);
}

void LiveCalls::Drain() {
  decltype(streams_) streams;
  {
    MutexLock lock(mu_);
    draining_ = true;
    streams.swap(streams_);
  }
  for (const std::weak_ptr<Drainable>& weak : streams) {
    if (const std::shared_ptr<Drainable> stream = weak.lock()) stream->Drain();
  }
}

bool LiveCalls::WaitIdle(std::chrono::steady_clock::time_point deadline) {
  MutexLock lock(mu_);
  while (live_ > 0 && std::chrono::steady_clock::now() < deadline) idle_.WaitUntil(mu_, deadline);
  return live_ == 0;
}

}  // namespace rasq
