// The keys and values that a segment's tokens attend to, as tiles in shared memory. Keys are
// numbered in two lists: entries (the selected memory, in compressed space), and exact ones (sinks,
// then the window and the segment's own tokens by position). Private to the CUDA backend.
#pragma once

#include <algorithm>

#include "kernels/entry_rows_cuda.h"
#include "kernels/stream_attention.h"
#include "kernels/stream_batch_cuda.h"
#include "kernels/tensor_tile_cuda.h"

namespace rasq {

inline constexpr int kTileKeys = 64;
inline constexpr float kLog2E = 1.4426950408889634f;

// Rotates a head's piece and its mate, kPieceElements pairs, on their way to a tile's row. `sign`
// -1 rotates back.
template <int kWidth>
__device__ inline void PutRotated(__nv_bfloat16* tile, int tile_row, int piece, int half,
                                  const __nv_bfloat16* head, const float* rotation, float sign) {
  const int d = piece * kPieceElements;
  const uint4 low = *reinterpret_cast<const uint4*>(head + d);
  const uint4 high = *reinterpret_cast<const uint4*>(head + half + d);
  float c[kPieceElements], s[kPieceElements];
#pragma unroll
  for (int i = 0; i < kPieceElements; i += 4) {
    *reinterpret_cast<float4*>(c + i) = *reinterpret_cast<const float4*>(rotation + d + i);
    *reinterpret_cast<float4*>(s + i) = *reinterpret_cast<const float4*>(rotation + half + d + i);
  }
  const auto* x1 = reinterpret_cast<const __nv_bfloat16*>(&low);
  const auto* x2 = reinterpret_cast<const __nv_bfloat16*>(&high);
  uint4 out_low, out_high;
  auto* y1 = reinterpret_cast<__nv_bfloat16*>(&out_low);
  auto* y2 = reinterpret_cast<__nv_bfloat16*>(&out_high);
#pragma unroll
  for (int i = 0; i < kPieceElements; ++i) {
    const float p = __bfloat162float(x1[i]), q = __bfloat162float(x2[i]), t = sign * s[i];
    y1[i] = __float2bfloat16_rn(p * c[i] - q * t);
    y2[i] = __float2bfloat16_rn(q * c[i] + p * t);
  }
  *reinterpret_cast<uint4*>(tile + TileOffset<kWidth>(tile_row, piece)) = out_low;
  *reinterpret_cast<uint4*>(tile + TileOffset<kWidth>(tile_row, piece + half / kPieceElements)) =
      out_high;
}

// A head's weight or slope, of an array that may be left out.
__device__ inline float WeightOf(const float* weights, int head) {
  return weights == nullptr ? 0.0f : weights[head];
}

// One segment's keys as one kv head sees them.
struct SegmentKeys {
  const StreamAttentionArgs& a;
  const StreamSegment segment;
  const StreamChunk chunk;
  const int32_t index;           // of the segment
  const int32_t kv_head;         //
  const int32_t list;            // of the selection
  const int64_t first_position;  // of the segment's first row in this batch
  const int64_t begin;           // of the window
  const int32_t num_sinks;
  const int32_t num_exact;
  const int32_t num_entries;
  const int32_t ring_begin;  // ring row of `begin`

  __device__ SegmentKeys(const StreamAttentionArgs& args, int32_t segment_index, int32_t kv,
                         int32_t selection_list)
      : a(args),
        segment(args.batch.segments[segment_index]),
        chunk(args.batch.chunks[segment.chunk]),
        index(segment_index),
        kv_head(kv),
        list(selection_list),
        first_position(FirstPosition(chunk, segment)),
        begin(max(int64_t{0}, segment.start - args.shape.window_rows)),
        num_sinks(static_cast<int32_t>(min(max(segment.start - args.shape.window_rows, int64_t{0}),
                                           static_cast<int64_t>(args.shape.sink_rows)))),
        num_exact(num_sinks + static_cast<int32_t>(first_position + segment.num_rows - begin)),
        num_entries(args.reads_memory
                        ? min(max(args.selected.count[list], 0), args.shape.max_selected)
                        : 0),
        ring_begin(static_cast<int32_t>(begin % args.shape.ring_rows)) {}

