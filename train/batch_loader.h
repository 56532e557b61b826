// Builds training streams ahead of the device, on threads. Which stream is which follows from its
// number alone, so the order of the threads does not matter and a resumed run goes on as it was.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "train/data/stream_layout.h"

namespace rasq::train {

class BatchLoader {
 public:
  // make(i): stream number i; called by many threads. Batches are of `batch` streams, of which this
  // reader's are those from first + skip * b on, for its b-th.
  struct Plan {
    std::function<TrainingStream(int64_t)> make;
    int64_t first = 0;    // number of the first stream of the first batch
    int64_t stride = 0;   // from a batch's first stream to the next batch's
    int64_t batch = 0;    // streams
    int64_t batches = 0;  // as many, then no more
    int32_t threads = 1;
    int32_t ahead = 4;  // batches
  };
  explicit BatchLoader(Plan plan);
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  // REQUIRES: called at most plan.batches times.
  std::vector<TrainingStream> Next();

 private:
  void Work();

  const Plan plan_;
  std::mutex mu_;
  std::condition_variable changed_;
  int64_t claimed_ = 0;    // streams, counted through all batches; guarded by mu_
  int64_t taken_ = 0;      // batches; guarded by mu_
  bool stopping_ = false;  // guarded by mu_
  struct Partial {
    std::vector<TrainingStream> streams;
    int64_t done = 0;
  };
  std::map<int64_t, Partial> built_;  // by batch; guarded by mu_
  std::vector<std::thread> threads_;
};

}  // namespace rasq::train
