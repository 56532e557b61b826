// Softmax of one query's entries block by block (stream_attention.h). Private to kernels/.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/stream_attention.h"
#include "kernels/vector_loops_cpu.h"

namespace rasq {

// The sum of exp(logit) over some keys, as their largest logit and the sum relative to it.
struct LogSum {
  float most = -std::numeric_limits<float>::infinity();
  float sum = 0;

  // Relative to exp(shift), which is finite and at least `most`.
  float RelativeTo(float shift) const { return sum * std::exp(most - shift); }
  float Log() const { return most + std::log(sum); }

  void Add(const LogSum& other) {
    if (other.sum == 0) return;
    const float shift = std::max(most, other.most);
    sum = RelativeTo(shift) + other.RelativeTo(shift);
    most = shift;
  }
};

// Turns logits, x * scale + bias, of n entries from the beginning of a block into weights, in
// place: block i's softmax times weight[i]. Returns the sum over all of them.
inline LogSum FuseBlocks(float* x, float scale, const float* bias, const float* weight, int64_t n) {
  LogSum all;
  for (int64_t first = 0; first < n; first += kFusedRows) {
    const int64_t rows = std::min<int64_t>(kFusedRows, n - first);
    const float* block_bias = bias == nullptr ? nullptr : bias + first;
    LogSum block{.most = MaxLogit(x + first, scale, block_bias, rows)};
    if (block.most == -std::numeric_limits<float>::infinity()) {
      std::fill_n(x + first, rows, 0.0f);
      continue;
    }
    block.sum = ExpLogits(x + first, scale, block_bias, block.most, x + first, rows);
    Scale(x + first, weight[first / kFusedRows] / block.sum, x + first, rows);
    all.Add(block);
  }
  return all;
}

}  // namespace rasq