  // The list that a segment's kv head reads; of its own only if entries are exact.
  template <bool kExact>
  __device__ static int32_t ListOf(const StreamAttentionArgs& a, int32_t segment_index,
                                   int32_t kv) {
    return kExact && a.entries_per_head ? segment_index * a.num_kv_heads + kv : segment_index;
  }

  __device__ static int NumTiles(int num_keys) { return (num_keys + kTileKeys - 1) / kTileKeys; }
  __device__ int NumEntryTiles() const { return NumTiles(num_entries); }
  __device__ int NumExactTiles() const { return NumTiles(num_exact); }

  // Whether the token at `position` may read the exact key of that number.
  __device__ bool Sees(int64_t position, int key) const {
    return key < num_exact && (key < num_sinks || begin + (key - num_sinks) <= position);
  }
  // Whether all rows of the segment read the whole tile.
  __device__ bool AllSee(int tile) const {
    const int end = (tile + 1) * kTileKeys;
    return end <= num_exact && begin + (end - num_sinks) <= first_position + 1;
  }

  template <bool kExact>
  __device__ const __nv_bfloat16* EntryHead(int32_t row, int64_t entries_offset,
                                            const void* staged) const {
    const int64_t head_at = int64_t{kv_head} * a.compressed_dim;
    const int64_t row_elements = int64_t{a.num_kv_heads} * a.compressed_dim;
    if (row < a.shape.capacity) {
      const auto* slots = reinterpret_cast<const __nv_bfloat16*>(chunk.state + entries_offset);
      if (kExact && a.entries_per_head) return slots + int64_t{row} * a.compressed_dim;
      return slots + row * row_elements + head_at;
    }
    return static_cast<const __nv_bfloat16*>(staged) +
           (int64_t{chunk.first_staged} + row - a.shape.capacity) * row_elements + head_at;
  }

  // Starts the copies of an entry's piece in int8. Its eight numbers wait in the first half of the
  // place where its elements will lie, their scale behind them, until SpreadEntries.
  __device__ void LoadInt8Piece(int32_t row, int64_t entries_offset, const void* staged, int piece,
                                __nv_bfloat16* to) const {
    const bool in_state = row < a.shape.capacity;
    const std::byte* rows =
        in_state ? chunk.state + entries_offset : static_cast<const std::byte*>(staged);
    const int64_t at = in_state ? row : int64_t{chunk.first_staged} + row - a.shape.capacity;
    rows += at * Int8RowBytes(a.num_kv_heads, a.compressed_dim);
    CopyHalfPieceAsync(to, rows + kv_head * a.compressed_dim + piece * kPieceElements);
    CopyWordAsync(
        to + kPieceElements / 2,
        rows + EntryScaleOffset(a.num_kv_heads, a.compressed_dim) + kv_head * sizeof(float));
  }

  // A sink's key stands un-rotated in the state: rotated here on its way to the tile. Pieces of the
  // first half of a head bring their mates of the second.
  template <int kDim>
  __device__ void PutSink(__nv_bfloat16* tile, int tile_row, int sink, int piece) const {
    const int half = a.head_dim / 2;
    if (piece * kPieceElements >= half) return;
    const auto* key = reinterpret_cast<const __nv_bfloat16*>(chunk.state + a.sink_k_offset) +
                      (int64_t{sink} * a.num_kv_heads + kv_head) * a.head_dim;
    const float* rotation =
        a.sink_rotation + (int64_t{index} * a.shape.sink_rows + sink) * a.head_dim;
    PutRotated<kDim>(tile, tile_row, piece, half, key, rotation, /*sign=*/1.0f);
  }

