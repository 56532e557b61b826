#include <cuda_runtime.h>

#include <cmath>

#include "kernels/base/cuda_status.h"
#include "kernels/base/status.h"
#include "kernels/block_reduce_cuda.h"
#include "kernels/chunk_entries.h"
#include "kernels/head_lists_cuda.h"
#include "kernels/row_loops_cuda.h"

namespace rasq {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

template <typename T>
__device__ T* InState(const StreamChunk& chunk, int64_t offset, int64_t element) {
  return reinterpret_cast<T*>(chunk.state + offset) + element;
}

// One kv head of a stream, and the block that works on it.
struct ChunkHead {
  __device__ ChunkHead(const ChunkEntriesArgs& args, const StreamChunk& stream, int kv_head)
      : a(args),
        chunk(stream),
        head(kv_head),
        dim(args.store.head_dim),
        first(int64_t{kv_head} * args.chunks),
        number(InState<int32_t>(stream, args.table.number, first)),
        key_sum(InState<float>(stream, args.table.key_sum, first * dim)),
        used(InState<float>(stream, args.table.used, first)),
        read_count(InState<int32_t>(stream, args.table.read_count, kv_head)),
        read_chunk(
            InState<int32_t>(stream, args.table.read_chunk, int64_t{kv_head} * args.read_chunks)),
        read_weight(
            InState<float>(stream, args.table.read_weight, int64_t{kv_head} * args.read_chunks)) {}

  __device__ int64_t RowOf(int64_t slot, int64_t token) const {
    return (first + slot) * kChunkRows + token;
  }
  __device__ int TokensOf(int64_t chunk_number) const {
    return static_cast<int>(min(int64_t{kChunkRows}, chunk.leave_end - chunk_number * kChunkRows));
  }

  // Whether slot s makes room sooner than slot t: empty ones first, then by use, then by age.
  __device__ bool Sooner(int s, int t) const {
    if ((number[s] == 0) != (number[t] == 0)) return number[s] == 0;
    if (number[s] == 0) return s < t;
    return used[s] != used[t] ? used[s] < used[t] : number[s] < number[t];
  }

  // The slot of a chunk, in all threads; a new one takes an empty slot, or that of another.
  __device__ int SlotOf(int64_t chunk_number) const {
    __shared__ int own[kThreads];
    int best = -1;
    for (int s = threadIdx.x; s < a.chunks; s += kThreads) {
      const bool found = number[s] == chunk_number + 1;
      const bool had = best >= 0 && number[best] == chunk_number + 1;
      if (best < 0 || found || (!had && Sooner(s, best))) best = s;
    }
    own[threadIdx.x] = best;
    __syncthreads();
    if (threadIdx.x == 0) {
      for (int t = 1; t < kThreads; ++t) {
        const int s = own[t];
        if (s < 0) continue;
        const bool found = number[s] == chunk_number + 1;
        const bool had = number[best] == chunk_number + 1;
        if (found || (!had && Sooner(s, best))) best = s;
      }
      own[0] = best;
    }
    __syncthreads();
    const int slot = own[0];
    const bool is_new = number[slot] != chunk_number + 1;
    __syncthreads();
    if (is_new) {
      for (int d = threadIdx.x; d < dim; d += kThreads) key_sum[int64_t{slot} * dim + d] = 0;
      if (threadIdx.x == 0) {
        number[slot] = static_cast<int32_t>(chunk_number + 1);
        used[slot] = 0;
      }
    }
    __syncthreads();
    return slot;
  }

  __device__ void KeepLeaving() const {
    for (int64_t begin = chunk.leave_begin; begin < chunk.leave_end;) {
      const int64_t chunk_number = begin / kChunkRows;
      const int64_t end = min(chunk.leave_end, (chunk_number + 1) * kChunkRows);
      const int slot = SlotOf(chunk_number);
      for (int64_t p = begin + threadIdx.x / 32; p < end; p += kWarps) {
        KeepRow(a.store, chunk, head, p, RowOf(slot, p % kChunkRows));
      }
      for (int d = threadIdx.x; d < dim; d += kThreads) {
        float sum = key_sum[int64_t{slot} * dim + d];
        for (int64_t p = begin; p < end; ++p) {
          sum += __bfloat162float(RingRow(a.store, chunk, head, /*key=*/true, p)[d]);
        }
        key_sum[int64_t{slot} * dim + d] = sum;
      }
      begin = end;
      __syncthreads();
    }
  }

  // A warp a chunk: its landmark is read once.
  __device__ void Score(float* score) const {
    const float* query = InState<float>(chunk, a.table.query_sum, int64_t{head} * dim);
    const int count = *InState<int32_t>(chunk, a.table.query_count, head);
    const float scale = 1.0f / (static_cast<float>(max(count, 1)) * sqrtf(static_cast<float>(dim)));
    const int lane = threadIdx.x % 32;
    for (int s = threadIdx.x / 32; s < a.chunks; s += kWarps) {
      if (number[s] == 0) continue;
      float sum = 0;
      for (int d = lane; d < dim; d += 32) {
        sum = fmaf(query[d], key_sum[int64_t{s} * dim + d], sum);
      }
      sum = SumLanes(sum);
      if (lane == 0) score[s] = sum * scale / static_cast<float>(TokensOf(number[s] - 1));
    }
    __syncthreads();
  }

