// What a token costs, counted from a model's shapes: for benchmarks to set beside what they
// measure.
#pragma once

#include <algorithm>

#include "engine/model_config.h"

namespace rasq {

// Floating-point operations that one appended token takes, once its window and buffer are full:
// products with weights, attention, retrieval, compression. Counted from the shapes.
inline double FlopsPerToken(const ModelConfig& m, const MemoryConfig& r) {
  const double q = double{1} * m.num_heads * m.head_dim,
               kv = double{1} * m.num_kv_heads * m.head_dim;
  const double projections =
      2.0 * m.hidden * (q + 2 * kv) + 2.0 * q * m.hidden + 3 * 2.0 * m.hidden * m.intermediate;
  const double own_segment = (r.segment + 1) / 2.0;
  const double exact = r.sinks + r.window + own_segment;
  double flops = m.num_layers * (projections + 4.0 * exact * q);
  const double memory_layers = m.num_layers - r.retrieval_layers.front();
  const double compressed = double{1} * m.num_heads * r.compressed_dim;
  flops += memory_layers *
           (4.0 * r.budget * compressed + 4.0 * q * r.compressed_dim + 4.0 * kv * r.compressed_dim);
  flops +=
      r.retrieval_layers.size() * (2.0 * r.capacity * r.index_dim + 4.0 * m.hidden * r.index_dim);
  return flops;
}

// Bytes that decoding one token reads of its stream's state, in elements of two bytes: window,
// sinks and half a segment of exact keys and values in each layer, the selected entries above R[0].
inline double DecodeStateBytes(const ModelConfig& m, const MemoryConfig& r) {
  const double exact = r.sinks + r.window + r.segment / 2.0;
  const double memory_layers = m.num_layers - r.retrieval_layers.front();
  return 4.0 * m.num_kv_heads *
         (m.num_layers * exact * m.head_dim + memory_layers * r.budget * r.compressed_dim);
}

}  // namespace rasq