  // Starts the copies of a tile; rows behind the last key and columns behind the head's are zero.
  // All kThreads threads of the block take part.
  template <int kDim, int kThreads>
  __device__ void LoadExact(__nv_bfloat16* keys, __nv_bfloat16* values, int tile) const {
    constexpr int kPieces = kDim / kPieceElements;
    const int piece = threadIdx.x % kPieces;
    const bool inside = piece * kPieceElements < a.head_dim;
    const int row_elements = a.num_kv_heads * a.head_dim;
    const int head_at = kv_head * a.head_dim + piece * kPieceElements;
    const auto* ring_k = reinterpret_cast<const __nv_bfloat16*>(chunk.state + a.ring_k_offset);
    const auto* ring_v = reinterpret_cast<const __nv_bfloat16*>(chunk.state + a.ring_v_offset);
    const auto* own_k = static_cast<const __nv_bfloat16*>(a.k);
    const auto* own_v = static_cast<const __nv_bfloat16*>(a.v);
    // Tokens of the window before the batch are in the ring, the others in the batch's arrays.
    const int num_in_ring = static_cast<int>(max(chunk.first_position - begin, int64_t{0}));
    const int own_begin = chunk.first_row + static_cast<int>(begin - chunk.first_position);
    constexpr int kRowStep = kThreads / kPieces;
    const int first_row = threadIdx.x / kPieces;
    const int first_offset = tile * kTileKeys - num_sinks;
    int ring_row = ring_begin + first_offset;
    if (ring_row >= a.shape.ring_rows) ring_row -= a.shape.ring_rows;
    if (inside && first_offset >= 0 && first_offset + kTileKeys <= num_in_ring &&
        ring_row + kTileKeys <= a.shape.ring_rows) {  // most tiles: rows behind each other
      const int64_t at = int64_t{ring_row + first_row} * row_elements + head_at;
      const __nv_bfloat16 *k = ring_k + at, *v = ring_v + at;
#pragma unroll
      for (int r = 0; r < kTileKeys; r += kRowStep) {
        CopyPieceAsync(keys + TileOffset<kDim>(first_row + r, piece), k);
        CopyPieceAsync(values + TileOffset<kDim>(first_row + r, piece), v);
        k += kRowStep * row_elements;
        v += kRowStep * row_elements;
      }
      return;
    }
#pragma unroll 2
    for (int r = first_row; r < kTileKeys; r += kRowStep) {
      const int key = tile * kTileKeys + r;
      const int offset = key - num_sinks;
      __nv_bfloat16* k_to = keys + TileOffset<kDim>(r, piece);
      __nv_bfloat16* v_to = values + TileOffset<kDim>(r, piece);
      const __nv_bfloat16 *k = nullptr, *v = nullptr;
      if (key < num_sinks) {
        if (!inside) {
          CopyPieceAsync(k_to, nullptr);
        } else {
          PutSink<kDim>(keys, r, key, piece);
          v = reinterpret_cast<const __nv_bfloat16*>(chunk.state + a.sink_v_offset) +
              key * row_elements + head_at;
        }
        CopyPieceAsync(v_to, v);
        continue;
      }
      if (inside && key < num_exact) {
        const bool in_ring = offset < num_in_ring;
        int row = in_ring ? ring_begin + offset : own_begin + offset;
        if (in_ring && row >= a.shape.ring_rows) row -= a.shape.ring_rows;
        const int64_t at = int64_t{row} * row_elements + head_at;
        k = (in_ring ? ring_k : own_k) + at;
        v = (in_ring ? ring_v : own_v) + at;
      }
      CopyPieceAsync(k_to, k);
      CopyPieceAsync(v_to, v);
    }
  }

  // What tiles of entries are made of: their key k is entry Entry(k) of the selection.
  struct AllEntries {
    int num;
    __device__ int Entry(int key) const { return key; }
  };

  // The selection's rows that a thread's copies of a tile are made from, asked for ahead of time.
  template <int kNarrow, int kThreads>
  struct EntryRows {
    static constexpr int kPieces = kNarrow / kPieceElements;
    static constexpr int kCount = kTileKeys * kPieces / kThreads;
    int32_t row[kCount];
  };
  // Needs nothing of the segment but its list's number, and so goes ahead of all else.
  template <int kNarrow, int kThreads>
  static __device__ void AskRows(const StreamAttentionArgs& a, int32_t list, int tile,
                                 EntryRows<kNarrow, kThreads>& rows) {
    AskRows(a, list, tile, AllEntries{a.shape.max_selected}, rows);
  }
  template <int kNarrow, int kThreads, typename Entries>
  static __device__ void AskRows(const StreamAttentionArgs& a, int32_t list, int tile,
                                 const Entries& entries, EntryRows<kNarrow, kThreads>& rows) {
    using Rows = EntryRows<kNarrow, kThreads>;
    const int32_t* from = a.selected.row + int64_t{list} * a.shape.max_selected;
#pragma unroll
    for (int i = 0; i < Rows::kCount; ++i) {
      const int key = tile * kTileKeys + (i * kThreads + threadIdx.x) / Rows::kPieces;
      rows.row[i] = key < entries.num ? from[entries.Entry(key)] : -1;
    }
  }

