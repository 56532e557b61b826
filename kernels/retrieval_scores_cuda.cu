#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/base/check_args.h"
#include "kernels/base/cuda_status.h"
#include "kernels/base/status.h"
#include "kernels/entry_rows_cuda.h"
#include "kernels/retrieval_scores.h"
#include "kernels/row_loops_cuda.h"
#include "kernels/stream_batch_cuda.h"
#include "kernels/tensor_tile_cuda.h"

namespace rasq {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kWarpEntries = 16;  // at a time: their keys are in registers, the next on their way
constexpr int kTileQueries = 64;
// Entries of a block: enough to keep loads under way while others are computed with, and that the
// queries, from L2, cost little beside them.
constexpr int kBlockEntries = 6 * kWarps * kWarpEntries;

// Elements from the start of the queries to a piece of 16 bytes. The order of a product's inner
// dimension is free if both factors keep it: a lane takes a whole piece for two steps of 16 inner
// elements each, so that keys go from memory to registers with no shared memory between. Pieces of
// odd rows are moved by 4: the 8 lanes of a load's phase, which want four pieces of two rows, hit
// all banks.
template <int kDim>
__device__ int PieceOffset(int row, int piece) {
  return row * kDim + (piece ^ (row % 2 * 4)) * kPieceElements;
}

// Fills the tile with queries `first` and on; behind the last one `first` again, which changes no
// maximum. Columns behind index_dim are zero; so are all without queries.
template <int kDim>
__device__ void LoadQueries(const RetrievalScoresArgs& a, const StreamChunk& chunk,
                            int64_t query_begin, int num_queries, int first, __nv_bfloat16* tile) {
  constexpr int kPieces = kDim / kPieceElements;
  constexpr int kCount = kTileQueries * kPieces / kThreads;
  const int64_t row_bytes = int64_t{a.index_dim} * sizeof(__nv_bfloat16);
  const int ring_begin = static_cast<int>((query_begin + first) % a.shape.segment_rows);
  // Queries of tokens before the batch are in the ring.
  const int64_t num_in_ring = chunk.first_position - (query_begin + first);
  uint4 x[kCount];  // all asked for before any is stored
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const int at = i * kThreads + static_cast<int>(threadIdx.x);
    const int r = at / kPieces, piece = at % kPieces;
    const int query = first + r < num_queries ? r : 0;
    x[i] = make_uint4(0, 0, 0, 0);
    if (num_queries == 0 || piece * kPieceElements >= a.index_dim) continue;
    const std::byte* row;
    if (query < num_in_ring) {
      int ring_row = ring_begin + query;
      if (ring_row >= a.shape.segment_rows) ring_row -= a.shape.segment_rows;
      row = chunk.state + a.query_ring_offset + ring_row * row_bytes;
    } else {
      row = static_cast<const std::byte*>(a.query) +
            (chunk.first_row + query - num_in_ring) * row_bytes;
    }
    x[i] = reinterpret_cast<const uint4*>(row)[piece];
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const int at = i * kThreads + static_cast<int>(threadIdx.x);
    *reinterpret_cast<uint4*>(tile + PieceOffset<kDim>(at / kPieces, at % kPieces)) = x[i];
  }
}

// Eight numbers of an index key as they lie in memory, and as a right factor's.
template <bool kInt8>
struct KeyPiece {
  using Raw = uint4;
  static constexpr int kBytes = 16;
  static __device__ Raw Zero() { return make_uint4(0, 0, 0, 0); }
  static __device__ uint4 Spread(const Raw& x) { return x; }
};
template <>
struct KeyPiece<true> {
  using Raw = uint2;
  static constexpr int kBytes = 8;
  static __device__ Raw Zero() { return make_uint2(0, 0); }
  static __device__ uint4 Spread(const Raw& x) { return SpreadInt8(x, /*scale=*/1); }
};

