// A segment's attention on a GPU, in three parts with a softmax of their own each: itself, its
// window, and its memory; their union is the softmax over all (the merge of FlashAttention and ring
// attention: Liu, Zaharia and Abbeel 2023). So a window is copied once for each segment and not a
// token, only entries carry biases, and the heads of a group share the keys that all of them read.
#pragma once

#include <cstdint>

#include "train/torch.h"

namespace rasq::train {

struct SegmentKeys {
  Tensor query;         // [streams, tokens, heads, head_dim + bias dims]
  Tensor key, value;    // [streams, tokens, kv_heads, head_dim]
  Tensor memory_key;    // [streams, segments, entries, kv_heads, head_dim + bias dims]
  Tensor memory_value;  // [streams, segments, entries, kv_heads, head_dim]
};

// The windows of all streams' segments, one after another: what a segment has of the `window`
// tokens before it.
struct Windows {
  int64_t segment, window;  // tokens
  int64_t rows;             // of all windows
  Tensor ends;              // int32 [streams * segments + 1]; the first is 0
};
Windows MakeWindows(int64_t streams, int64_t segments, int64_t segment, int64_t window,
                    const torch::Device& device);

// Whether AttendInParts takes such tensors: bfloat16 on CUDA, in a build with our kernels.
bool CanAttendInParts(const Tensor& query);

// Every token reads its segment up to itself, its segment's window and its segment's entries.
// [streams, tokens, heads, head_dim]
Tensor AttendInParts(const SegmentKeys& keys, const Windows& windows);

}  // namespace rasq::train