  // Starts the copies of a tile's entries; those behind the last are zero. Scores and gates of the
  // tile's keys follow into `score` and `log_gate`.
  template <int kNarrow, int kThreads, bool kExact, typename Entries>
  __device__ void LoadEntries(const EntryRows<kNarrow, kThreads>& rows, const Entries& entries,
                              __nv_bfloat16* keys, __nv_bfloat16* values, float* score,
                              float* log_gate, int tile) const {
    using Rows = EntryRows<kNarrow, kThreads>;
    const int piece = threadIdx.x % Rows::kPieces;
    const bool inside = piece * kPieceElements < a.compressed_dim;
#pragma unroll
    for (int i = 0; i < Rows::kCount; ++i) {
      const int r = (i * kThreads + threadIdx.x) / Rows::kPieces;
      __nv_bfloat16* k_to = keys + TileOffset<kNarrow>(r, piece);
      __nv_bfloat16* v_to = values + TileOffset<kNarrow>(r, piece);
      const __nv_bfloat16 *k = nullptr, *v = nullptr;
      if (inside && tile * kTileKeys + r < entries.num) {
        if (a.entry_type == EntryType::kInt8) {
          LoadInt8Piece(rows.row[i], a.entry_k_offset, a.staged_k, piece, k_to);
          LoadInt8Piece(rows.row[i], a.entry_v_offset, a.staged_v, piece, v_to);
          continue;
        }
        k = EntryHead<kExact>(rows.row[i], a.entry_k_offset, a.staged_k) + piece * kPieceElements;
        v = EntryHead<kExact>(rows.row[i], a.entry_v_offset, a.staged_v) + piece * kPieceElements;
      }
      CopyPieceAsync(k_to, k);
      CopyPieceAsync(v_to, v);
    }
    const int key = tile * kTileKeys + static_cast<int>(threadIdx.x);
    if (threadIdx.x < kTileKeys && key < entries.num) {
      const int64_t at = int64_t{list} * a.shape.max_selected + entries.Entry(key);
      const float *scores = a.selected.score, *log_gates = a.selected.log_gate;
      CopyWordIfAsync(score + threadIdx.x, scores + at, scores != nullptr);
      CopyWordIfAsync(log_gate + threadIdx.x, log_gates + at, log_gates != nullptr);
    }
  }

  // Makes elements of a tile's entries in int8, when this thread's copies are done and before
  // others read them: a thread spreads the pieces that it asked for. Entries that are elements
  // already are left alone.
  template <int kNarrow, int kThreads>
  __device__ void SpreadEntries(__nv_bfloat16* keys, __nv_bfloat16* values) const {
    using Rows = EntryRows<kNarrow, kThreads>;
    if (a.entry_type == EntryType::kElement) return;
    const int piece = threadIdx.x % Rows::kPieces;
#pragma unroll
    for (int i = 0; i < Rows::kCount; ++i) {
      const int at = TileOffset<kNarrow>((i * kThreads + threadIdx.x) / Rows::kPieces, piece);
      auto* k = reinterpret_cast<uint4*>(keys + at);
      auto* v = reinterpret_cast<uint4*>(values + at);
      *k = SpreadInt8({k->x, k->y}, __uint_as_float(k->z));
      *v = SpreadInt8({v->x, v->y}, __uint_as_float(v->z));
    }
  }

  // What a head adds to an entry's logit: weight * score + log gate - slope * age. -infinity behind
  // the last entry. Summaries stand last and have no age; kernels that never read any are told so,
  // and stay as they are.
  template <bool kMaySummarize>
  __device__ float EntryBias(int entry, float score, float log_gate, float weight,
                             float slope) const {
    int newer = num_entries - 1 - entry;
    if constexpr (kMaySummarize) newer = max(newer - a.num_summaries, 0);
    const auto age = static_cast<float>(newer);
    return entry < num_entries ? fmaf(weight, score, fmaf(-slope, age, log_gate)) : -INFINITY;
  }
};

// Starts the copy of one kv head's [head_dim, compressed_dim] matrix; zero around it.
template <int kDim, int kNarrow, int kThreads>
__device__ inline void LoadUp(const SegmentKeys& keys, const void* up, __nv_bfloat16* tile) {
  constexpr int kPieces = kNarrow / kPieceElements;
  const StreamAttentionArgs& a = keys.a;
  const auto* from =
      static_cast<const __nv_bfloat16*>(up) + int64_t{keys.kv_head} * a.head_dim * a.compressed_dim;
#pragma unroll 4
  for (int at = threadIdx.x; at < kDim * kPieces; at += kThreads) {
    const int d = at / kPieces, piece = at % kPieces;
    const bool inside = d < a.head_dim && piece * kPieceElements < a.compressed_dim;
    CopyPieceAsync(tile + TileOffset<kNarrow>(d, piece),
                   inside ? from + d * a.compressed_dim + piece * kPieceElements : nullptr);
  }
}

// The running softmax of a lane's two rows of a product, in powers of two: maxima are those of the
// whole rows, sums are of the lane's own columns until Finish.
struct RunningSoftmax {
  float most[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0, 0};