// Grid: blocks of entries, segments. Block: 8 warps, 16 entries each at a time against all queries.
// Traffic: every index key once; the queries once a block, mostly from L2.
template <int kDim, bool kInt8>
__global__ void __launch_bounds__(kThreads, kDim <= 128 ? 2 : 1)
    RetrievalScoresKernel(const __grid_constant__ RetrievalScoresArgs a) {
  static_assert(kDim % 64 == 0);
  __shared__ __align__(16) __nv_bfloat16 queries[kTileQueries * kDim];
  const int32_t index = static_cast<int32_t>(blockIdx.y);
  const StreamSegment& segment = a.batch.segments[index];
  const StreamChunk& chunk = a.batch.chunks[segment.chunk];
  if (IsPadding(chunk) || segment.begins == 0) return;
  const int64_t num_entries = a.shape.capacity + NumLeaving(chunk);
  const int64_t block_begin = int64_t{blockIdx.x} * kBlockEntries;
  if (block_begin >= num_entries) return;

  const int num_queries = static_cast<int>(min(segment.start, int64_t{a.shape.segment_rows}));
  const int64_t query_begin = segment.start - num_queries;
  const int j = index - chunk.first_segment;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  using Piece = KeyPiece<kInt8>;
  const int64_t row_bytes =
      kInt8 ? Int8RowBytes(/*heads=*/1, a.index_dim) : int64_t{a.index_dim} * 2;
  const std::byte* slots = chunk.state + a.entry_index_offset;
  const std::byte* staged =
      static_cast<const std::byte*>(a.staged_index) + int64_t{chunk.first_staged} * row_bytes;
  const auto row_of = [&](int64_t entry) {
    return entry < a.shape.capacity ? slots + entry * row_bytes
                                    : staged + (entry - a.shape.capacity) * row_bytes;
  };
  constexpr int kGroups = kDim / 32;  // of 32 inner elements: 8 a lane of four
  constexpr int kTiles = kWarpEntries / 8;
  const bool one_tile = num_queries <= kTileQueries;

  const int64_t block_end = min(block_begin + kBlockEntries, num_entries);
  constexpr int64_t kRoundEntries = kWarps * kWarpEntries;
  // The keys of the warp's entries of a round; zero behind the last entry.
  const auto load = [&](int round, typename Piece::Raw(&raw)[kTiles][kGroups]) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      const int64_t entry =
          block_begin + round * kRoundEntries + warp * kWarpEntries + n * 8 + lane / 4;
      const std::byte* row = row_of(entry);
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        const int piece = g * 4 + lane % 4;
        raw[n][g] = Piece::Zero();
        if (entry < block_end && piece * kPieceElements < a.index_dim) {
          raw[n][g] =
              __ldcs(reinterpret_cast<const typename Piece::Raw*>(row + piece * Piece::kBytes));
        }
      }
    }
  };
  // As right factors.
  uint4 keys[kTiles][kGroups];
  const auto take = [&](const typename Piece::Raw(&raw)[kTiles][kGroups]) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int g = 0; g < kGroups; ++g) keys[n][g] = Piece::Spread(raw[n][g]);
    }
  };
  typename Piece::Raw next[kTiles][kGroups];
  load(0, next);
  if (one_tile) {
    LoadQueries<kDim>(a, chunk, query_begin, num_queries, 0, queries);
    __syncthreads();
  }
  // All warps make the same number of rounds: they may meet at barriers within.
  const int num_rounds = static_cast<int>((block_end - block_begin - 1) / kRoundEntries) + 1;
  for (int round = 0; round < num_rounds; ++round) {
    take(next);
    load(round + 1, next);
    const int64_t begin = block_begin + round * kRoundEntries + warp * kWarpEntries;
    // The first sixteen lanes bring out an entry each.
    const int64_t own = begin + lane / 8 * 8 + lane % 4 * 2 + lane / 4 % 2;
    int32_t born = 0, died = 0;
    float log_gate = 0, key_scale = 1;
    if (lane < 16 && own < block_end) {
      const int64_t row = chunk.first_entry + own;
      born = a.born[row];
      died = a.died[row];
      log_gate = a.row_log_gate[row];
      if constexpr (kInt8) {
        key_scale = *reinterpret_cast<const float*>(row_of(own) +
                                                    EntryScaleOffset(/*heads=*/1, a.index_dim));
      }
    }
    float best[kTiles][2];
#pragma unroll
    for (int n = 0; n < kTiles; ++n) best[n][0] = best[n][1] = -INFINITY;
    for (int first = 0; first < num_queries; first += kTileQueries) {
      if (!one_tile) {
        __syncthreads();
        LoadQueries<kDim>(a, chunk, query_begin, num_queries, first, queries);
        __syncthreads();
      }
      const int rows = min(num_queries - first, kTileQueries);
      for (int m = 0; m < rows; m += 16) {
        float c[kTiles][4] = {};
#pragma unroll
        for (int g = 0; g < kGroups; ++g) {
          const int piece = g * 4 + lane % 4;
          const uint4 low =
              *reinterpret_cast<const uint4*>(queries + PieceOffset<kDim>(m + lane / 4, piece));
          const uint4 high =
              *reinterpret_cast<const uint4*>(queries + PieceOffset<kDim>(m + lane / 4 + 8, piece));
          const uint32_t even[4] = {low.x, high.x, low.y, high.y};
          const uint32_t odd[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
          for (int n = 0; n < kTiles; ++n) {
            MultiplyAdd(c[n], even, keys[n][g].x, keys[n][g].y);
            MultiplyAdd(c[n], odd, keys[n][g].z, keys[n][g].w);
          }
        }
#pragma unroll
        for (int n = 0; n < kTiles; ++n) {
          best[n][0] = fmaxf(best[n][0], fmaxf(c[n][0], c[n][2]));
          best[n][1] = fmaxf(best[n][1], fmaxf(c[n][1], c[n][3]));
        }
      }
    }
    float most = 0;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float x = best[n][i];
        x = fmaxf(x, __shfl_xor_sync(~0u, x, 4));
        x = fmaxf(x, __shfl_xor_sync(~0u, x, 8));
        x = fmaxf(x, __shfl_xor_sync(~0u, x, 16));
        if (lane / 4 == n * 2 + i) most = x;
      }
    }
    if (lane < 16 && own < block_end) {
      const bool alive = num_queries > 0 && born <= j && j < died;
      const float score = alive ? a.temperature * (most * key_scale) : 0.0f;
      a.score[index * a.stride + own] = score;
      a.key[index * a.stride + own] = alive ? score + log_gate : -INFINITY;
    }
  }
}