  // Fewer than read_chunks others come before what is read; they stand by their number.
  __device__ void Choose(const float* score) const {
    __shared__ int32_t chosen[kMaxReadChunks];
    __shared__ int size;
    if (threadIdx.x == 0) size = 0;
    __syncthreads();
    for (int s = threadIdx.x; s < a.chunks; s += kThreads) {
      if (number[s] == 0) continue;
      int before = 0;
      for (int t = 0; t < a.chunks; ++t) {
        if (number[t] == 0) continue;
        before += score[t] > score[s] || (score[t] == score[s] && number[t] > number[s]) ? 1 : 0;
      }
      if (before < a.read_chunks) chosen[Append(&size)] = s;
    }
    __syncthreads();
    const int i = static_cast<int>(threadIdx.x);
    if (i < size) {
      int place = 0;
      float most = -INFINITY, sum = 0;
      for (int t = 0; t < size; ++t) {
        most = fmaxf(most, score[chosen[t]]);
        place += number[chosen[t]] < number[chosen[i]] ? 1 : 0;
      }
      // In order of their numbers, so that the sum does not depend on who came first.
      for (int rank = 0; rank < size; ++rank) {
        for (int t = 0; t < size; ++t) {
          int smaller = 0;
          for (int u = 0; u < size; ++u) smaller += number[chosen[u]] < number[chosen[t]] ? 1 : 0;
          if (smaller == rank) sum += expf(score[chosen[t]] - most);
        }
      }
      const float weight = expf(score[chosen[i]] - most) / sum;
      read_chunk[place] = chosen[i];
      read_weight[place] = weight;
      used[chosen[i]] += weight;
    }
    if (threadIdx.x == 0) *read_count = size;
    __syncthreads();
  }

  __device__ void List(int64_t list) const {
    const int64_t stride = a.store.shape.max_selected;
    const int count = *read_count * kChunkRows;
    for (int i = threadIdx.x; i < count; i += kThreads) {
      const int32_t slot = read_chunk[i / kChunkRows];
      a.lists.row[list * stride + i] = static_cast<int32_t>(RowOf(slot, i % kChunkRows));
      a.lists.bias[list * stride + i] = i % kChunkRows < TokensOf(number[slot] - 1) ? 0 : -INFINITY;
      if (i % kChunkRows == 0) {
        a.fused_weight[list * (stride / kChunkRows) + i / kChunkRows] = read_weight[i / kChunkRows];
      }
    }
    if (threadIdx.x == 0) a.lists.count[list] = count;
  }

  const ChunkEntriesArgs& a;
  const StreamChunk& chunk;
  const int head;
  const int dim;
  const int64_t first;
  int32_t* number;
  float* key_sum;
  float* used;
  int32_t* read_count;
  int32_t* read_chunk;
  float* read_weight;
};

// Grid: num_segments x num_kv_heads. Block: kThreads. Traffic: what leaves, and where a segment
// begins every landmark once.
__global__ void __launch_bounds__(kThreads) ChunkEntriesKernel(ChunkEntriesArgs a) {
  const StreamSegment& segment = a.store.batch.segments[blockIdx.x];
  const StreamChunk& chunk = a.store.batch.chunks[segment.chunk];
  if (IsPadding(chunk)) return;
  const ChunkHead head(a, chunk, blockIdx.y);
  const int64_t list = int64_t{blockIdx.x} * a.store.num_kv_heads + blockIdx.y;
  head.KeepLeaving();
  if (segment.begins != 0) {
    float* score = a.score + list * a.chunks;
    head.Score(score);
    head.Choose(score);
  }
  head.List(list);
}

// A thread a column. Grid: num_segments x num_kv_heads. Block: kThreads. Traffic: the queries once.
__global__ void __launch_bounds__(kThreads) ChunkQueriesKernel(ChunkQueriesArgs a) {
  const StreamSegment& segment = a.batch.segments[blockIdx.x];
  const StreamChunk& chunk = a.batch.chunks[segment.chunk];
  if (IsPadding(chunk)) return;
  const int head = blockIdx.y, group = a.num_heads / a.num_kv_heads;
  float* sums = InState<float>(chunk, a.table.query_sum, int64_t{head} * a.head_dim);
  for (int d = threadIdx.x; d < a.head_dim; d += kThreads) {
    float sum = segment.begins != 0 ? 0 : sums[d];
    for (int64_t row = segment.first_row; row < segment.first_row + segment.num_rows; ++row) {
      float mean = 0;
      for (int g = 0; g < group; ++g) {
        const int64_t at = row * a.num_heads + head * group + g;
        mean += __bfloat162float(static_cast<const __nv_bfloat16*>(a.q)[at * a.head_dim + d]);
      }
      sum += mean * (1.0f / static_cast<float>(group));
    }
    sums[d] = sum;
  }
  if (threadIdx.x != 0) return;
  int32_t* count = InState<int32_t>(chunk, a.table.query_count, head);
  *count = (segment.begins != 0 ? 0 : *count) + segment.num_rows;
}

}  // namespace

absl::Status ChunkEntriesCuda(const ChunkEntriesArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateChunkEntries(a));
  RASQ_RETURN_IF_ERROR(RequireBfloat16("ChunkEntries", a.store.element));
  if (a.store.batch.num_segments == 0) return absl::OkStatus();
  const dim3 grid(a.store.batch.num_segments, a.store.num_kv_heads);
  ChunkEntriesKernel<<<grid, kThreads, 0, stream>>>(a);
  return LaunchStatus("ChunkEntries");
}

absl::Status ChunkQueriesCuda(const ChunkQueriesArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateChunkQueries(a));
  RASQ_RETURN_IF_ERROR(RequireBfloat16("ChunkQueries", a.element));
  if (a.batch.num_segments == 0) return absl::OkStatus();
  const dim3 grid(a.batch.num_segments, a.num_kv_heads);
  ChunkQueriesKernel<<<grid, kThreads, 0, stream>>>(a);
  return LaunchStatus("ChunkQueries");
}

}  // namespace rasq
