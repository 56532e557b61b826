// Where rows of stores and rings lie, for the CPU. Private to kernels/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/head_lists.h"

namespace rasq {

// The state of one stream, seen by one kv head.
class HeadRows {
 public:
  HeadRows(const HeadStore& store, const StreamChunk& chunk, int64_t kv_head)
      : store_(store),
        state_(chunk.state),
        head_(kv_head),
        row_bytes_(store.head_dim * SizeOf(store.element)) {}

  std::byte* Stored(bool key, int64_t row) const {
    return state_ + (key ? store_.store_k_offset : store_.store_v_offset) + row * row_bytes_;
  }
  const std::byte* InRing(bool key, int64_t position) const {
    const int64_t row = position % store_.shape.ring_rows * store_.num_kv_heads + head_;
    return state_ + (key ? store_.ring_k_offset : store_.ring_v_offset) + row * row_bytes_;
  }
  // From the ring into the store.
  void Keep(int64_t position, int64_t row) const {
    for (const bool key : {true, false}) {
      std::memcpy(Stored(key, row), InRing(key, position), row_bytes_);
    }
  }

 private:
  const HeadStore& store_;
  std::byte* const state_;
  const int64_t head_;
  const int64_t row_bytes_;
};

}  // namespace rasq