template <int kDim>
void Launch(const RetrievalScoresArgs& a, dim3 grid, Stream stream) {
  const auto kernel = a.entry_type == EntryType::kInt8 ? RetrievalScoresKernel<kDim, true>
                                                       : RetrievalScoresKernel<kDim, false>;
  kernel<<<grid, kThreads, 0, stream>>>(a);
}

}  // namespace

absl::Status RetrievalScoresCuda(const RetrievalScoresArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateRetrievalScores(a));
  RASQ_RETURN_IF_ERROR(RequireBfloat16("RetrievalScores", a.element));
  // Rows are read in pieces of 16 bytes, and a query tile has to fit.
  if (a.index_dim % 8 != 0 || a.index_dim > 256) {
    return BadArgument("RetrievalScores", "index_dim", a.index_dim);
  }
  if (a.batch.num_segments == 0) return absl::OkStatus();
  // A chunk stages at most its rows and the segment before them. Blocks beyond its entries would
  // have to look that up before they end: many of them cost more than the work.
  const int64_t most_rows = int64_t{a.batch.num_rows} - a.batch.num_chunks + 1;
  const int64_t most_staged =
      std::min<int64_t>(a.batch.num_staged, most_rows + a.shape.segment_rows);
  const int64_t most_entries = std::min(a.stride, a.shape.capacity + most_staged);
  const dim3 grid(static_cast<unsigned>((most_entries + kBlockEntries - 1) / kBlockEntries),
                  a.batch.num_segments);
  if (grid.x == 0) return absl::OkStatus();
  if (a.index_dim <= 64) {
    Launch<64>(a, grid, stream);
  } else if (a.index_dim <= 128) {
    Launch<128>(a, grid, stream);
  } else {
    Launch<256>(a, grid, stream);
  }
  return LaunchStatus("RetrievalScores");
}

}  // namespace rasq
