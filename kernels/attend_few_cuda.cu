#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/attend_cuda.h"
#include "kernels/attention_clusters_cuda.h"
#include "kernels/attention_keys_cuda.h"
#include "kernels/base/check_args.h"
#include "kernels/base/cuda_status.h"
#include "kernels/base/status.h"
#include "kernels/few_queries_cuda.h"
#include "kernels/tensor_tile_cuda.h"

namespace rasq {
namespace {

constexpr int kWarpKeys = kTileKeys / kFewWarps;  // of each tile
constexpr int kStages = 2;

// A stage holds a tile of exact keys and values; or one of entries, which are narrower, and beside
// it a kv head's P^+, which exact entries have none of.
template <int kDim, int kNarrow, bool kExact>
struct Stage {
  static constexpr int kTokens = 2 * kTileKeys * kDim;
  static constexpr int kEntries = 2 * kTileKeys * kNarrow;
  __nv_bfloat16 data[std::max(kTokens, kEntries + (kExact ? 0 : kDim * kNarrow))];

  __device__ __nv_bfloat16* keys() { return data; }
  template <int kWidth>
  __device__ __nv_bfloat16* values() {
    return data + kTileKeys * kWidth;
  }
  __device__ __nv_bfloat16* up() { return data + kEntries; }
};

// Three blocks fit a multiprocessor: together they have some 100 KB under way.
template <int kDim, int kNarrow, bool kExact>
struct FewShared {
  union {
    Stage<kDim, kNarrow, kExact> stages[kStages];
    struct {  // when the last tile is done
      Partial<kDim> warps[kFewWarps];
      Partial<kDim> block;  // read by the other blocks of the cluster
    };
  };
  float score[kStages][kTileKeys];  // of entries
  float log_gate[kStages][kTileKeys];
  __nv_bfloat16 q[kFewQueries * kDim];
  __nv_bfloat16 turned[kFewQueries * kDim];  // in the memory's frame
};

// An entry that some query reads, with its cluster.
struct ListedEntry {
  static constexpr int kClusterBits = 6;
  uint32_t bits;

  __device__ static ListedEntry Of(int entry, int cluster) {
    return {static_cast<uint32_t>(entry) << kClusterBits | static_cast<uint32_t>(cluster)};
  }
  __device__ int entry() const { return static_cast<int>(bits >> kClusterBits); }
  __device__ int cluster() const { return static_cast<int>(bits % kMaxClusters); }
};
static_assert(kMaxClusters == 1 << ListedEntry::kClusterBits);

// As SegmentKeys::AllEntries.
struct ListedEntries {
  const ListedEntry* listed;
  int num;
  __device__ int Entry(int key) const { return listed[key].entry(); }
};

// Behind FewShared, where entries have clusters.
struct FewClusters {
  ClusterBias bias;
  int32_t warp_count[kFewWarps];
  // Then ListedEntry [ListSize], and the entries' clusters, uint8 [ListSize].
  __device__ ListedEntry* listed() { return reinterpret_cast<ListedEntry*>(this + 1); }
  __device__ uint8_t* clusters(int max_selected) {
    return reinterpret_cast<uint8_t*>(listed() + ListSize(max_selected));
  }

  // Whole tiles, also so that parts begin at 16 bytes.
  __host__ __device__ static int ListSize(int max_selected) {
    return (max_selected + kTileKeys - 1) / kTileKeys * kTileKeys;
  }
  static int64_t Bytes(int max_selected) {
    return static_cast<int64_t>(sizeof(FewClusters)) +
           int64_t{ListSize(max_selected)} * (sizeof(ListedEntry) + 1);
  }
};
static_assert(sizeof(FewClusters) % 16 == 0);

// What a lane's two queries, lane % 4 * 2 and the next, add to logits, and the clusters they read.
struct QueryBias {
  float weight[2], slope[2];
  uint64_t read[2] = {kAllClusters, kAllClusters};  // as bits

  __device__ explicit QueryBias(const FewQueries& queries) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int head = queries.HeadOf(min(FirstQuery() + i, queries.count - 1));
      weight[i] = WeightOf(queries.a.score_weight, head);
      slope[i] = WeightOf(queries.a.age_slope, head);
    }
  }
  __device__ static int FirstQuery() { return static_cast<int>(threadIdx.x) % 4 * 2; }
};

