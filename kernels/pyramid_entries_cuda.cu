#include <cuda_runtime.h>

#include <cmath>

#include "kernels/base/check_args.h"
#include "kernels/base/cuda_status.h"
#include "kernels/base/status.h"
#include "kernels/block_reduce_cuda.h"
#include "kernels/head_lists_cuda.h"
#include "kernels/pyramid_entries.h"
#include "kernels/row_loops_cuda.h"

namespace rasq {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kMostWidth = 256;         // head_dim: a key is held in registers
constexpr int kQueryBytes = 32 * 1024;  // of queries in shared memory at a time
constexpr int kMostLeaving = 1024;      // of a segment

// What one kv head of a chunk has, and what it may keep.
struct Head {
  __device__ Head(const PyramidEntriesArgs& a, int segment, int kv)
      : chunk(a.store.batch.chunks[a.store.batch.segments[segment].chunk]), kv_head(kv) {
    if (IsPadding(chunk)) return;
    order = reinterpret_cast<int32_t*>(chunk.state + a.order_offset) + int64_t{kv} * a.rows;
    count_in_state = reinterpret_cast<int32_t*>(chunk.state + a.count_offset) + kv;
    is_new = chunk.leave_begin == 0;
    count = is_new ? 0 : *count_in_state;
    leaving = static_cast<int>(NumLeaving(chunk));
    budget = a.budget[a.store.batch.segments[segment].chunk];
    chooses = budget >= 0 && count + leaving > budget;
  }
  // The row of the head's own that stands at a place of its order.
  __device__ int32_t Row(int place) const { return is_new ? place : order[place]; }

  const StreamChunk& chunk;
  int kv_head;
  int32_t* order = nullptr;
  int32_t* count_in_state = nullptr;
  bool is_new = false;
  int count = 0, leaving = 0, budget = 0;
  bool chooses = false;
};

// The weights of a head's tokens, where they choose. A warp a token, whose key is read once; the
// queries lie in shared memory. Grid: tokens / kWarps (strided) x num_kv_heads x num_segments.
__global__ void __launch_bounds__(kThreads) WeightsKernel(PyramidEntriesArgs a, int tile_queries) {
  extern __shared__ float shared[];  // [tile_queries, group, head_dim], then their lse
  const Head head(a, blockIdx.z, blockIdx.y);
  if (!head.chooses) return;
  const int dim = a.store.head_dim, group = a.num_heads / a.store.num_kv_heads;
  const int lane = threadIdx.x % 32;
  const int all = head.count + head.leaving;
  const int queries = static_cast<int>(min(head.chunk.first_position, int64_t{a.num_queries}));
  float* lse = shared + tile_queries * group * dim;
  const float scale = rsqrtf(static_cast<float>(dim));
  float* weight = a.weight + (int64_t{blockIdx.z} * a.store.num_kv_heads + head.kv_head) *
                                 (a.rows + a.store.shape.segment_rows);
  for (int first = 0; first < queries; first += tile_queries) {
    const int tile = min(tile_queries, queries - first) * group;
    __syncthreads();  // the tile before has been read
    for (int i = threadIdx.x; i < tile * dim; i += kThreads) {
      const int64_t row =
          (head.chunk.first_position - queries + first + i / dim / group) % a.num_queries;
      const int64_t at = row * a.num_heads + head.kv_head * group + i / dim % group;
      shared[i] = __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(
                      head.chunk.state + a.query_offset)[at * dim + i % dim]) *
                  scale;
      if (i % dim == 0) {
        lse[i / dim] = reinterpret_cast<const float*>(head.chunk.state + a.lse_offset)[at];
      }
    }
    __syncthreads();
    for (int j = blockIdx.x * kWarps + threadIdx.x / 32; j < all; j += gridDim.x * kWarps) {
      const __nv_bfloat16* from = j < head.count
                                      ? StoredRow(a.store, head.chunk, /*key=*/true,
                                                  int64_t{head.kv_head} * a.rows + head.Row(j))
                                      : RingRow(a.store, head.chunk, head.kv_head, /*key=*/true,
                                                head.chunk.leave_begin + j - head.count);
      float key[kMostWidth / 32];
#pragma unroll
      for (int d = 0; d < kMostWidth / 32; ++d) {
        key[d] = lane + 32 * d < dim ? __bfloat162float(from[lane + 32 * d]) : 0;
      }
      float sum = 0;
      for (int i = 0; i < tile; ++i) {
        float dot = 0;
#pragma unroll
        for (int d = 0; d < kMostWidth / 32; ++d) {
          if (lane + 32 * d < dim) dot = fmaf(key[d], shared[i * dim + lane + 32 * d], dot);
        }
        sum += expf(SumLanes(dot) - lse[i]);
      }
      if (lane == 0) weight[j] = (first > 0 ? weight[j] : 0) + sum / static_cast<float>(group);
    }
  }
}

