#include "kernels/base/check_args.h"
#include "kernels/base/cuda_status.h"
#include "kernels/base/status.h"
#include "kernels/compress_entries.h"
#include "kernels/entry_rows_cuda.h"
#include "kernels/row_loops_cuda.h"
#include "kernels/stream_batch_cuda.h"
#include "kernels/tensor_tile_cuda.h"

namespace rasq {
namespace {

// x turned back by the angle of cosine c and sine s; y is its mate in the head's second half.
__device__ void TurnBack(float c, float s, float& x, float& y) {
  const float turned = fmaf(y, s, x * c);
  y = fmaf(-x, s, y * c);
  x = turned;
}

constexpr int kSinkThreads = 256;
constexpr int kSinkBlocks = 8;  // a chunk: sinks leave once in a stream's life, in one batch

// Grid: (num_chunks, up to kSinkBlocks). Block: kSinkThreads. Traffic: the chunks' descriptors, but
// for the few batches in which sinks leave.
__global__ void __launch_bounds__(kSinkThreads) KeepSinksKernel(KeepSinksArgs a) {
  const StreamChunk& c = a.batch.chunks[blockIdx.x];
  if (IsPadding(c)) return;
  const int64_t end = min(c.leave_end, static_cast<int64_t>(a.shape.sink_rows));
  const int64_t half = a.head_dim / 2;
  const int64_t row_elements = int64_t{a.num_kv_heads} * a.head_dim;
  const int64_t row_bytes = row_elements * sizeof(__nv_bfloat16);
  for (int64_t p = c.leave_begin + blockIdx.y; p < end; p += gridDim.y) {
    const auto row = [&](int64_t ring_offset, const void* own) {
      return reinterpret_cast<const __nv_bfloat16*>(
          TokenRow(c, ring_offset, a.shape.ring_rows, own, p, row_bytes));
    };
    const auto sink = [&](int64_t offset) {
      return reinterpret_cast<__nv_bfloat16*>(c.state + offset) + p * row_elements;
    };
    const __nv_bfloat16* k = row(a.ring_k_offset, a.k);
    const __nv_bfloat16* v = row(a.ring_v_offset, a.v);
    __nv_bfloat16* sink_k = sink(a.sink_k_offset);
    __nv_bfloat16* sink_v = sink(a.sink_v_offset);
    const float* rotation = a.rotation + (c.first_staged + p - c.leave_begin) * a.head_dim;
    for (int64_t i = threadIdx.x; i < a.num_kv_heads * half; i += kSinkThreads) {
      const int64_t at = i / half * a.head_dim + i % half;
      float x = __bfloat162float(k[at]), y = __bfloat162float(k[at + half]);
      TurnBack(rotation[i % half], rotation[half + i % half], x, y);
      sink_k[at] = __float2bfloat16_rn(x);
      sink_k[at + half] = __float2bfloat16_rn(y);
      sink_v[at] = v[at];
      sink_v[at + half] = v[at + half];
    }
  }
}

constexpr int kTileTokens = 64;
constexpr int kTileColumns = 64;
constexpr int kThreads = kTileTokens / 16 * 32;  // a warp for 16 tokens
constexpr int kMostWidth = 256;

// Elements between the rows of a tile in shared memory: the width in whole steps of 16, and 8 more,
// so that the eight rows of a matrix load lie in different banks.
__host__ __device__ constexpr int RowPitch(int head_dim) { return (head_dim + 15) / 16 * 16 + 8; }

// Four neighbouring elements, at once if kVector: then x is aligned to 8 bytes.
template <bool kVector>
__device__ Bfloat16x4 LoadHalves(const __nv_bfloat16* x) {
  if constexpr (kVector) return *reinterpret_cast<const Bfloat16x4*>(x);
  return {{x[0], x[1]}, {x[2], x[3]}};
}

// Zeroes in the columns between the width and the next multiple of 16.
__device__ void ZeroMargin(__nv_bfloat16* tile, int head_dim) {
  if (head_dim % 16 == 0) return;
  for (int i = threadIdx.x; i < kTileTokens * 8; i += kThreads) {
    tile[i / 8 * RowPitch(head_dim) + head_dim + i % 8] = __float2bfloat16_rn(0);
  }
}
static_assert(kTileTokens == kTileColumns);

// The tokens' keys, un-rotated, or values as they are. `token` has null for rows without a token.
template <bool kVector>
__device__ void LoadTokens(const CompressEntriesArgs& a, int64_t first_staged, bool is_key,
                           const __nv_bfloat16* const* token, __nv_bfloat16* tile) {
  constexpr int kAtOnce = 4;  // of a thread's loads under way
  const int half = a.head_dim / 2;
  const int fours = half / 4;  // in each half
  const int num_fours = kTileTokens * fours;
  for (int first = threadIdx.x; first < num_fours; first += kThreads * kAtOnce) {
    Bfloat16x4 x[kAtOnce] = {}, y[kAtOnce] = {};
    float4 c[kAtOnce] = {}, s[kAtOnce] = {};
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const int i = first + j * kThreads;
      if (i >= num_fours || token[i / fours] == nullptr) continue;
      const int at = i % fours * 4;
      x[j] = LoadHalves<kVector>(token[i / fours] + at);
      y[j] = LoadHalves<kVector>(token[i / fours] + half + at);
      if (is_key) {
        const float* rotation = a.rotation + (first_staged + i / fours) * a.head_dim;
        c[j] = LoadFour<kVector>(rotation, at, half);
        s[j] = LoadFour<kVector>(rotation + half, at, half);
      }
    }
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const int i = first + j * kThreads;
      if (i >= num_fours) break;
      __nv_bfloat16* to = tile + i / fours * RowPitch(a.head_dim) + i % fours * 4;
      if (is_key) {
        float4 u = ToFloats(x[j]), v = ToFloats(y[j]);
        TurnBack(c[j].x, s[j].x, u.x, v.x);
        TurnBack(c[j].y, s[j].y, u.y, v.y);
        TurnBack(c[j].z, s[j].z, u.z, v.z);
        TurnBack(c[j].w, s[j].w, u.w, v.w);
        x[j] = ToBfloat16x4(u);
        y[j] = ToBfloat16x4(v);
      }
      *reinterpret_cast<Bfloat16x4*>(to) = x[j];
      *reinterpret_cast<Bfloat16x4*>(to + half) = y[j];
    }
  }
}

