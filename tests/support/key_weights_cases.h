// Calls of KeyWeights for tests, and what they should give, in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <ostream>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/key_weights.h"
#include "tests/support/attention_cases.h"
#include "tests/support/attention_reference.h"
#include "tests/support/attention_world.h"

namespace rasq {

struct KeyWeightsCase {
  AttentionCase attention;
  int32_t num_queries;
  bool sum_heads = false;
};
inline void PrintTo(const KeyWeightsCase& c, std::ostream* out) {
  PrintTo(c.attention, out);
  *out << " of " << c.num_queries << " queries";
}

inline KeyWeightsArgs KeyWeightsArgsOf(const KeyWeightsCase& c, AttentionWorld& world) {
  KeyWeightsArgs args{};
  args.attention = world.Args();
  args.num_queries = c.num_queries;
  args.query_ring_rows = c.attention.query_ring;
  args.query_ring_offset = world.query_ring_offset();
  args.lse_ring_offset = world.lse_ring_offset();
  args.sum_heads = c.sum_heads;
  return args;
}

// Every shape with few queries and many, of the part alone and of rings before it.
inline std::vector<KeyWeightsCase> KeyWeightsCases(DType type, int32_t head_dim) {
  const auto attention = [&](const char* name, bool memory, bool per_head, int32_t query_ring) {
    AttentionCase c{name, type, 37, 16, 4, 80, 70, 6, 2, head_dim, head_dim, RaggedChunks()};
    if (!memory) c.capacity = c.max_selected = 0;
    c.reading = {.exact = true, .turned = false, .weighed = per_head, .per_head = per_head};
    c.query_ring = query_ring;
    return c;
  };
  return {
      {attention("part", /*memory=*/true, /*per_head=*/false, 0), 1},
      {attention("part_per_head", /*memory=*/true, /*per_head=*/true, 0), 5, true},
      {attention("ring", /*memory=*/true, /*per_head=*/true, 8), 8},
      {attention("no_memory", /*memory=*/false, /*per_head=*/false, 0), 16, true},
      {attention("large_ring", /*memory=*/true, /*per_head=*/true, 70), 64},
  };
}

// What KeyWeights should give each column, in double: [num_segments, num_kv_heads,
// KeyColumns(shape)], NaN in columns without a key.
inline std::vector<double> ExpectedKeyWeights(const KeyWeightsArgs& args) {
  const StreamAttentionArgs& a = args.attention;
  const AttentionReference reference(a);
  const int32_t group = a.num_heads / a.num_kv_heads;
  const int64_t columns = KeyColumns(a.shape);
  std::vector<double> sums(a.batch.num_segments * a.num_kv_heads * columns, NAN);
  for (int32_t s = 0; s < a.batch.num_segments; ++s) {
    const StreamSegment& segment = a.batch.segments[s];
    const StreamChunk& c = a.batch.chunks[segment.chunk];
    const int64_t part = c.first_position + segment.first_row - c.first_row;
    const int64_t end = part + segment.num_rows;
    const int64_t first = std::max(args.query_ring_rows > 0 ? 0 : part, end - args.num_queries);
    for (int32_t head = 0; head < a.num_heads; ++head) {
      double* out = &sums[(s * int64_t{a.num_kv_heads} + head / group) * columns];
      for (int64_t position = first; position < end; ++position) {
        const bool in_ring = position < c.first_position;
        const int64_t row =
            in_ring ? position % args.query_ring_rows : c.first_row + position - c.first_position;
        const int64_t at = row * a.num_heads + head;
        const void* q = in_ring ? c.state + args.query_ring_offset : a.q;
        const auto* lse =
            in_ring ? reinterpret_cast<const float*>(c.state + args.lse_ring_offset) : a.lse;
        const AttentionReference::Keys keys =
            reference.KeysOf(s, reference.Vector(q, at, a.head_dim), position, head);
        const auto add = [&](int64_t column, double logit) {
          const double weight = std::exp(logit - lse[at]) / (args.sum_heads ? 1 : group);
          out[column] = (std::isnan(out[column]) ? 0 : out[column]) + weight;
        };
        for (size_t i = keys.num_sinks; i < keys.num_exact; ++i) {
          add(a.shape.max_selected + static_cast<int64_t>(i - keys.num_sinks), keys.logits[i]);
        }
        for (size_t i = keys.num_exact; i < keys.logits.size(); ++i) {
          add(static_cast<int64_t>(i - keys.num_exact), keys.logits[i]);
        }
      }
    }
  }
  return sums;
}

// `first` is what stood in `out` before the call.
inline void ExpectKeyWeights(const KeyWeightsArgs& args, const std::vector<float>& out,
                             float first) {
  const std::vector<double> want = ExpectedKeyWeights(args);
  ASSERT_EQ(out.size(), want.size());
  int64_t num_keys = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double before = args.accumulate ? first : 0;
    if (std::isnan(want[i])) {
      ASSERT_EQ(out[i], before) << "column " << i % KeyColumns(args.attention.shape);
      continue;
    }
    ++num_keys;
    // Logits below 16 are sums of 128 products of exact numbers at most, each off by 2^-24 of it.
    ASSERT_NEAR(out[i], before + want[i], (before + want[i]) * 0x1p-12)
        << "column " << i % KeyColumns(args.attention.shape);
  }
  EXPECT_GT(num_keys, 0);
}

}  // namespace rasq
