#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/base/check_args.h"
#include "kernels/base/cuda_status.h"
#include "kernels/base/status.h"
#include "kernels/block_reduce_cuda.h"
#include "kernels/cluster_entries.h"
#include "kernels/entry_rows_cuda.h"
#include "kernels/row_loops_cuda.h"
#include "kernels/stream_batch_cuda.h"

namespace rasq {
namespace {

constexpr int kThreads = 256;
constexpr int kCopyThreads = 256;
constexpr int kPieceElements = 8;  // of 16 bytes
constexpr int kAtOnce = 8;         // centroids whose distances to an entry are summed side by side
// As of the selection (select_entries_cuda.cu): entries are counted in 16 bits.
constexpr int64_t kMostSelected = 16384;
constexpr int64_t kMostShared = 224 << 10;  // of a block, with room for what is static

// What a block keeps in its dynamic shared memory, in this order.
struct SharedSizes {
  int centroid_bytes;  // float [num_clusters, compressed_dim]
  int list_bytes;      // uint16 [max_selected], twice
  int cluster_bytes;   // uint8 [max_selected]
  int key_stride;      // bytes of an entry's key, from bank to bank; 0: keys stay in memory
  int total;
};

// Eight numbers of a row.
struct Piece {
  float x[kPieceElements];

  __device__ explicit Piece(const uint4& bits) {
    const auto* from = reinterpret_cast<const __nv_bfloat16*>(&bits);
#pragma unroll
    for (int i = 0; i < kPieceElements; ++i) x[i] = __bfloat162float(from[i]);
  }
};

// An entry's key or value, as pieces of elements.
struct EntryVector {
  const std::byte* bytes;
  bool is_int8 = false;
  float scale = 0;

  __device__ uint4 operator[](int piece) const {
    if (!is_int8) return reinterpret_cast<const uint4*>(bytes)[piece];
    return SpreadInt8(reinterpret_cast<const uint2*>(bytes)[piece], scale);
  }
};

// The entries of one segment and kv head, and their clusters.
struct Clustering {
  const ClusterEntriesArgs& a;
  const StreamChunk chunk;
  const int64_t index;  // of the segment
  const int kv_head;
  const int count;
  const int num_clusters;
  const int width;
  const int pieces;  // of a row
  // In shared memory.
  float* centroid;
  uint16_t* rank;   // of each entry in its cluster
  uint16_t* order;  // entries by cluster, then by number
  uint8_t* cluster;
  std::byte* key;
  int key_stride;
  int32_t* size;   // [kMaxClusters]
  int32_t* first;  // [kMaxClusters + 1]: in `order`

  __device__ EntryVector Row(int entry, int64_t entries_offset, const void* staged) const {
    const int32_t row = a.selected.row[index * a.shape.max_selected + entry];
    const bool in_state = row < a.shape.capacity;
    const std::byte* rows =
        in_state ? chunk.state + entries_offset : static_cast<const std::byte*>(staged);
    const int64_t at = in_state ? row : int64_t{chunk.first_staged} + row - a.shape.capacity;
    if (a.entry_type == EntryType::kElement) {
      return {.bytes = rows + (at * a.num_kv_heads + kv_head) * width * sizeof(__nv_bfloat16)};
    }
    rows += at * Int8RowBytes(a.num_kv_heads, width);
    return {.bytes = rows + kv_head * width,
            .is_int8 = true,
            .scale = reinterpret_cast<const float*>(
                rows + EntryScaleOffset(a.num_kv_heads, width))[kv_head]};
  }
  __device__ EntryVector Key(int entry) const {
    if (key_stride == 0) return Row(entry, a.entry_k_offset, a.staged_k);
    return {.bytes = key + entry * key_stride};
  }

  __device__ void LoadKeys() const {
    if (key_stride == 0) return;
#pragma unroll 4
    for (int at = threadIdx.x; at < count * pieces; at += kThreads) {
      const int entry = at / pieces, piece = at % pieces;
      reinterpret_cast<uint4*>(key + entry * key_stride)[piece] =
          Row(entry, a.entry_k_offset, a.staged_k)[piece];
    }
  }

  __device__ void Start() const {
    for (int at = threadIdx.x; at < num_clusters * pieces; at += kThreads) {
      const int c = at / pieces, piece = at % pieces;
      PutCentroid(c, piece, Piece(Key(c * count / num_clusters)[piece]).x);
    }
  }

