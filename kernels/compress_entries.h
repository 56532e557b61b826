// Low-rank keys and values of the tokens that leave the window: K_c = P_k K, V_c = P_v V, where K
// is un-rotated first (the memory has no position of its own). Sinks keep their un-rotated width.
// Source: algorithm.md 2.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/base/dtype.h"
#include "kernels/base/stream.h"
#include "kernels/base/thread_pool.h"
#include "kernels/entry_rows.h"
#include "kernels/stream_batch.h"

namespace rasq {

// Keeps the leaving tokens at positions < sink_rows: un-rotated key and value, [sink_rows,
// num_kv_heads, head_dim] each in the state. Does nothing in batches in which no such token leaves.
struct KeepSinksArgs {
  StreamBatch batch;
  StreamShape shape;
  DType element;          //
  int32_t num_kv_heads;   //
  int32_t head_dim;       //
  const float* rotation;  // [num_staged, head_dim]: RotationTableArgs::staged
  int64_t ring_k_offset;  // in the state: [ring_rows, num_kv_heads, head_dim], rotated
  int64_t ring_v_offset;
  const void* k;  // [num_rows, num_kv_heads, head_dim]: the batch's own, rotated
  const void* v;
  int64_t sink_k_offset;  // in the state
  int64_t sink_v_offset;
};
absl::Status ValidateKeepSinks(const KeepSinksArgs& args);
absl::Status KeepSinksCpu(const KeepSinksArgs& args, ThreadPool& pool);
absl::Status KeepSinksCuda(const KeepSinksArgs& args, Stream stream);

struct CompressEntriesArgs {
  StreamBatch batch;
  StreamShape shape;
  DType element;           // of keys and values
  EntryType entry_type;    // of the entries
  int32_t num_kv_heads;    //
  int32_t head_dim;        // d_h
  int32_t compressed_dim;  // d_c
  const float* rotation;   // [num_staged, head_dim]: RotationTableArgs::staged
  int64_t ring_k_offset;   // as above
  int64_t ring_v_offset;
  const void* k;  // as above
  const void* v;
  const void* key_down;    // P_k [num_kv_heads, compressed_dim, head_dim], of `element`
  const void* value_down;  // P_v
  void* staged_k;          // [num_staged] rows of entry_rows.h, [num_kv_heads, compressed_dim] each
  void* staged_v;
};
absl::Status ValidateCompressEntries(const CompressEntriesArgs& args);
// A token's result does not depend on what else leaves. The CUDA version serves widths that are
// multiples of 8, to 256.
absl::Status CompressEntriesCpu(const CompressEntriesArgs& args, ThreadPool& pool);
absl::Status CompressEntriesCuda(const CompressEntriesArgs& args, Stream stream);

}  // namespace rasq
