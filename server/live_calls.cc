#include "server/live_calls.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace rasq {

absl::Status LiveCalls::Enter() {
  MutexLock lock(mu_);
  ++live_;
  if (draining_) return absl::UnavailableError("the server is stopping");
  if (max_calls_ > 0 && live_ > max_calls_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("calls=", live_, ": the server takes ", max_calls_, " at once"));
  }
  return absl::OkStatus();
}

void LiveCalls::Leave() {
  MutexLock lock(mu_);
  if (--live_ == 0) idle_or_given_up_.SignalAll();
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

bool LiveCalls::draining() const {
  MutexLock lock(mu_);
  return draining_;
}

void LiveCalls::GiveUp() {
  MutexLock lock(mu_);
  given_up_ = true;
  idle_or_given_up_.SignalAll();
}

bool LiveCalls::WaitIdle(std::chrono::steady_clock::time_point deadline) {
  MutexLock lock(mu_);
  while (live_ > 0 && !given_up_ && std::chrono::steady_clock::now() < deadline) {
    idle_or_given_up_.WaitUntil(mu_, deadline);
  }
  return live_ == 0;
}

}  // namespace rasq