// Lists the entries of the clusters in `wanted`, in order: how many, known to all threads.
__device__ inline int ListEntries(int num_entries, uint64_t wanted, const uint8_t* cluster,
                                  FewClusters& shared) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int share = (num_entries + kFewThreads - 1) / kFewThreads * 32;  // of a warp
  const int begin = warp * share, end = min(begin + share, num_entries);
  const auto is_wanted = [&](int entry) { return entry < end && IsRead(wanted, cluster[entry]); };
  int count = 0;
  for (int at = begin; at < end; at += 32) {
    count += __popc(__ballot_sync(kAllLanes, is_wanted(at + lane)));
  }
  if (lane == 0) shared.warp_count[warp] = count;
  __syncthreads();
  int place = 0, total = 0;
#pragma unroll
  for (int w = 0; w < kFewWarps; ++w) {
    if (w < warp) place += shared.warp_count[w];
    total += shared.warp_count[w];
  }
  for (int at = begin; at < end; at += 32) {
    const bool in = is_wanted(at + lane);
    const unsigned here = __ballot_sync(kAllLanes, in);
    if (in) {
      shared.listed()[place + __popc(here & ((1u << lane) - 1))] =
          ListedEntry::Of(at + lane, cluster[at + lane]);
    }
    place += __popc(here);
  }
  __syncthreads();
  return total;
}

// Chooses the clusters that the queries read and lists their entries. `q`: the moved queries.
// Each warp chooses for all queries.
template <int kNarrow>
__device__ int ChooseEntries(const FewQueries& queries, const uint32_t (&q)[kNarrow / 16][2],
                             const __nv_bfloat16* centroids, float logit_scale, FewClusters& shared,
                             QueryBias& bias) {
  constexpr int kParts = kTileKeys / kWarpKeys;
  const StreamAttentionArgs& a = queries.a;
  const int lane = threadIdx.x % 32;
  // Of a query's eight logits in this lane, the k-th.
  const auto cluster_of = [lane](int k) { return k / 2 * kWarpKeys + k % 2 * 8 + lane / 4; };
  float choice[2][2 * kParts];
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    float products[4];
    WarpSums<kNarrow>::Score(q, centroids, part * kWarpKeys, products);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int k = part * 2 + i / 2;
      choice[i % 2][k] = shared.bias.Choice(products[i], logit_scale, cluster_of(k));
    }
  }
  uint64_t wanted = 0;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    bias.read[i] = ChooseClusters<4, 16>(choice[i], a.clusters.read_clusters, cluster_of);
    if (QueryBias::FirstQuery() + i < queries.count) wanted |= bias.read[i];
  }
  const uint32_t low = __reduce_or_sync(kAllLanes, static_cast<uint32_t>(wanted));
  const uint32_t high = __reduce_or_sync(kAllLanes, static_cast<uint32_t>(wanted >> 32));
  return ListEntries(queries.keys.num_entries, uint64_t{high} << 32 | low,
                     shared.clusters(a.shape.max_selected), shared);
}

// Starts the copies of the centroids and of the entries' clusters; or lists all entries of a
// segment without clusters.
template <int kNarrow, typename Stage>
__device__ void LoadClusters(const SegmentKeys& keys, Stage& centroids, FewClusters& shared) {
  if (!SegmentClusters::Has(keys)) {
    for (int entry = threadIdx.x; entry < keys.num_entries; entry += kFewThreads) {
      shared.listed()[entry] = ListedEntry::Of(entry, /*cluster=*/0);
    }
    return;
  }
  const SegmentClusters of(keys);
  of.LoadCentroids<kNarrow, kFewThreads>(centroids.keys(), centroids.template values<kNarrow>());
  of.LoadBias(shared.bias);
  uint8_t* to = shared.clusters(keys.a.shape.max_selected);
  for (int at = static_cast<int>(threadIdx.x) * 16; at < keys.num_entries; at += kFewThreads * 16) {
    CopyPieceAsync(to + at, of.Clusters() + at);
  }
}

// Adds the clusters that a query does not read, as entries: a warp's share of the centroids.
template <int kNarrow>
__device__ void AddCentroids(const uint32_t (&q)[kNarrow / 16][2], const __nv_bfloat16* keys,
                             const __nv_bfloat16* values, float logit_scale,
                             const ClusterBias& clusters, const QueryBias& bias,
                             WarpSums<kNarrow>& sums) {
  const int first = static_cast<int>(threadIdx.x) / 32 * kWarpKeys, lane = threadIdx.x % 32;
  float logits[4];
  WarpSums<kNarrow>::Score(q, keys, first, logits);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int c = first + lane / 4 + i / 2 * 8;
    logits[i] = clusters.Unread(clusters.Choice(logits[i], logit_scale, c), c, bias.read[i % 2],
                                bias.weight[i % 2], bias.slope[i % 2]) *
                kLog2E;
  }
  sums.Add(logits, values, first);
}

