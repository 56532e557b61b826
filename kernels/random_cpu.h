// Numbers that look random and are a function of (seed, counter): no state, so the order of
// evaluation does not matter. Every backend must use this very function. Private to kernels/.
#pragma once

#include <cstdint>

namespace rasq {

// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
inline uint64_t MixBits(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// Uniform in (0, 1): never an end, so that its logarithms are finite.
inline double UniformAt(uint64_t seed, uint64_t counter) {
  const uint64_t bits = MixBits(MixBits(seed + 0x9e3779b97f4a7c15) ^ (counter + 1));
  return (static_cast<double>(bits >> 12) + 0.5) * 0x1p-52;
}

}  // namespace rasq
