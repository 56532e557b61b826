// What the benchmarks of the GPU share: device memory, times of operations, and the ceilings beside
// which they stand.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "kernels/ops.h"
#include "tests/bench/bench.h"

namespace rasq {

// Device memory that lives as long as the program.
class Memory {
 public:
  explicit Memory(Ops& ops) : ops_(ops) {}
  template <typename T = void>
  T* Room(int64_t bytes) {
    buffers_.push_back(Must(ops_.Allocate(bytes)));
    return reinterpret_cast<T*>(buffers_.back()->data());
  }
  void* Random(int64_t elements, float scale = 1) {
    void* at = Room(elements * SizeOf(ops_.element()));
    Must(ops_.FillRandom(at, elements, scale, buffers_.size()));
    return at;
  }
  template <typename T>
  T* Put(const std::vector<T>& values) {
    T* at = Room<T>(static_cast<int64_t>(values.size() * sizeof(T)));
    Must(ops_.CopyToDevice(at, values.data(), static_cast<int64_t>(values.size() * sizeof(T))));
    return at;
  }
  float* Floats(int64_t count, float value) { return Put(std::vector<float>(count, value)); }

 private:
  Ops& ops_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
};

// Seconds of one call of `run`: the best of some replays of ten.
inline double Time(Ops& ops, const std::function<absl::Status()>& run) {
  constexpr int kCalls = 10, kReplays = 5;
  Must(run());
  Must(ops.BeginRecording());
  for (int i = 0; i < kCalls; ++i) Must(run());
  const std::unique_ptr<Recording> recording = Must(ops.EndRecording());
  const std::unique_ptr<Buffer> word = Must(ops.Allocate(256));
  int32_t host = 0;
  const auto wait = [&] { Must(ops.CopyToHost(&host, word->data(), sizeof(host))); };
  Must(ops.Replay(*recording));
  wait();
  double best = 1e30;
  for (int i = 0; i < kReplays; ++i) {
    const Clock::time_point start = Clock::now();
    Must(ops.Replay(*recording));
    wait();
    best = std::min(best, SecondsSince(start) / kCalls);
  }
  return best;
}

// Of copies, which are long enough to be called one by one, and run faster so than recorded.
inline double TimeCopies(Ops& ops, const std::function<absl::Status()>& run) {
  constexpr int kCalls = 10;
  const std::unique_ptr<Buffer> word = Must(ops.Allocate(256));
  int32_t host = 0;
  double best = 1e30;
  for (int i = 0; i < 5; ++i) {
    const Clock::time_point start = Clock::now();
    for (int j = 0; j < kCalls; ++j) Must(run());
    Must(ops.CopyToHost(&host, word->data(), sizeof(host)));
    best = std::min(best, SecondsSince(start) / kCalls);
  }
  return best;
}

struct Ceilings {
  double bytes_per_second;
  double flops_per_second;
};

inline Ceilings MeasureCeilings(Ops& ops) {
  Ceilings ceilings{};
  {
    constexpr int64_t kBytes = int64_t{2} << 30;
    Memory memory(ops);
    void *from = memory.Room(kBytes), *to = memory.Room(kBytes);
    ceilings.bytes_per_second =
        2.0 * kBytes / TimeCopies(ops, [&] { return ops.CopyOnDevice(to, from, kBytes); });
  }
  constexpr int64_t kSide = 8192;
  Memory memory(ops);
  const auto matrix = Must(ops.RandomMatrix(kSide, kSide, 0.01f, 1));
  const GemmArgs args{.x = memory.Random(kSide * kSide),
                      .w = matrix.get(),
                      .y = memory.Room<float>(kSide * kSide * 4),
                      .rows = kSide,
                      .x_stride = kSide,
                      .y_stride = kSide,
                      .accumulate = false};
  ceilings.flops_per_second =
      2.0 * kSide * kSide * kSide / Time(ops, [&] { return ops.Gemm(args); });
  return ceilings;
}

}  // namespace rasq