// Grid: kv heads times the blocks of a cluster, segments. Block: 4 warps, each with 16 keys of
// every tile of 64; tiles are dealt out to the blocks, entries first. Traffic: every key and value
// once; P once a block, from L2. Where entries have clusters, each block with entries chooses the
// clusters of all queries, and its tiles are of the entries that some query reads; the first block
// adds the centroids of the others. Exact entries need no P; fused by blocks, their warps agree on
// each tile's softmax, and what the memory gives is merged apart.
//
// The number of blocks follows from the stream's shape alone, never from the batch: a row's sums
// are always in the same order.
template <int kDim, int kNarrow, bool kExact, bool kClustered>
__global__ void __launch_bounds__(kFewThreads, 3)
    AttendFewKernel(const __grid_constant__ StreamAttentionArgs a, int blocks) {
  extern __shared__ __align__(128) std::byte memory[];
  using Shared = FewShared<kDim, kNarrow, kExact>;
  using KeyStage = Stage<kDim, kNarrow, kExact>;
  auto& shared = *reinterpret_cast<Shared*>(memory);
  auto& clusters = *reinterpret_cast<FewClusters*>(memory + sizeof(Shared));
  auto& fused = *reinterpret_cast<FewFused<kDim>*>(memory + sizeof(Shared));
  constexpr bool kMayFuse = kExact && !kClustered;
  constexpr bool kMaySummarize = !kExact && !kClustered;
  const bool is_fused = kMayFuse && a.reads_memory && a.fused_weight != nullptr;
  const int index = static_cast<int>(blockIdx.y);
  const int rank = static_cast<int>(blockIdx.x) % blocks;
  const int kv_head = static_cast<int>(blockIdx.x) / blocks;
  const int list_index = SegmentKeys::ListOf<kExact>(a, index, kv_head);
  SegmentKeys::EntryRows<kNarrow, kFewThreads> entry_rows;
  if (a.reads_memory && !kClustered) {
    SegmentKeys::AskRows<kNarrow, kFewThreads>(a, list_index, rank, entry_rows);
  }
  const StreamSegment& segment = a.batch.segments[index];
  // These hold for all blocks of a cluster.
  if (!IsFew(a, segment) || IsPadding(a.batch.chunks[segment.chunk])) return;
  const SegmentKeys keys(a, index, kv_head, list_index);
  const FewQueries queries(a, keys);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

  // This block's tiles: `num_entry_tiles` of entries, then those of exact keys.
  const auto share = [&](int tiles) { return tiles > rank ? (tiles - rank - 1) / blocks + 1 : 0; };
  int num_entry_tiles = share(keys.NumEntryTiles());
  int num_tiles = num_entry_tiles + share(keys.NumExactTiles());
  ListedEntries list{clusters.listed(), /*num=*/0};  // with clusters
  const auto ask = [&](int tile) {
    if constexpr (kClustered) {
      SegmentKeys::AskRows<kNarrow, kFewThreads>(a, list_index, tile, list, entry_rows);
    } else {
      SegmentKeys::AskRows<kNarrow, kFewThreads>(a, list_index, tile, entry_rows);
    }
  };
  const auto load = [&](int tile) {
    KeyStage& stage = shared.stages[tile % kStages];
    if (tile < num_entry_tiles) {
      const int at = rank + tile * blocks;
      const auto load_entries = [&](const auto& entries) {
        keys.LoadEntries<kNarrow, kFewThreads, kExact>(
            entry_rows, entries, stage.keys(), stage.template values<kNarrow>(),
            shared.score[tile % kStages], shared.log_gate[tile % kStages], at);
      };
      if constexpr (kClustered) {
        load_entries(list);
      } else {
        load_entries(SegmentKeys::AllEntries{keys.num_entries});
      }
      ask(at + blocks);
    } else if (tile < num_tiles) {
      keys.LoadExact<kDim, kFewThreads>(stage.keys(), stage.template values<kDim>(),
                                        rank + (tile - num_entry_tiles) * blocks);
    }
    CommitCopies();
  };
  // Beside the entries' tiles lie P_v^+, in the stage of the last of them, and P_k^+ in the other,
  // until the first exact keys come there. With clusters the number of tiles is not known yet:
  // P_k^+ and the centroids wait in the stage that is the last to be filled.
  KeyStage& centroids = shared.stages[kStages - 1];
  const bool has_clusters = kClustered && SegmentClusters::Has(keys);
  __nv_bfloat16* const key_up =
      kClustered ? centroids.up() : shared.stages[num_entry_tiles % kStages].up();
  const auto value_up = [&] { return shared.stages[(num_entry_tiles + 1) % kStages].up(); };
  if constexpr (!kExact) {
    if (num_entry_tiles > 0) LoadUp<kDim, kNarrow, kFewThreads>(keys, a.key_up, key_up);
  }
  if constexpr (kClustered) {
    if (num_entry_tiles > 0) LoadClusters<kNarrow>(keys, centroids, clusters);
    CommitCopies();
    if (num_entry_tiles == 0) load(0);
  } else {
    if constexpr (!kExact) {
      if (num_entry_tiles > 0) LoadUp<kDim, kNarrow, kFewThreads>(keys, a.value_up, value_up());
    }
    load(0);
  }
  queries.Put<kDim, /*kTurned=*/false>(shared.q);
  if (num_entry_tiles > 0) queries.Put<kDim, /*kTurned=*/true>(shared.turned);

  WarpSums<kDim> sums;
  const float logit_scale = rsqrtf(static_cast<float>(a.head_dim));
  if (num_entry_tiles > 0) {
    QueryBias bias(queries);
    WaitCopies<0>();
    __syncthreads();
    uint32_t q[kNarrow / 16][2];
    if constexpr (kExact) {
      LoadQueries<kDim>(shared.turned, q);
    } else {
      MoveQueries<kDim, kNarrow>(shared.turned, key_up, q);
    }
    WarpSums<kNarrow> narrow;
    if constexpr (kClustered) {
      list.num = keys.num_entries;
      if (has_clusters) {
        list.num =
            ChooseEntries<kNarrow>(queries, q, centroids.keys(), logit_scale, clusters, bias);
      } else {
        __syncthreads();  // P_k^+ has been read
      }
      num_tiles -= num_entry_tiles;
      num_entry_tiles = share(SegmentKeys::NumTiles(list.num));
      num_tiles += num_entry_tiles;
      ask(rank);
      if constexpr (!kExact) {
        if (num_entry_tiles > 0) LoadUp<kDim, kNarrow, kFewThreads>(keys, a.value_up, value_up());
      }
      load(0);
      if (has_clusters && rank == 0) {
        AddCentroids<kNarrow>(q, centroids.keys(), centroids.template values<kNarrow>(),
                              logit_scale, clusters.bias, bias, narrow);
      }
    }
    __syncthreads();
    for (int tile = 0; tile < num_entry_tiles; ++tile) {
      load(tile + 1);
      WaitCopies<1>();
      KeyStage& stage = shared.stages[tile % kStages];
      keys.SpreadEntries<kNarrow, kFewThreads>(stage.keys(), stage.template values<kNarrow>());
      __syncthreads();
      float logits[4];
      WarpSums<kNarrow>::Score(q, stage.keys(), warp * kWarpKeys, logits);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int at = warp * kWarpKeys + lane / 4 + i / 2 * 8;
        int entry = (rank + tile * blocks) * kTileKeys + at;
        if constexpr (kClustered) {
          const ListedEntry listed = clusters.listed()[entry];
          const bool is_read = entry < list.num && IsRead(bias.read[i % 2], listed.cluster());
          entry = is_read ? listed.entry() : keys.num_entries;  // none
        }
        const float entry_bias = keys.EntryBias<kMaySummarize>(
            entry, shared.score[tile % kStages][at], shared.log_gate[tile % kStages][at],
            bias.weight[i % 2], bias.slope[i % 2]);
        logits[i] = fmaf(logits[i], logit_scale, entry_bias) * kLog2E;
      }
      if (is_fused) {
        if constexpr (kMayFuse) {
          fused.Add(logits, stage.template values<kNarrow>(), warp * kWarpKeys,
                    FusedWeight(a, list_index, rank + tile * blocks), narrow);
        }
      } else {
        narrow.Add(logits, stage.template values<kNarrow>(), warp * kWarpKeys);
      }
      if constexpr (!kExact) {
        if (tile + 1 == num_entry_tiles) Widen(narrow, value_up(), sums);
      }
      __syncthreads();
    }
    if constexpr (kExact) {
      if (is_fused) {
        narrow.Put(fused.warps[warp]);
      } else {
        sums = narrow;
      }
    }
  } else {
    if (is_fused) WarpSums<kDim>().Put(fused.warps[warp]);
    __syncthreads();
  }
  uint32_t q[kDim / 16][2];
  LoadQueries<kDim>(shared.q, q);
  for (int tile = num_entry_tiles; tile < num_tiles; ++tile) {
    load(tile + 1);
    WaitCopies<1>();
    __syncthreads();
    KeyStage& stage = shared.stages[tile % kStages];
    const int exact = rank + (tile - num_entry_tiles) * blocks;
    float logits[4];
    WarpSums<kDim>::Score(q, stage.keys(), warp * kWarpKeys, logits);
    const bool all = keys.AllSee(exact);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      logits[i] *= logit_scale * kLog2E;
      if (all) continue;
      const int key = exact * kTileKeys + warp * kWarpKeys + lane / 4 + i / 2 * 8;
      const int64_t position = keys.first_position + (lane % 4 * 2 + i % 2) / queries.group;
      if (!keys.Sees(position, key)) logits[i] = -INFINITY;
    }
    sums.Add(logits, stage.template values<kDim>(), warp * kWarpKeys);
    __syncthreads();
  }
  WaitCopies<0>();
  sums.Finish();
  __syncthreads();
  sums.Put(shared.warps[warp]);
  __syncthreads();
  MergeWarps(shared.warps, queries.count, shared.block);
  if (is_fused) MergeFused(fused, queries.count);
  MergeBlocks<kMayFuse>(queries, blocks, rank, shared.block, is_fused ? &fused.block : nullptr);
}