  // Turns logits into weights: powers of two of logits * factor. `scale`: by what everything summed
  // so far has to be multiplied.
  template <int kTiles>
  __device__ void Add(float (&logits)[kTiles][4], float factor, float (&scale)[2]) {
    float base[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float best = -INFINITY;
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        best = fmaxf(best, fmaxf(logits[n][2 * r], logits[n][2 * r + 1]));
      }
      best = fmaxf(best, __shfl_xor_sync(~0u, best, 1));
      best = fmaxf(best, __shfl_xor_sync(~0u, best, 2));
      best = fmaxf(most[r], best * factor);
      base[r] = best == -INFINITY ? 0.0f : best;  // nothing seen yet: all weights are zero
      scale[r] = Exp2(most[r] - base[r]);
      most[r] = best;
      sum[r] *= scale[r];
    }
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        logits[n][i] = Exp2(fmaf(logits[n][i], factor, -base[i / 2]));
        sum[i / 2] += logits[n][i];
      }
    }
  }

  __device__ void Finish() {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      sum[r] += __shfl_xor_sync(~0u, sum[r], 1);
      sum[r] += __shfl_xor_sync(~0u, sum[r], 2);
    }
  }
};

// The natural logarithm of a sum of powers of two relative to 2^most.
__device__ inline float LogOfSum(float most, float sum) { return (most + log2f(sum)) / kLog2E; }

// logits[., .] = q * keys^T of kKeys keys from row `first`; a product of width kWidth.
template <int kWidth, int kKeys>
__device__ inline void ScoreKeys(const uint32_t (&q)[kWidth / 16][4], const __nv_bfloat16* keys,
                                 int first, float (&logits)[kKeys / 8][4]) {
#pragma unroll
  for (int n = 0; n < kKeys / 8; ++n) {
    logits[n][0] = logits[n][1] = logits[n][2] = logits[n][3] = 0;
  }
#pragma unroll
  for (int k = 0; k < kWidth / 16; ++k) {
#pragma unroll
    for (int n = 0; n < kKeys / 16; ++n) {
      uint32_t b[4];
      LoadRightRows<kWidth>(b, keys, first + n * 16, k * 16);
      MultiplyAdd(logits[2 * n], q[k], b[0], b[1]);
      MultiplyAdd(logits[2 * n + 1], q[k], b[2], b[3]);
    }
  }
}

// out = out * scale + weights * values of the same keys.
template <int kWidth, int kKeys>
__device__ inline void SumValues(const float (&weights)[kKeys / 8][4], const float (&scale)[2],
                                 const __nv_bfloat16* values, int first,
                                 float (&out)[kWidth / 8][4]) {
  if (__any_sync(~0u, scale[0] != 1 || scale[1] != 1)) {
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n) {
      out[n][0] *= scale[0];
      out[n][1] *= scale[0];
      out[n][2] *= scale[1];
      out[n][3] *= scale[1];
    }
  }
#pragma unroll
  for (int k = 0; k < kKeys / 16; ++k) {
    uint32_t p[4];
    AsLeft(weights, k, p);
#pragma unroll
    for (int n = 0; n < kWidth / 16; ++n) {
      uint32_t b[4];
      LoadRightColumns<kWidth>(b, values, first + k * 16, n * 16);
      MultiplyAdd(out[2 * n], p, b[0], b[1]);
      MultiplyAdd(out[2 * n + 1], p, b[2], b[3]);
    }
  }
}

}  // namespace rasq