// Rows [first, first + kTileColumns) of `down` [compressed_dim, head_dim], zeroes behind the last.
template <bool kVector>
__device__ void LoadDown(const CompressEntriesArgs& a, const __nv_bfloat16* down, int first,
                         __nv_bfloat16* tile) {
  const int eights = a.head_dim / 8;
#pragma unroll 4
  for (int i = threadIdx.x; i < kTileColumns * eights; i += kThreads) {
    const int row = i / eights, at = i % eights * 8;
    uint4 x{};
    if (first + row < a.compressed_dim) {
      const __nv_bfloat16* from = down + int64_t{first + row} * a.head_dim + at;
      if constexpr (kVector) {
        x = *reinterpret_cast<const uint4*>(from);
      } else {
        __nv_bfloat16 eight[8];
        for (int j = 0; j < 8; ++j) eight[j] = from[j];
        memcpy(&x, eight, sizeof(x));
      }
    }
    *reinterpret_cast<uint4*>(tile + row * RowPitch(a.head_dim) + at) = x;
  }
}

// c[n] = 16 tokens times the n-th eight columns.
__device__ void Multiply(const __nv_bfloat16* tokens, const __nv_bfloat16* down, int head_dim,
                         float (&c)[kTileColumns / 8][4]) {
  const int lane = threadIdx.x % 32, pitch = RowPitch(head_dim);
  const __nv_bfloat16* left = tokens + lane % 16 * pitch + lane / 16 * 8;
  const __nv_bfloat16* right = down + (lane % 8 + lane / 16 * 8) * pitch + lane / 8 % 2 * 8;
#pragma unroll
  for (auto& four : c) {
    for (float& x : four) x = 0;
  }
  for (int k = 0; k < head_dim; k += 16) {
    uint32_t x[4];
    LoadMatrices(x, left + k);
#pragma unroll
    for (int n = 0; n < kTileColumns / 8; n += 2) {
      uint32_t w[4];
      LoadMatrices(w, right + n * 8 * pitch + k);
      MultiplyAdd(c[n], x, w[0], w[1]);
      MultiplyAdd(c[n + 1], x, w[2], w[3]);
    }
  }
}

// Two neighbours of a token's result.
__device__ void StorePair(float x, float y, __nv_bfloat16* to) {
  if (IsAligned(to, 4)) {
    *reinterpret_cast<__nv_bfloat162*>(to) = __floats2bfloat162_rn(x, y);
  } else {
    to[0] = __float2bfloat16_rn(x);
    to[1] = __float2bfloat16_rn(y);
  }
}

// A lane's part of the tokens' results, in columns [column, column + kTileColumns) of one head.
struct ResultTile {
  const CompressEntriesArgs& a;
  const __nv_bfloat16* const* token;  // null for rows without one
  std::byte* rows;                    // of the staged entries
  int64_t row_bytes;
  int head;
  int lane_row;     // and the one 8 further on
  int lane_column;  // and the next; then every eighth

