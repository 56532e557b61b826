// Random numbers that are the same on every machine, unlike those of the standard's distributions.
// Source: splitmix64 (Steele, Lea and Flood 2014).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <utility>

namespace rasq::tasks {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  // 0 .. limit-1; limit > 0.
  int64_t Below(int64_t limit) {
    return static_cast<int64_t>(Next() % static_cast<uint64_t>(limit));
  }
  // low .. high, both possible; low <= high.
  int64_t Between(int64_t low, int64_t high) { return low + Below(high - low + 1); }
  // 0 .. 1, without 1.
  double Unit() { return static_cast<double>(Next() >> 11) * 0x1p-53; }
  // 0 .. limit, both possible, and as often between 1 and 10 as between 100 and 1000; limit >= 0.
  int64_t LogUniform(int64_t limit) {
    const double high = std::log(static_cast<double>(limit) + 2);
    return std::min(static_cast<int64_t>(std::exp(Unit() * high)) - 1, limit);
  }
  bool Chance(double probability) { return Unit() < probability; }

  template <typename Container>
  const auto& Pick(const Container& container) {
    return container[Below(static_cast<int64_t>(std::size(container)))];
  }
  // Fisher and Yates.
  template <typename Container>
  void Shuffle(Container& container) {
    for (size_t i = container.size(); i > 1; --i) {
      std::swap(container[i - 1], container[Below(static_cast<int64_t>(i))]);
    }
  }

 private:
  uint64_t state_;
};

}  // namespace rasq::tasks
