// Reading selected entries by clusters, as the engine does (kernels/cluster_entries.h and
// stream_attention.h): a query reads exactly those of the clusters that its centroids promise most,
// and of the others one entry each, their means. Source: algorithm.md section 5.
//
// Which cluster an entry is in, and which a query reads, carries no gradient; means and logits do.
// Plain operations in float32, and all logits of all segments at once: much slower and larger than
// attention without clusters.
#pragma once

#include <cstdint>

#include "train/torch.h"

namespace rasq::train {

struct ClusterShape {
  int64_t clusters = 0;     // of a segment and kv head; 0: entries are read without any
  int64_t read = 0;         // that a query reads exactly
  int64_t min_entries = 0;  // segments of at most so many entries have none
};

// K-means over K_c: int64 [segments, kv_heads, entries], each entry's cluster; -1 for what is not
// there, and in segments without clusters. key: [segments, entries, kv_heads, compressed_dim].
// valid: bool [segments, entries]: the first of each.
Tensor AssignClusters(const Tensor& key, const Tensor& valid, const ClusterShape& shape);

struct ClusteredEntries {
  int64_t first;   // of the keys that are entries
  Tensor cluster;  // AssignClusters
  ClusterShape shape;
};

// query [segments, rows, heads, width], key [segments, keys, kv_heads, width], value [segments,
// keys, kv_heads, head_dim]: row i reads keys 0 .. keys - rows + i, of the entries among them those
// of its clusters. Clusters are chosen by the first head_dim of the width. Logits are multiplied by
// `scale`. [segments, rows, heads, head_dim]
Tensor ClusteredAttention(const Tensor& query, const Tensor& key, const Tensor& value,
                          const ClusteredEntries& entries, double scale);

}  // namespace rasq::train
