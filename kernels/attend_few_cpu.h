// Attention of a segment's part of few rows (decode): loops over keys where they lie, without
// gathering them. Private to kernels/.
#pragma once

#include <cstdint>

#include "kernels/stream_attention.h"

namespace rasq {

// Segments of at most so many rows in a batch take this way.
inline constexpr int32_t kFewRows = 4;
static_assert(kFewRows < kLeastPartRows);

// One segment and kv head of validated arguments.
void AttendFew(const StreamAttentionArgs& a, int64_t segment, int64_t kv_head);

}  // namespace rasq
