// Numbers that look random and are a function of (seed, counter): no state, so the order of
// evaluation does not matter. Every backend uses these very functions. Private to kernels/.
#pragma once

#include <cstdint>

#include "kernels/base/host_device.h"

namespace rasq {

// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
RASQ_HOST_DEVICE inline uint64_t MixBits(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

RASQ_HOST_DEVICE inline uint64_t BitsAt(uint64_t seed, uint64_t counter) {
  return MixBits(MixBits(seed + 0x9e3779b97f4a7c15) ^ (counter + 1));
}

// Uniform in (0, 1): never an end, so that its logarithms are finite.
RASQ_HOST_DEVICE inline double UniformAt(uint64_t seed, uint64_t counter) {
  return (static_cast<double>(BitsAt(seed, counter) >> 12) + 0.5) * 0x1p-52;
}

// A random weight: uniform in [-scale, scale).
RASQ_HOST_DEVICE inline float WeightAt(uint64_t seed, uint64_t index, float scale) {
  return (static_cast<float>(BitsAt(seed, index) >> 40) * 0x1p-23f - 1.0f) * scale;
}

}  // namespace rasq
