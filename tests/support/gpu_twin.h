// For tests of the CUDA operations against their CPU twins: the same call on both backends, each
// with arrays of its own.
#pragma once

#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/ops.h"
#include "tests/support/tensors.h"

namespace rasq::testing {

// The GPU backend, opened once a process; null where there is none.
inline Ops* Gpu() {
  static const auto* ops =
      new absl::StatusOr<std::unique_ptr<Ops>>(OpenOps({.device = "cuda", .dtype = "bfloat16"}));
  if (!ops->ok()) {
    static const bool said =
        (std::fprintf(stderr, "no GPU: %s\n", ops->status().ToString().c_str()), true);
    (void)said;
  }
  return ops->ok() ? ops->value().get() : nullptr;
}

// The CPU backend with elements of bfloat16, or null if this processor has no products of them.
inline Ops* Cpu() {
  static const auto* ops =
      new absl::StatusOr<std::unique_ptr<Ops>>(OpenOps({.device = "cpu", .dtype = "bfloat16"}));
  return ops->ok() ? ops->value().get() : nullptr;
}

// Skips where there is no GPU; with RASQ_REQUIRE_GPU=1 that is a failure.
#define RASQ_NEEDS_GPU()                                                           \
  do {                                                                             \
    if (::rasq::testing::Gpu() == nullptr) {                                       \
      const char* required = std::getenv("RASQ_REQUIRE_GPU");                      \
      if (required != nullptr && std::string(required) == "1") FAIL() << "no GPU"; \
      GTEST_SKIP() << "no GPU";                                                    \
    }                                                                              \
  } while (false)

// Device memory between guard bands; its content begins as all-ones bits (NaN in every float type)
// or as given.
class DeviceArray {
 public:
  DeviceArray(Ops& ops, int64_t bytes, const void* content = nullptr) : ops_(ops), bytes_(bytes) {
    std::vector<std::byte> whole(bytes + 2 * kGuard, std::byte{0xff});
    std::memset(whole.data(), kMark, kGuard);
    std::memset(whole.data() + kGuard + bytes, kMark, kGuard);
    if (content != nullptr && bytes > 0) std::memcpy(whole.data() + kGuard, content, bytes);
    auto buffer = ops.Allocate(whole.size());
    EXPECT_TRUE(buffer.ok()) << buffer.status();
    buffer_ = *std::move(buffer);
    EXPECT_TRUE(ops.CopyToDevice(buffer_->data(), whole.data(), whole.size()).ok());
  }

  template <typename T = void>
  T* data() const {
    return reinterpret_cast<T*>(buffer_->data() + kGuard);
  }
  int64_t bytes() const { return bytes_; }

  // Waits for the device; fails the test if a guard was written.
  std::vector<std::byte> ToHost() const {
    std::vector<std::byte> whole(bytes_ + 2 * kGuard);
    const absl::Status status = ops_.CopyToHost(whole.data(), buffer_->data(), whole.size());
    EXPECT_TRUE(status.ok()) << status;
    for (int64_t i = 0; i < kGuard; ++i) {
      EXPECT_EQ(static_cast<int>(whole[i]), kMark) << "written before the array";
      EXPECT_EQ(static_cast<int>(whole[kGuard + bytes_ + i]), kMark) << "written behind the array";
      if (::testing::Test::HasFailure()) break;
    }
    return {whole.begin() + kGuard, whole.begin() + kGuard + bytes_};
  }
  template <typename T>
  std::vector<T> ToHostAs() const {
    const std::vector<std::byte> bytes = ToHost();
    std::vector<T> values(bytes.size() / sizeof(T));
    if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
    return values;
  }

 private:
  static constexpr int64_t kGuard = 256;
  static constexpr int kMark = 0x5a;
  Ops& ops_;
  int64_t bytes_;
  std::unique_ptr<Buffer> buffer_;
};

// The arrays of one backend's call, alive to the end of the test.
class Arrays {
 public:
  explicit Arrays(Ops& ops) : ops_(ops) {}

  template <typename T>
  T* Put(const std::vector<T>& values) {
    return Add(values.size() * sizeof(T), values.data()).template data<T>();
  }
  void* Put(const Elements& values) {
    return Add(values.bytes().size(), values.bytes().data()).data();
  }
  // For results: poisoned.
  DeviceArray& Poisoned(int64_t bytes) { return Add(bytes, nullptr); }
  DeviceArray& Add(int64_t bytes, const void* content) {
    return *arrays_.emplace_back(std::make_unique<DeviceArray>(ops_, bytes, content));
  }

 private:
  Ops& ops_;
  std::vector<std::unique_ptr<DeviceArray>> arrays_;
};

}  // namespace rasq::testing