// Larger for what stays sooner: by the pooled weight, then the own. Weights are not negative, so
// their bits have their order.
__device__ uint64_t KeyOf(const float* weight, int all, int half, int j) {
  float pooled = weight[j];
  for (int i = max(0, j - half); i <= min(all - 1, j + half); ++i)
    pooled = fmaxf(pooled, weight[i]);
  return uint64_t{__float_as_uint(pooled)} << 32 | __float_as_uint(weight[j]);
}

// How many of the block's threads before this one have `flag`; `total` is of all.
__device__ int CountBefore(bool flag, int* total) {
  __shared__ int warp_count[kWarps];
  const unsigned votes = __ballot_sync(kAllLanes, flag);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  __syncthreads();
  if (lane == 0) warp_count[warp] = __popc(votes);
  __syncthreads();
  int before = __popc(votes & ((1u << lane) - 1));
  *total = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w < warp) before += warp_count[w];
    *total += warp_count[w];
  }
  return before;
}

// Whether token j stays: fewer than `budget` others come before it. The whole block must call it;
// keys are brought to shared memory a tile at a time.
__device__ bool Stays(const float* weight, int all, int half, int budget, int j) {
  __shared__ uint64_t tile[kThreads];
  const uint64_t own = j < all ? KeyOf(weight, all, half, j) : 0;
  int before = 0;
  for (int first = 0; first < all; first += kThreads) {
    const int i = first + static_cast<int>(threadIdx.x);
    __syncthreads();
    tile[threadIdx.x] = i < all ? KeyOf(weight, all, half, i) : 0;
    __syncthreads();
    const int size = min(kThreads, all - first);
    for (int t = 0; t < size; ++t) {
      before += tile[t] > own || (tile[t] == own && first + t > j) ? 1 : 0;
    }
  }
  return j < all && before < budget;
}

