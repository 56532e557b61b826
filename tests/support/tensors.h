// Tensors for tests: seeded random numbers, and arrays whose element type is known at run time.
#pragma once

#include <cstddef>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/base/dtype.h"

namespace rasq {

// Uniform in [-scale, scale).
inline std::vector<float> RandomFloats(int64_t n, uint64_t seed, float scale = 1) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<float> uniform(-scale, scale);
  std::vector<float> x(n);
  for (float& value : x) value = uniform(random);
  return x;
}

// An array of float32 or bfloat16, read and written as floats.
class Elements {
 public:
  Elements() = default;
  Elements(DType type, int64_t n, float value = 0) : Elements(type, std::vector<float>(n, value)) {}
  Elements(DType type, const std::vector<float>& values)
      : type_(type), size_(static_cast<int64_t>(values.size())), bytes_(size_ * SizeOf(type)) {
    for (int64_t i = 0; i < size_; ++i) Set(i, values[i]);
  }

  int64_t size() const { return size_; }
  const std::vector<std::byte>& bytes() const { return bytes_; }
  void* data() { return bytes_.data(); }
  const void* data() const { return bytes_.data(); }

  float operator[](int64_t i) const { return Load(type_, bytes_.data(), i); }
  void Set(int64_t i, float value) { Store(type_, bytes_.data(), i, value); }
  std::vector<float> ToFloats() const {
    std::vector<float> values(size_);
    for (int64_t i = 0; i < size_; ++i) values[i] = (*this)[i];
    return values;
  }

  static float Load(DType type, const std::byte* data, int64_t i) {
    if (type == DType::kBfloat16) {
      bfloat16 value;
      std::memcpy(&value, data + i * 2, 2);
      return ToFloat(value);
    }
    float value;
    std::memcpy(&value, data + i * 4, 4);
    return value;
  }
  static void Store(DType type, std::byte* data, int64_t i, float value) {
    if (type == DType::kBfloat16) {
      const bfloat16 rounded = ToBfloat16(value);
      std::memcpy(data + i * 2, &rounded, 2);
    } else {
      std::memcpy(data + i * 4, &value, 4);
    }
  }

 private:
  DType type_ = DType::kFloat32;
  int64_t size_ = 0;
  std::vector<std::byte> bytes_;
};

// Half an ulp, relative: what one rounding to the type may cost.
inline float Rounding(DType type) { return type == DType::kBfloat16 ? 0x1p-8f : 0x1p-24f; }

}  // namespace rasq
