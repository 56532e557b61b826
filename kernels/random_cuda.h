// Random elements on the GPU. Private to the CUDA backend.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/base/stream.h"

namespace rasq {

// y[i] = WeightAt(seed, i, scale) (random.h), rounded to bfloat16, for i < count; count > 0.
absl::Status FillRandomCuda(void* y, int64_t count, float scale, uint64_t seed, Stream stream);

}  // namespace rasq