  __device__ void PutCentroid(int c, int piece, const float (&x)[kPieceElements]) const {
    auto* to = reinterpret_cast<float4*>(centroid + c * width + piece * kPieceElements);
    to[0] = make_float4(x[0], x[1], x[2], x[3]);
    to[1] = make_float4(x[4], x[5], x[6], x[7]);
  }

  // Each entry to the nearest centroid. Steps are rounded one by one, as on the CPU: no fused
  // multiply-add.
  __device__ void Assign() const {
    for (int entry = threadIdx.x; entry < count; entry += kThreads) {
      const EntryVector row = Key(entry);
      float best = INFINITY;
      int nearest = 0;
      for (int begin = 0; begin < num_clusters; begin += kAtOnce) {
        float distance[kAtOnce] = {};
        for (int piece = 0; piece < pieces; ++piece) {
          const Piece x(row[piece]);
#pragma unroll
          for (int i = 0; i < kAtOnce; ++i) {
            const int c = min(begin + i, num_clusters - 1);
            float y[kPieceElements];
            const auto* from =
                reinterpret_cast<const float4*>(centroid + c * width + piece * kPieceElements);
            *reinterpret_cast<float4*>(y) = from[0];
            *reinterpret_cast<float4*>(y + 4) = from[1];
#pragma unroll
            for (int d = 0; d < kPieceElements; ++d) {
              const float difference = __fsub_rn(x.x[d], y[d]);
              distance[i] = __fadd_rn(distance[i], __fmul_rn(difference, difference));
            }
          }
        }
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
          if (begin + i >= num_clusters || !(distance[i] < best)) continue;
          best = distance[i];
          nearest = begin + i;
        }
      }
      cluster[entry] = static_cast<uint8_t>(nearest);
    }
  }

  // Sorts the entries by cluster: one warp counts them in order of their numbers. Every thread of
  // the block calls this, between barriers of its own.
  __device__ void Sort() const {
    if (threadIdx.x < kMaxClusters) size[threadIdx.x] = 0;
    __syncthreads();
    const unsigned lane = threadIdx.x % 32;
    for (int begin = 0; threadIdx.x < 32 && begin < count; begin += 32) {
      const int entry = begin + static_cast<int>(lane);
      const unsigned here = __ballot_sync(kAllLanes, entry < count);
      if (entry < count) {
        const int c = cluster[entry];
        const unsigned same = __match_any_sync(here, c);
        const int before = __popc(same & ((1u << lane) - 1));
        const int32_t so_far = size[c];
        __syncwarp(here);
        if (before == 0) size[c] = so_far + __popc(same);
        rank[entry] = static_cast<uint16_t>(so_far + before);
      }
      __syncwarp();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      first[0] = 0;
      for (int c = 0; c < num_clusters; ++c) first[c + 1] = first[c] + size[c];
    }
    __syncthreads();
    for (int entry = threadIdx.x; entry < count; entry += kThreads) {
      order[first[cluster[entry]] + rank[entry]] = static_cast<uint16_t>(entry);
    }
    __syncthreads();
  }

  // Means of a cluster's rows, in order of their numbers. `row_of(entry)` is a row.
  template <typename RowOf>
  __device__ void Average(int c, int piece, const RowOf& row_of,
                          float (&mean)[kPieceElements]) const {
#pragma unroll
    for (float& x : mean) x = 0;
#pragma unroll 4
    for (int i = first[c]; i < first[c + 1]; ++i) {
      const Piece x(row_of(order[i])[piece]);
#pragma unroll
      for (int d = 0; d < kPieceElements; ++d) mean[d] = __fadd_rn(mean[d], x.x[d]);
    }
    if (size[c] == 0) return;
#pragma unroll
    for (float& x : mean) x = __fdiv_rn(x, static_cast<float>(size[c]));
  }

  // The centroids to their entries' means; an empty one stays.
  __device__ void Move() const {
    for (int at = threadIdx.x; at < num_clusters * pieces; at += kThreads) {
      const int c = at / pieces, piece = at % pieces;
      if (size[c] == 0) continue;
      float mean[kPieceElements];
      Average(
          c, piece, [this](int entry) { return Key(entry); }, mean);
      PutCentroid(c, piece, mean);
    }
  }

