// The bounds of what rasq_config.json says of a memory, and of recipes that change it.
#pragma once

#include <cstdint>

#include "kernels/cluster_entries.h"

namespace rasq {

inline constexpr int64_t kMaxMemoryTokens = 1 << 24;  // of the buffer, and of budgets
inline constexpr int64_t kMaxMemoryClusters = kMaxClusters;
inline constexpr int64_t kMaxSummaries = 32;
inline constexpr double kMaxSummaryDecay = 0.999999;

}  // namespace rasq
