#include <cuda_runtime.h>

#include "kernels/attention_keys_cuda.h"
#include "kernels/base/check_args.h"
#include "kernels/base/cuda_status.h"
#include "kernels/base/status.h"
#include "kernels/key_weights.h"
#include "kernels/row_loops_cuda.h"
#include "kernels/tensor_tile_cuda.h"

namespace rasq {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kWarpQueries = 16;
constexpr int kTileQueries = kWarps * kWarpQueries;

template <int kDim>
struct Shared {
  __nv_bfloat16 keys[kTileKeys * kDim];
  __nv_bfloat16 q[kTileQueries * kDim];
  float score[kTileKeys];  // of entries
  float log_gate[kTileKeys];
  float lse[kTileQueries];  // in powers of two; infinity where there is no query
  float weight[kTileQueries];
  float slope[kTileQueries];
  int last[kTileQueries];  // the last token that the query sees
  float sums[kWarps][kTileKeys];
};

// The queries of one kv head: query r is that of the r / group-th token, head r % group.
struct KeyQueries {
  const KeyWeightsArgs& args;
  const SegmentKeys& keys;
  const int group;
  const int64_t first_position;
  const int count;

  __device__ KeyQueries(const KeyWeightsArgs& all, const SegmentKeys& segment_keys)
      : args(all),
        keys(segment_keys),
        group(all.attention.num_heads / all.attention.num_kv_heads),
        first_position(max(all.query_ring_rows > 0 ? int64_t{0} : segment_keys.first_position,
                           End(segment_keys) - all.num_queries)),
        count(static_cast<int>(End(segment_keys) - first_position) * group) {}

  __device__ static int64_t End(const SegmentKeys& segment_keys) {
    return segment_keys.first_position + segment_keys.segment.num_rows;
  }
  __device__ int64_t PositionOf(int r) const { return first_position + r / group; }
  __device__ int HeadOf(int r) const { return keys.kv_head * group + r % group; }
  __device__ bool InRing(int r) const { return PositionOf(r) < keys.chunk.first_position; }
  // In the batch's or the ring's arrays [rows, num_heads].
  __device__ int64_t Index(int r) const {
    const int64_t position = PositionOf(r);
    const int64_t row = InRing(r) ? position % args.query_ring_rows
                                  : keys.chunk.first_row + position - keys.chunk.first_position;
    return row * args.attention.num_heads + HeadOf(r);
  }
  __device__ const __nv_bfloat16* Row(int r) const {
    const void* rows = InRing(r) ? keys.chunk.state + args.query_ring_offset : args.attention.q;
    return static_cast<const __nv_bfloat16*>(rows) + Index(r) * args.attention.head_dim;
  }
  __device__ float Lse(int r) const {
    const void* rows = InRing(r) ? static_cast<const void*>(keys.chunk.state + args.lse_ring_offset)
                                 : args.attention.lse;
    return static_cast<const float*>(rows)[Index(r)];
  }
};

// Columns of `out`: tiles of entries, then tiles of tokens.
struct ColumnTile {
  bool is_entries;
  int first;     // of the tile's keys, of its kind
  int num_keys;  // of its kind
  int num_columns;
  int column;  // of out, of the first

  __device__ ColumnTile(const SegmentKeys& keys, int tile) {
    const StreamShape& shape = keys.a.shape;
    const int entry_tiles = SegmentKeys::NumTiles(shape.max_selected);
    is_entries = tile < entry_tiles;
    first = (is_entries ? tile : tile - entry_tiles) * kTileKeys;
    num_keys = is_entries ? keys.num_entries : keys.num_exact - keys.num_sinks;
    num_columns = is_entries ? shape.max_selected : shape.ring_rows;
    column = is_entries ? first : shape.max_selected + first;
  }