// A block for every 192 KB of keys and values: more of them spend their time on starting, fewer
// leave a small batch to few multiprocessors. On an H100 at the shape of Llama-3.1-8B, decode of
// 256 and 16 streams by gpu_kernels_bench, 2026-11-22: 96 KB 387 and 39 us, 192 KB 318 and 26 us,
// 384 KB 299 and 34 us.
int NumBlocks(const StreamAttentionArgs& a) {
  constexpr int64_t kBlockBytes = 192 << 10;
  const int64_t exact = int64_t{a.shape.ring_rows} * a.head_dim * 4;
  const int64_t entry = a.entry_type == EntryType::kInt8 ? a.compressed_dim + 4  // and its scale
                                                         : a.compressed_dim * 2;
  const int64_t entries = a.reads_memory ? a.shape.max_selected * entry * 2 : 0;
  return static_cast<int>(
      std::clamp<int64_t>((exact + entries + kBlockBytes / 2) / kBlockBytes, 1, kMaxBlocks));
}

template <int kDim, int kNarrow, bool kExact, bool kClustered>
absl::Status Launch(const StreamAttentionArgs& a, Stream stream) {
  using Shared = FewShared<kDim, kNarrow, kExact>;
  static_assert(sizeof(Shared) % 16 == 0);
  constexpr int64_t kMostBytes = 227 << 10;  // of a block
  const bool is_fused = kExact && !kClustered && a.fused_weight != nullptr;
  const int64_t bytes = static_cast<int64_t>(sizeof(Shared)) +
                        (kClustered ? FewClusters::Bytes(a.shape.max_selected) : 0) +
                        (is_fused ? static_cast<int64_t>(sizeof(FewFused<kDim>)) : 0);
  if (bytes > kMostBytes) {
    return BadArgument("StreamAttention", "max_selected", a.shape.max_selected);
  }
  const auto kernel = AttendFewKernel<kDim, kNarrow, kExact, kClustered>;
  RASQ_RETURN_IF_ERROR(AllowShared(kernel, static_cast<int>(bytes)));
  const int blocks = NumBlocks(a);
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = blocks;
  cluster.val.clusterDim.y = 1;
  cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(a.num_kv_heads * blocks, a.batch.num_segments);
  config.blockDim = dim3(kFewThreads);
  config.dynamicSmemBytes = static_cast<size_t>(bytes);
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = 1;
  return CudaStatus(cudaLaunchKernelEx(&config, kernel, a, blocks), "AttendFew");
}

}  // namespace

absl::Status AttendFewCuda(const StreamAttentionArgs& a, Stream stream) {
  return WithTileWidths(a, [&]<int kDim, int kNarrow, bool kExact>() -> absl::Status {
    return HasClusters(a) ? Launch<kDim, kNarrow, kExact, true>(a, stream)
                          : Launch<kDim, kNarrow, kExact, false>(a, stream);
  });
}

}  // namespace rasq