  // The larger of `most` and what the four lanes of a row have, for the lane's two rows.
  __device__ void UpdateMost(const float (&c)[kTileColumns / 8][4], int column,
                             float (&most)[2]) const {
#pragma unroll
    for (int upper = 0; upper < 2; ++upper) {
#pragma unroll
      for (int n = 0; n < kTileColumns / 8; ++n) {
        if (column + n * 8 >= a.compressed_dim) continue;
        most[upper] = fmaxf(most[upper], fmaxf(fabsf(c[n][2 * upper]), fabsf(c[n][2 * upper + 1])));
      }
      most[upper] = MaxLanes(most[upper], /*lanes=*/4);
    }
  }

  __device__ void Store(const float (&c)[kTileColumns / 8][4], int column) const {
    for (int upper = 0; upper < 2; ++upper) {
      const int row = lane_row + upper * 8;
      if (token[row] == nullptr) continue;
      auto* to = reinterpret_cast<__nv_bfloat16*>(rows + row * row_bytes) +
                 head * a.compressed_dim + column + lane_column;
#pragma unroll
      for (int n = 0; n < kTileColumns / 8; ++n) {
        if (column + n * 8 < a.compressed_dim) {
          StorePair(upper == 0 ? c[n][0] : c[n][2], upper == 0 ? c[n][1] : c[n][3], to + n * 8);
        }
      }
    }
  }

  __device__ void StoreInt8(const float (&c)[kTileColumns / 8][4], int column,
                            const float (&most)[2]) const {
    for (int upper = 0; upper < 2; ++upper) {
      const int row = lane_row + upper * 8;
      if (token[row] == nullptr) continue;
      const Int8Scale int8 = Int8Scale::Of(most[upper]);
      std::byte* to = rows + row * row_bytes;
      if (column == 0 && lane_column == 0) {
        reinterpret_cast<float*>(to + EntryScaleOffset(a.num_kv_heads, a.compressed_dim))[head] =
            int8.scale;
      }
      auto* q = reinterpret_cast<char2*>(to + head * a.compressed_dim + column + lane_column);
#pragma unroll
      for (int n = 0; n < kTileColumns / 8; ++n) {
        if (column + n * 8 >= a.compressed_dim) continue;
        q[n * 4] = make_char2(int8.Round(upper == 0 ? c[n][0] : c[n][2]),
                              int8.Round(upper == 0 ? c[n][1] : c[n][3]));
      }
    }
  }
};