  __device__ const __nv_bfloat16* Key(const SegmentKeys& keys, int r) const {
    const StreamAttentionArgs& a = keys.a;
    const int key = first + r;
    if (key >= num_keys) return nullptr;
    if (is_entries) {
      const int32_t row = a.selected.row[int64_t{keys.list} * a.shape.max_selected + key];
      return keys.EntryHead</*kExact=*/true>(row, a.entry_k_offset, a.staged_k);
    }
    const int64_t row_bytes = int64_t{a.num_kv_heads} * a.head_dim * 2;
    const std::byte* row =
        TokenRow(keys.chunk, a.ring_k_offset, a.shape.ring_rows, a.k, keys.begin + key, row_bytes);
    return reinterpret_cast<const __nv_bfloat16*>(row) + keys.kv_head * a.head_dim;
  }
};

// Starts the copies of 64 rows, row(r) each, or zeroes where that is null.
template <int kDim, typename Row>
__device__ void LoadTile(__nv_bfloat16* tile, int head_dim, const Row& row) {
  constexpr int kPieces = kDim / kPieceElements;
  const int piece = threadIdx.x % kPieces;
  for (int r = threadIdx.x / kPieces; r < kTileKeys; r += kThreads / kPieces) {
    const __nv_bfloat16* from = row(r);
    const bool inside = from != nullptr && piece * kPieceElements < head_dim;
    CopyPieceAsync(tile + TileOffset<kDim>(r, piece),
                   inside ? from + piece * kPieceElements : nullptr);
  }
}
static_assert(kTileQueries == kTileKeys);

// Grid: kv heads times tiles of columns, segments. Block: 4 warps, which share the queries of a
// tile; it has its 64 columns for itself, so that sums are always in the same order. Traffic: each
// key once, the queries once a block, from L2.
template <int kDim>
__global__ void __launch_bounds__(kThreads)
    KeyWeightsKernel(const __grid_constant__ KeyWeightsArgs args, int num_tiles) {
  extern __shared__ __align__(128) std::byte memory[];
  auto& shared = *reinterpret_cast<Shared<kDim>*>(memory);
  const StreamAttentionArgs& a = args.attention;
  const auto index = static_cast<int32_t>(blockIdx.y);
  if (IsPadding(a.batch.chunks[a.batch.segments[index].chunk])) return;
  const int kv_head = static_cast<int>(blockIdx.x) / num_tiles;
  const SegmentKeys keys(a, index, kv_head,
                         SegmentKeys::ListOf</*kExact=*/true>(a, index, kv_head));
  const ColumnTile tile(keys, static_cast<int>(blockIdx.x) % num_tiles);
  const KeyQueries queries(args, keys);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, thread = threadIdx.x;

  LoadTile<kDim>(shared.keys, a.head_dim, [&](int r) { return tile.Key(keys, r); });
  if (thread < kTileKeys && tile.is_entries && tile.first + thread < tile.num_keys) {
    const int64_t at = int64_t{keys.list} * a.shape.max_selected + tile.first + thread;
    shared.score[thread] = a.selected.score == nullptr ? 0.0f : a.selected.score[at];
    shared.log_gate[thread] = a.selected.log_gate == nullptr ? 0.0f : a.selected.log_gate[at];
  }
  const float logit_scale = rsqrtf(static_cast<float>(a.head_dim));
  float sums[kTileKeys / 8][2] = {};  // of the lane's rows
  const int num_queries = tile.first < tile.num_keys ? queries.count : 0;
  for (int first = 0; first < num_queries; first += kTileQueries) {
    LoadTile<kDim>(shared.q, a.head_dim, [&](int r) {
      return first + r < queries.count ? queries.Row(first + r) : nullptr;
    });
    if (thread < kTileQueries) {
      const int query = min(first + thread, queries.count - 1);
      const int head = queries.HeadOf(query);
      shared.lse[thread] = first + thread < queries.count ? queries.Lse(query) * kLog2E : INFINITY;
      shared.weight[thread] = WeightOf(a.score_weight, head);
      shared.slope[thread] = WeightOf(a.age_slope, head);
      shared.last[thread] = static_cast<int>(queries.PositionOf(query) - keys.begin);
    }
    CommitCopies();
    WaitCopies<0>();
    __syncthreads();
    uint32_t q[kDim / 16][4];
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      LoadLeft<kDim>(q[k], shared.q, warp * kWarpQueries, k * 16);
    }
    float logits[kTileKeys / 8][4];
    ScoreKeys<kDim, kTileKeys>(q, shared.keys, 0, logits);
#pragma unroll
    for (int n = 0; n < kTileKeys / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = warp * kWarpQueries + lane / 4 + i / 2 * 8;
        const int at = n * 8 + lane % 4 * 2 + i % 2;
        float bias = tile.first + at <= shared.last[row] ? 0.0f : -INFINITY;
        if (tile.is_entries) {
          bias = keys.EntryBias</*kMaySummarize=*/false>(tile.first + at, shared.score[at],
                                                         shared.log_gate[at], shared.weight[row],
                                                         shared.slope[row]);
        }
        const float logit = fmaf(logits[n][i], logit_scale, bias);
        sums[n][i % 2] += Exp2(fmaf(logit, kLog2E, -shared.lse[row]));
      }
    }
    __syncthreads();  // before the next queries come
  }
#pragma unroll
  for (int n = 0; n < kTileKeys / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float sum = sums[n][i];
      sum += __shfl_xor_sync(~0u, sum, 4);
      sum += __shfl_xor_sync(~0u, sum, 8);
      sum += __shfl_xor_sync(~0u, sum, 16);
      if (lane < 4) shared.sums[warp][n * 8 + lane * 2 + i] = sum;
    }
  }
  __syncthreads();
  if (thread >= kTileKeys || tile.first + thread >= tile.num_columns) return;
  float* out = args.out + (int64_t{index} * a.num_kv_heads + kv_head) * KeyColumns(a.shape) +
               tile.column + thread;
  if (tile.first + thread >= tile.num_keys) {
    if (!args.accumulate) *out = 0;
    return;
  }
  float sum = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) sum += shared.sums[w][thread];
  if (!args.sum_heads) sum /= static_cast<float>(queries.group);
  *out = args.accumulate ? *out + sum : sum;
}

template <int kDim>
absl::Status Launch(const KeyWeightsArgs& args, Stream stream) {
  constexpr int kBytes = sizeof(Shared<kDim>);
  const StreamAttentionArgs& a = args.attention;
  RASQ_RETURN_IF_ERROR(AllowShared(KeyWeightsKernel<kDim>, kBytes));
  const int num_tiles = (a.shape.max_selected + kTileKeys - 1) / kTileKeys +
                        (a.shape.ring_rows + kTileKeys - 1) / kTileKeys;
  const dim3 grid(a.num_kv_heads * num_tiles, a.batch.num_segments);
  KeyWeightsKernel<kDim><<<grid, kThreads, kBytes, stream>>>(args, num_tiles);
  return LaunchStatus("KeyWeights");
}

}  // namespace

absl::Status KeyWeightsCuda(const KeyWeightsArgs& args, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateKeyWeights(args));
  const StreamAttentionArgs& a = args.attention;
  RASQ_RETURN_IF_ERROR(RequireBfloat16("KeyWeights", a.element));
  // Rows are read in pieces of 16 bytes.
  if (a.head_dim % 16 != 0 || a.head_dim > 128) {
    return BadArgument("KeyWeights", "head_dim", a.head_dim);
  }
  if (a.batch.num_segments == 0) return absl::OkStatus();
  return a.head_dim <= 64 ? Launch<64>(args, stream) : Launch<128>(args, stream);
}

}  // namespace rasq
