// A stream whose window's tokens leave for a store of single-head rows, for tests of the operations
// that keep them: a state with rings of random keys and values, moved on by one segment at a time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/head_lists.h"
#include "tests/support/stream_batches.h"
#include "tests/support/tensors.h"

namespace rasq::testing {

struct HeadStoreWorld {
  HeadStoreWorld(const StreamShape& stream_shape, DType type, int32_t kv_heads, int32_t dim,
                 int64_t own_bytes)
      : shape(stream_shape), element(type), num_kv_heads(kv_heads), head_dim(dim) {
    const int64_t row = int64_t{dim} * SizeOf(type);
    ring_v = Aligned(shape.ring_rows * kv_heads * row);
    store_k = 2 * ring_v;
    store_v = store_k + Aligned(shape.capacity * row);
    own = store_v + Aligned(shape.capacity * row);
    state.resize(own + own_bytes);
    const int64_t lists = kv_heads, entries = lists * shape.max_selected;
    count.resize(lists);
    list_row.resize(entries);
    bias.resize(entries);
  }

  static int64_t Aligned(int64_t bytes) { return (bytes + 255) / 256 * 256; }

  // Element d of a token's key or value as one kv head has it, rounded to the element type.
  double At(bool key, int64_t at, int64_t head, int64_t d) const {
    const uint64_t seed = 2 * (at * num_kv_heads + head) + (key ? 1 : 0);
    return Elements(element, RandomFloats(head_dim, seed))[d];
  }

  // A segment of so many rows begins at `position` (or goes on there, if `start` is before it).
  BatchBuilder Segment(int32_t rows, int64_t start = -1) {
    BatchBuilder builder(shape);
    builder.Add({.first_position = position,
                 .segment_rows = {rows},
                 .first_start = start,
                 .leave_begin = left},
                state.data());
    left = std::max(left, (start < 0 ? position : start) - shape.window_rows);
    return builder;
  }
  // The ring takes the segment's rows.
  void Write(int32_t rows) {
    const int64_t row_bytes = int64_t{head_dim} * SizeOf(element);
    for (const bool key : {true, false}) {
      for (int64_t p = position; p < position + rows; ++p) {
        for (int64_t h = 0; h < num_kv_heads; ++h) {
          std::byte* to = state.data() + (key ? 0 : ring_v) +
                          (p % shape.ring_rows * num_kv_heads + h) * row_bytes;
          for (int64_t d = 0; d < head_dim; ++d) {
            Elements::Store(element, to, d, static_cast<float>(At(key, p, h, d)));
          }
        }
      }
    }
    position += rows;
  }

  HeadStore Store(const StreamBatch& batch) const {
    return {.batch = batch,
            .shape = shape,
            .element = element,
            .num_kv_heads = num_kv_heads,
            .head_dim = head_dim,
            .ring_k_offset = 0,
            .ring_v_offset = ring_v,
            .store_k_offset = store_k,
            .store_v_offset = store_v};
  }
  HeadLists Lists() { return {count.data(), list_row.data(), bias.data()}; }
  // Of a row of the store.
  double Stored(bool key, int64_t row, int64_t d) const {
    const int64_t row_bytes = int64_t{head_dim} * SizeOf(element);
    return Elements::Load(element, state.data() + (key ? store_k : store_v) + row * row_bytes, d);
  }
  int32_t RowOf(int64_t head, int64_t i) const { return list_row[head * shape.max_selected + i]; }
  float BiasOf(int64_t head, int64_t i) const { return bias[head * shape.max_selected + i]; }

  const StreamShape shape;
  const DType element;
  const int32_t num_kv_heads;
  const int32_t head_dim;
  int64_t ring_v, store_k, store_v;
  int64_t own;  // where the operation's own part of the state begins
  std::vector<std::byte> state;
  int64_t position = 0;  // tokens of the stream
  int64_t left = 0;      // of them: those that have left the window
  std::vector<int32_t> count, list_row;
  std::vector<float> bias;
};

}  // namespace rasq::testing