// A block takes kTileTokens staged tokens, keys or values of one head, and a warp 16 of the tokens.
// Grid: (2 * num_kv_heads, num_staged / kTileTokens): blocks of the same tokens run side by side,
// so that whole rows are read. Block: kThreads. Traffic: keys, values and results once; the
// rotation and the weights from L2, once a block. In int8 the largest of a whole vector has to be
// known first: if it is wider than a tile its products are made twice.
template <bool kInt8>
__global__ void __launch_bounds__(kThreads) CompressEntriesKernel(CompressEntriesArgs a) {
  extern __shared__ uint4 shared[];
  __shared__ const __nv_bfloat16* token[kTileTokens];
  auto* tokens = reinterpret_cast<__nv_bfloat16*>(shared);
  __nv_bfloat16* down_tile = tokens + kTileTokens * RowPitch(a.head_dim);
  const int head = blockIdx.x / 2;
  const bool is_key = blockIdx.x % 2 == 0;
  const int64_t row_bytes = int64_t{a.num_kv_heads} * a.head_dim * sizeof(__nv_bfloat16);
  const auto* down = static_cast<const __nv_bfloat16*>(is_key ? a.key_down : a.value_down) +
                     int64_t{head} * a.compressed_dim * a.head_dim;
  auto* out = static_cast<std::byte*>(is_key ? a.staged_k : a.staged_v);
  const int64_t entry_bytes =
      kInt8 ? Int8RowBytes(a.num_kv_heads, a.compressed_dim)
            : int64_t{a.num_kv_heads} * a.compressed_dim * int64_t{sizeof(__nv_bfloat16)};
  const int warp_row = threadIdx.x / 32 * 16;
  const int lane_row = warp_row + threadIdx.x % 32 / 4, lane_column = threadIdx.x % 4 * 2;
  ZeroMargin(tokens, a.head_dim);
  ZeroMargin(down_tile, a.head_dim);
  for (int64_t first = int64_t{blockIdx.y} * kTileTokens; first < a.batch.num_staged;
       first += int64_t{gridDim.y} * kTileTokens) {
    bool present = false;
    bool odd = !IsAligned(a.rotation, 16) || !IsAligned(down, 16);
    if (threadIdx.x < kTileTokens) {
      const __nv_bfloat16* from = nullptr;
      const int64_t staged = first + threadIdx.x;
      if (staged < a.batch.num_staged) {
        const StreamChunk& c = a.batch.chunks[ChunkOfStaged(a.batch, staged)];
        const int64_t i = staged - c.first_staged;
        present = !IsPadding(c) && i >= 0 && i < NumLeaving(c);
        if (present) {
          from = reinterpret_cast<const __nv_bfloat16*>(
                     TokenRow(c, is_key ? a.ring_k_offset : a.ring_v_offset, a.shape.ring_rows,
                              is_key ? a.k : a.v, c.leave_begin + i, row_bytes)) +
                 head * a.head_dim;
          odd = odd || !IsAligned(from, 8);
        }
      }
      token[threadIdx.x] = from;
    }
    // Both are the same for all threads.
    const bool vector = __syncthreads_or(odd) == 0;
    if (__syncthreads_or(present) == 0) continue;
    if (vector) {
      LoadTokens<true>(a, first, is_key, token, tokens);
    } else {
      LoadTokens<false>(a, first, is_key, token, tokens);
    }
    const ResultTile result{.a = a,
                            .token = token,
                            .rows = out + first * entry_bytes,
                            .row_bytes = entry_bytes,
                            .head = head,
                            .lane_row = lane_row,
                            .lane_column = lane_column};
    float most[2] = {};
    const int num_passes = kInt8 && a.compressed_dim > kTileColumns ? 2 : 1;
    for (int pass = 1; pass <= num_passes; ++pass) {
      for (int column = 0; column < a.compressed_dim; column += kTileColumns) {
        if (vector) {
          LoadDown<true>(a, down, column, down_tile);
        } else {
          LoadDown<false>(a, down, column, down_tile);
        }
        __syncthreads();
        float c[kTileColumns / 8][4];
        Multiply(tokens + warp_row * RowPitch(a.head_dim), down_tile, a.head_dim, c);
        if constexpr (kInt8) {
          result.UpdateMost(c, column, most);
          if (pass == num_passes) result.StoreInt8(c, column, most);
        } else {
          result.Store(c, column);
        }
        __syncthreads();  // before the tiles change
      }
    }
  }
}

absl::Status CheckWidth(absl::string_view field, int32_t width) {
  if (width % 8 == 0 && width <= kMostWidth) return absl::OkStatus();
  return BadArgument("CompressEntries", field, width);
}

}  // namespace

absl::Status KeepSinksCuda(const KeepSinksArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateKeepSinks(a));
  RASQ_RETURN_IF_ERROR(RequireBfloat16("KeepSinks", a.element));
  if (a.batch.num_chunks == 0 || a.batch.num_staged == 0 || a.shape.sink_rows == 0) {
    return absl::OkStatus();
  }
  const dim3 grid(GridX(a.batch.num_chunks), std::min(a.shape.sink_rows, kSinkBlocks));
  KeepSinksKernel<<<grid, kSinkThreads, 0, stream>>>(a);
  return LaunchStatus("KeepSinks");
}

absl::Status CompressEntriesCuda(const CompressEntriesArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateCompressEntries(a));
  RASQ_RETURN_IF_ERROR(RequireBfloat16("CompressEntries", a.element));
  RASQ_RETURN_IF_ERROR(CheckWidth("head_dim", a.head_dim));
  RASQ_RETURN_IF_ERROR(CheckWidth("compressed_dim", a.compressed_dim));
  // Two blocks a head.
  RASQ_RETURN_IF_ERROR(CheckRange("CompressEntries", "num_kv_heads", a.num_kv_heads, 1, 1 << 20));
  if (a.batch.num_chunks == 0 || a.batch.num_staged == 0) return absl::OkStatus();
  const int tile_bytes = (kTileTokens + kTileColumns) * RowPitch(a.head_dim) * 2;
  constexpr int kSharedWithoutAsking = 48 * 1024 - kTileTokens * 8;
  const auto kernel =
      a.entry_type == EntryType::kInt8 ? CompressEntriesKernel<true> : CompressEntriesKernel<false>;
  if (tile_bytes > kSharedWithoutAsking) {
    RASQ_RETURN_IF_ERROR(AllowShared(kernel, tile_bytes));
  }
  const dim3 grid(2 * a.num_kv_heads, GridY((a.batch.num_staged - 1) / kTileTokens + 1));
  kernel<<<grid, kThreads, tile_bytes, stream>>>(a);
  return LaunchStatus("CompressEntries");
}

}  // namespace rasq