// Chooses, keeps and lists. Grid: num_segments x num_kv_heads. Block: kThreads. A choice compares
// every weight with every other, a step that comes once a segment, or once a generation.
__global__ void __launch_bounds__(kThreads) KeepKernel(PyramidEntriesArgs a) {
  __shared__ bool leaver_stays[kMostLeaving];
  __shared__ int32_t leaver_row[kMostLeaving];
  Head head(a, blockIdx.x, blockIdx.y);
  if (IsPadding(head.chunk)) return;
  const int64_t list = int64_t{blockIdx.x} * a.store.num_kv_heads + head.kv_head;
  const int64_t own = list * (a.rows + a.store.shape.segment_rows);
  const float* weight = a.weight + own;
  int32_t* freed = a.scratch + own;  // rows that are free afterwards, in the order they are taken
  int32_t* row = a.lists.row + list * a.store.shape.max_selected;
  float* bias = a.lists.bias + list * a.store.shape.max_selected;
  const int half = a.pool_rows / 2, all = head.count + head.leaving;
  const int32_t base = head.kv_head * a.rows;

  int kept = 0, num_freed = a.rows - head.count;
  for (int i = threadIdx.x; i < num_freed; i += kThreads) freed[i] = head.Row(head.count + i);
  for (int first = 0; first < all; first += kThreads) {
    const int j = first + static_cast<int>(threadIdx.x);
    const bool stays = head.chooses ? Stays(weight, all, half, head.budget, j) : j < all;
    const bool is_old = j < head.count;
    int num_kept = 0, num_gone = 0;
    const int place = kept + CountBefore(is_old && stays, &num_kept);
    const int gone = num_freed + CountBefore(is_old && !stays, &num_gone);
    if (is_old) {
      stays ? row[place] = base + head.Row(j) : freed[gone] = head.Row(j);
    } else if (j < all) {
      leaver_stays[j - head.count] = stays;
    }
    kept += num_kept;
    num_freed += num_gone;
  }
  __syncthreads();
  __shared__ int newcomers;
  if (threadIdx.x == 0) {
    newcomers = 0;
    for (int i = 0; i < head.leaving; ++i) {
      leaver_row[i] = leaver_stays[i] ? freed[newcomers] : -1;
      if (leaver_stays[i]) row[kept + newcomers++] = base + leaver_row[i];
    }
  }
  __syncthreads();
  for (int i = threadIdx.x / 32; i < head.leaving; i += kWarps) {
    if (leaver_row[i] < 0) continue;
    KeepRow(a.store, head.chunk, head.kv_head, head.chunk.leave_begin + i, base + leaver_row[i]);
  }
  const int count = kept + newcomers;
  for (int i = threadIdx.x; i < count; i += kThreads) bias[i] = 0;
  if (threadIdx.x == 0) a.lists.count[list] = count;
  if (head.leaving == 0 && !head.chooses && !head.is_new) return;
  for (int i = threadIdx.x; i < a.rows; i += kThreads) {
    head.order[i] = i < count ? row[i] - base : freed[newcomers + i - count];
  }
  if (threadIdx.x == 0) *head.count_in_state = count;
}

}  // namespace

absl::Status PyramidEntriesCuda(const PyramidEntriesArgs& a, Stream stream) {
  constexpr char kOp[] = "PyramidEntries";
  RASQ_RETURN_IF_ERROR(ValidatePyramidEntries(a));
  RASQ_RETURN_IF_ERROR(RequireBfloat16(kOp, a.store.element));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "head_dim", a.store.head_dim, 1, kMostWidth));
  RASQ_RETURN_IF_ERROR(
      CheckRange(kOp, "segment_rows", a.store.shape.segment_rows, 1, kMostLeaving));
  const int group = a.num_heads / a.store.num_kv_heads;
  const int query_bytes = group * (a.store.head_dim + 1) * static_cast<int>(sizeof(float));
  RASQ_RETURN_IF_ERROR(
      CheckRange(kOp, "num_heads / num_kv_heads", group, 1, group * kQueryBytes / query_bytes));
  if (a.store.batch.num_segments == 0) return absl::OkStatus();
  const int tile = min(a.num_queries, kQueryBytes / query_bytes);
  const int64_t tokens = int64_t{a.rows} + a.store.shape.segment_rows;
  constexpr int kTokensPerBlock = 8 * kWarps;
  const dim3 grid((tokens + kTokensPerBlock - 1) / kTokensPerBlock, a.store.num_kv_heads,
                  a.store.batch.num_segments);
  WeightsKernel<<<grid, kThreads, tile * query_bytes, stream>>>(a, tile);
  RASQ_RETURN_IF_ERROR(LaunchStatus(kOp));
  KeepKernel<<<dim3(a.store.batch.num_segments, a.store.num_kv_heads), kThreads, 0, stream>>>(a);
  return LaunchStatus(kOp);
}

}  // namespace rasq
