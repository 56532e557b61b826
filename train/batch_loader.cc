#include "train/batch_loader.h"

#include <utility>

#include "kernels/base/status.h"

namespace rasq::train {

BatchLoader::BatchLoader(Plan plan) : plan_(std::move(plan)) {
  threads_.reserve(plan_.threads);
  for (int32_t i = 0; i < plan_.threads; ++i) threads_.emplace_back([this] { Work(); });
}

BatchLoader::~BatchLoader() {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void BatchLoader::Work() {
  for (;;) {
    int64_t number;
    {
      std::unique_lock<std::mutex> lock(mu_);
      changed_.wait(lock,
                    [this] { return stopping_ || claimed_ / plan_.batch < taken_ + plan_.ahead; });
      if (stopping_ || claimed_ >= plan_.batches * plan_.batch) return;
      number = claimed_++;
    }
    const int64_t batch = number / plan_.batch, place = number % plan_.batch;
    TrainingStream stream = plan_.make(plan_.first + batch * plan_.stride + place);
    const std::lock_guard<std::mutex> lock(mu_);
    Partial& partial = built_[batch];
    partial.streams.resize(plan_.batch);
    partial.streams[place] = std::move(stream);
    if (++partial.done == plan_.batch) changed_.notify_all();
  }
}

std::vector<TrainingStream> BatchLoader::Next() {
  std::unique_lock<std::mutex> lock(mu_);
  RASQ_CHECK(taken_ < plan_.batches);
  changed_.wait(lock, [this] {
    const auto found = built_.find(taken_);
    return found != built_.end() && found->second.done == plan_.batch;
  });
  std::vector<TrainingStream> streams = std::move(built_[taken_].streams);
  built_.erase(taken_++);
  changed_.notify_all();
  return streams;
}

}  // namespace rasq::train