  __device__ void Store(std::byte* out) const {
    const ClusterLayout& to = a.clusters.layout;
    for (int at = threadIdx.x; at < 2 * num_clusters * pieces; at += kThreads) {
      const bool is_key = at < num_clusters * pieces;
      const int c = at % (num_clusters * pieces) / pieces, piece = at % pieces;
      float mean[kPieceElements];
      if (is_key) {
        Average(
            c, piece, [this](int entry) { return Key(entry); }, mean);
      } else {
        Average(
            c, piece, [this](int entry) { return Row(entry, a.entry_v_offset, a.staged_v); }, mean);
      }
      uint4 bits;
      auto* rounded = reinterpret_cast<__nv_bfloat16*>(&bits);
#pragma unroll
      for (int d = 0; d < kPieceElements; ++d) rounded[d] = __float2bfloat16_rn(mean[d]);
      reinterpret_cast<uint4*>(out + (is_key ? to.k : to.v))[c * pieces + piece] = bits;
    }
    for (int c = threadIdx.x; c < num_clusters; c += kThreads) StoreBias(out, c);
    for (int entry = threadIdx.x; entry < count; entry += kThreads) {
      reinterpret_cast<uint8_t*>(out + to.cluster)[entry] = cluster[entry];
    }
  }

  __device__ void StoreBias(std::byte* out, int c) const {
    const ClusterLayout& to = a.clusters.layout;
    const float* from_score = a.selected.score + index * a.shape.max_selected;
    const float* from_gate = a.selected.log_gate + index * a.shape.max_selected;
    float score = 0, log_gate = 0, age = 0;
#pragma unroll 4
    for (int i = first[c]; i < first[c + 1]; ++i) {
      score = __fadd_rn(score, from_score[order[i]]);
      log_gate = __fadd_rn(log_gate, from_gate[order[i]]);
      age = __fadd_rn(age, static_cast<float>(count - 1 - order[i]));
    }
    const float n = static_cast<float>(max(size[c], 1));
    reinterpret_cast<int32_t*>(out + to.count)[c] = size[c];
    reinterpret_cast<float*>(out + to.score)[c] = __fdiv_rn(score, n);
    reinterpret_cast<float*>(out + to.log_gate)[c] = __fdiv_rn(log_gate, n);
    reinterpret_cast<float*>(out + to.age)[c] = __fdiv_rn(age, n);
  }
};

// Grid: kv heads, segments. Block: kThreads. Traffic: the selected keys and values once; in each
// round a block reads its keys from shared memory. Bound by the distances: 3 steps an entry,
// cluster and dimension, each round and once more.
__global__ void __launch_bounds__(kThreads)
    ClusterKernel(const __grid_constant__ ClusterEntriesArgs a, SharedSizes sizes) {
  extern __shared__ __align__(16) std::byte memory[];
  __shared__ int32_t size[kMaxClusters];
  __shared__ int32_t first[kMaxClusters + 1];
  const int64_t index = blockIdx.y;
  const StreamSegment& segment = a.batch.segments[index];
  const StreamChunk& chunk = a.batch.chunks[segment.chunk];
  if (IsPadding(chunk) || segment.begins == 0) return;
  const int count = min(a.selected.count[index], a.shape.max_selected);
  if (count <= a.clusters.min_entries) return;

  std::byte* lists = memory + sizes.centroid_bytes;
  const Clustering clusters{.a = a,
                            .chunk = chunk,
                            .index = index,
                            .kv_head = static_cast<int>(blockIdx.x),
                            .count = count,
                            .num_clusters = a.clusters.num_clusters,
                            .width = a.compressed_dim,
                            .pieces = a.compressed_dim / kPieceElements,
                            .centroid = reinterpret_cast<float*>(memory),
                            .rank = reinterpret_cast<uint16_t*>(lists),
                            .order = reinterpret_cast<uint16_t*>(lists + sizes.list_bytes),
                            .cluster = reinterpret_cast<uint8_t*>(lists + 2 * sizes.list_bytes),
                            .key = lists + 2 * sizes.list_bytes + sizes.cluster_bytes,
                            .key_stride = sizes.key_stride,
                            .size = size,
                            .first = first};
  clusters.LoadKeys();
  __syncthreads();
  clusters.Start();
  for (int32_t round = 0; round < a.rounds; ++round) {
    __syncthreads();
    clusters.Assign();
    __syncthreads();
    clusters.Sort();
    clusters.Move();
  }
  __syncthreads();
  clusters.Assign();
  __syncthreads();
  clusters.Sort();
  clusters.Store(a.clusters.segments +
                 (index * a.num_kv_heads + blockIdx.x) * a.clusters.layout.head_bytes);
}

// Grid: num_chunks, shares of a segment's clusters. Block: kCopyThreads, 16 bytes each.
__global__ void __launch_bounds__(kCopyThreads) KeepClustersKernel(KeepClustersArgs a) {
  const StreamChunk& c = a.batch.chunks[blockIdx.x];
  if (IsPadding(c) || !HasBeginning(a.batch, c)) return;
  const int64_t last = int64_t{c.first_segment} + c.num_segments - 1;
  const int64_t bytes = a.num_kv_heads * a.clusters.layout.head_bytes;
  const auto* from = reinterpret_cast<const uint4*>(a.clusters.segments + last * bytes);
  auto* to = reinterpret_cast<uint4*>(c.state + a.clusters.state_offset);
  for (int64_t i = int64_t{blockIdx.y} * kCopyThreads + threadIdx.x; i < bytes / 16;
       i += int64_t{gridDim.y} * kCopyThreads) {
    to[i] = from[i];
  }
}

SharedSizes SizesOf(const ClusterEntriesArgs& a) {
  const auto round_up = [](int64_t bytes) { return static_cast<int>((bytes + 15) / 16 * 16); };
  const int64_t row_bytes = int64_t{a.compressed_dim} * 2;
  SharedSizes sizes{
      .centroid_bytes = round_up(int64_t{a.clusters.num_clusters} * a.compressed_dim * 4),
      .list_bytes = round_up(int64_t{a.shape.max_selected} * 2),
      .cluster_bytes = round_up(a.shape.max_selected),
      .key_stride = 0,
      .total = 0};
  const int64_t lists = sizes.centroid_bytes + 2 * sizes.list_bytes + sizes.cluster_bytes;
  // A piece between rows, so that neighbours' rows lie in other banks.
  const int64_t keys = a.shape.max_selected * (row_bytes + 16);
  if (lists + keys <= kMostShared) sizes.key_stride = static_cast<int>(row_bytes + 16);
  sizes.total = static_cast<int>(lists + (sizes.key_stride > 0 ? keys : 0));
  return sizes;
}

}  // namespace

