// Shapes of attention for tests, and batches of streams that reach every way through it.
#pragma once

#include <cstdint>
#include <ostream>
#include <vector>

#include "kernels/stream_attention.h"
#include "tests/support/stream_batches.h"

namespace rasq {

// How entries are read: see stream_attention.h.
struct EntryReading {
  bool exact = false;     // without P^+
  bool turned = true;     // with the memory's rotation
  bool weighed = true;    // with scores, score weights and age slopes
  bool per_head = false;  //
  bool fused = false;     //
};

struct AttentionCase {
  const char* name;
  DType type;
  int32_t window, segment, sinks, capacity, max_selected;
  int32_t heads, kv_heads, head_dim, compressed;
  std::vector<ChunkSpec> chunks;
  int32_t clusters = 0, read_clusters = 0, min_entries = 0;
  EntryType entry_type = EntryType::kElement;
  EntryReading reading = {};
  int32_t query_ring = 0;  // rows of the rings of queries (key_weights.h)
  int32_t summaries = 0;   // of the entries of a list, the last (summarize_entries.h)
};
inline void PrintTo(const AttentionCase& c, std::ostream* out) {
  *out << c.name << " " << Name(c.type);
  if (c.entry_type == EntryType::kInt8) *out << " int8";
}

// A case whose entries are read in another way.
inline AttentionCase Reading(const char* name, AttentionCase c, const EntryReading& reading) {
  c.name = name;
  c.reading = reading;
  return c;
}

// A case whose lists end in summaries.
inline AttentionCase WithSummaries(const char* name, AttentionCase c, int32_t summaries) {
  c.name = name;
  c.summaries = summaries;
  return c;
}

inline std::vector<int> StreamNumbers(size_t n) {
  std::vector<int> streams(n);
  for (size_t i = 0; i < n; ++i) streams[i] = static_cast<int>(i);
  return streams;
}

// Young and old streams, wrapped rings, segments that go on, close early or are one token, windows
// that are not a multiple of the segment, sinks in and out of the window.
inline std::vector<ChunkSpec> RaggedChunks() {
  return {
      {.first_position = 0, .segment_rows = {16, 16, 16, 5}},
      {.first_position = 21, .segment_rows = {3}, .first_start = 16},
      {.first_position = 45, .segment_rows = {1, 16, 2, 9}, .first_start = 38, .leave_begin = 1},
      {.first_position = 1000003, .segment_rows = {16, 4, 16}, .leave_begin = 999950},
      {.first_position = 77, .segment_rows = {1}, .first_start = 70, .leave_begin = 33},
      {.first_position = 41, .segment_rows = {7}, .leave_begin = 0},
      {.first_position = 333,
       .segment_rows = {15, 16, 16, 16, 16, 1},
       .first_start = 332,
       .leave_begin = 295}};
}

}  // namespace rasq
