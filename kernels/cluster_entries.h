// Clusters of a segment's selected entries, so that a query reads exactly only those that its
// centroids promise to be worth it (stream_attention.h). For each segment that begins with more
// than `min_entries` entries and each kv head: k-means over the compressed keys K_c. Centroid i
// starts as entry i * count / num_clusters; each round assigns every entry to the nearest centroid
// (squared distance, ties to the lower) and moves the centroids to their entries' means, an empty
// one staying where it is; then entries are assigned once more. Source: algorithm.md 5.
//
// Distances and means are summed in float32 in order of dimension and of entry, each step rounded:
// backends agree to the last bit.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "kernels/base/dtype.h"
#include "kernels/base/stream.h"
#include "kernels/base/thread_pool.h"
#include "kernels/entry_rows.h"
#include "kernels/select_entries.h"
#include "kernels/stream_batch.h"

namespace rasq {

inline constexpr int32_t kMaxClusters = 64;

// Where the clusters of one segment and kv head lie: offsets in bytes, multiples of 16. Means are
// over the cluster's entries; those of an empty cluster are zero.
struct ClusterLayout {
  int64_t k;           // E [num_clusters, compressed_dim], mean K_c
  int64_t v;           // E [num_clusters, compressed_dim], mean V_c
  int64_t count;       // int32 [num_clusters]; 0: empty
  int64_t score;       // float [num_clusters]: means, as are the next two
  int64_t log_gate;    // float [num_clusters]
  int64_t age;         // float [num_clusters], of the number of selected entries newer than each
  int64_t cluster;     // uint8 [max_selected]: of each selected entry
  int64_t head_bytes;  // of all: a segment's kv heads follow each other
};
ClusterLayout MakeClusterLayout(int32_t num_clusters, int32_t compressed_dim, int32_t max_selected,
                                DType element);

// The clusters of a layer. Segments that begin in the batch have theirs in `segments`, one that
// goes on in its stream's state: they are made once and read by every step of the segment.
struct EntryClusters {
  std::byte* segments;    // [num_segments, num_kv_heads, layout.head_bytes]; null: no clusters
  int64_t state_offset;   // of the open segment's [num_kv_heads, layout.head_bytes]
  int32_t num_clusters;   // 1..kMaxClusters
  int32_t read_clusters;  // clusters that a query reads exactly, >= 1
  int32_t min_entries;    // segments that read at most so many have no clusters; >= 0
  ClusterLayout layout;
};

struct ClusterEntriesArgs {
  StreamBatch batch;
  StreamShape shape;
  DType element;         // of centroids
  EntryType entry_type;  //
  int32_t num_kv_heads;
  int32_t compressed_dim;
  int32_t rounds;            // >= 0
  SelectedEntries selected;  //
  int64_t entry_k_offset;    // in the state: [capacity] rows of entry_rows.h, [num_kv_heads,
  int64_t entry_v_offset;    // compressed_dim] each
  const void* staged_k;      // [num_staged] such rows
  const void* staged_v;
  EntryClusters clusters;
};
absl::Status ValidateClusterEntries(const ClusterEntriesArgs& args);
absl::Status ClusterEntriesCpu(const ClusterEntriesArgs& args, ThreadPool& pool);
absl::Status ClusterEntriesCuda(const ClusterEntriesArgs& args, Stream stream);

// Leaves the clusters of each chunk's last segment in the state, if it begins in this batch. Apart
// from ClusterEntries, since a chunk's first segment may still have to read what the state holds.
struct KeepClustersArgs {
  StreamBatch batch;
  int32_t num_kv_heads;
  EntryClusters clusters;
};
absl::Status ValidateKeepClusters(const KeepClustersArgs& args);
absl::Status KeepClustersCpu(const KeepClustersArgs& args, ThreadPool& pool);
absl::Status KeepClustersCuda(const KeepClustersArgs& args, Stream stream);

// The fields of `clusters`, which are not null. For operations that take them.
absl::Status ValidateClusters(const char* op, const EntryClusters& clusters);

}  // namespace rasq