absl::Status ClusterEntriesCuda(const ClusterEntriesArgs& a, Stream stream) {
  constexpr char kOp[] = "ClusterEntries";
  RASQ_RETURN_IF_ERROR(ValidateClusterEntries(a));
  RASQ_RETURN_IF_ERROR(RequireBfloat16("ClusterEntries", a.element));
  // Rows are read in pieces of 16 bytes, and centroids fit shared memory beside the lists.
  if (a.compressed_dim % kPieceElements != 0 || a.compressed_dim > 128) {
    return BadArgument(kOp, "compressed_dim", a.compressed_dim);
  }
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "max_selected", a.shape.max_selected, 1, kMostSelected));
  if (a.batch.num_segments == 0) return absl::OkStatus();
  const SharedSizes sizes = SizesOf(a);
  RASQ_RETURN_IF_ERROR(AllowShared(ClusterKernel, sizes.total));
  const dim3 grid(a.num_kv_heads, a.batch.num_segments);
  ClusterKernel<<<grid, kThreads, sizes.total, stream>>>(a, sizes);
  return LaunchStatus(kOp);
}

absl::Status KeepClustersCuda(const KeepClustersArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateKeepClusters(a));
  if (a.batch.num_chunks == 0) return absl::OkStatus();
  const int64_t vectors = a.num_kv_heads * a.clusters.layout.head_bytes / 16;
  const dim3 grid(a.batch.num_chunks,
                  static_cast<unsigned>(std::clamp<int64_t>(vectors / kCopyThreads, 1, 16)));
  KeepClustersKernel<<<grid, kCopyThreads, 0, stream>>>(a);
  return LaunchStatus("KeepClusters");
}

}  // namespace rasq
