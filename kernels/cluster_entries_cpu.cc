#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/cluster_entries.h"
#include "kernels/elements_cpu.h"
#include "kernels/entry_clusters_cpu.h"
#include "kernels/entry_rows_cpu.h"
#include "kernels/stream_batch_cpu.h"

namespace rasq {
namespace {

// Centroids whose distances are summed side by side, in the processor's vectors.
constexpr int64_t kBlock = 16;

struct Scratch {
  std::vector<float> rows;      // [entries, compressed_dim]
  std::vector<float> centroid;  // [num_clusters, compressed_dim]
  std::vector<float> turned;    // the centroids as [blocks, compressed_dim, kBlock]
};

// The clusters of one segment and kv head.
class Clustering {
 public:
  Clustering(const ClusterEntriesArgs& a, int64_t segment, int64_t kv_head, Scratch& scratch)
      : a_(a),
        s_(scratch),
        segment_(segment),
        kv_head_(kv_head),
        count_(a.selected.count[segment]),
        num_clusters_(a.clusters.num_clusters),
        width_(a.compressed_dim),
        out_(ClustersOf(a.clusters, a.batch, a.num_kv_heads, segment, kv_head)) {}

  void Run() {
    LoadRows(/*key=*/true);
    s_.centroid.resize(num_clusters_ * width_);
    for (int64_t c = 0; c < num_clusters_; ++c) {
      std::copy_n(&s_.rows[c * count_ / num_clusters_ * width_], width_, &s_.centroid[c * width_]);
    }
    for (int32_t round = 0; round < a_.rounds; ++round) {
      Assign();
      Average(/*keep_empty=*/true);
    }
    Assign();
    Average(/*keep_empty=*/false);
    StoreElements(a_.element, s_.centroid.data(), out_.k, num_clusters_ * width_);
    LoadRows(/*key=*/false);
    Average(/*keep_empty=*/false);
    StoreElements(a_.element, s_.centroid.data(), out_.v, num_clusters_ * width_);
    AverageBias();
  }

 private:
  void LoadRows(bool key) {
    s_.rows.resize(count_ * width_);
    for (int64_t j = 0; j < count_; ++j) {
      LoadEntry(a_, segment_, kv_head_, j, key, DType::kFloat32, &s_.rows[j * width_]);
    }
  }

  // Each entry to the nearest centroid.
  void Assign() {
    TurnCentroids();
    std::fill_n(out_.count, num_clusters_, 0);
    for (int64_t j = 0; j < count_; ++j) {
      float best = std::numeric_limits<float>::infinity();
      int64_t cluster = 0;
      for (int64_t first = 0; first < num_clusters_; first += kBlock) {
        float distance[kBlock] = {};
        const float* centroid = &s_.turned[first * width_];
        for (int64_t d = 0; d < width_; ++d, centroid += kBlock) {
          const float x = s_.rows[j * width_ + d];
          for (int64_t c = 0; c < kBlock; ++c) {
            const float difference = x - centroid[c];
            distance[c] += difference * difference;
          }
        }
        for (int64_t c = 0; c < std::min(kBlock, num_clusters_ - first); ++c) {
          if (!(distance[c] < best)) continue;
          best = distance[c];
          cluster = first + c;
        }
      }
      out_.cluster[j] = static_cast<uint8_t>(cluster);
      ++out_.count[cluster];
    }
  }

  void TurnCentroids() {
    s_.turned.assign((num_clusters_ + kBlock - 1) / kBlock * kBlock * width_, 0.0f);
    for (int64_t c = 0; c < num_clusters_; ++c) {
      float* to = &s_.turned[c / kBlock * kBlock * width_ + c % kBlock];
      for (int64_t d = 0; d < width_; ++d) to[d * kBlock] = s_.centroid[c * width_ + d];
    }
  }

  // Each cluster's mean row; an empty one's stays as it is, or becomes zero.
  void Average(bool keep_empty) {
    for (int64_t c = 0; c < num_clusters_; ++c) {
      if (out_.count[c] > 0 || !keep_empty) {
        std::fill_n(&s_.centroid[c * width_], width_, 0.0f);
      }
    }
    for (int64_t j = 0; j < count_; ++j) {
      float* sum = &s_.centroid[out_.cluster[j] * width_];
      Add(sum, &s_.rows[j * width_], sum, width_);
    }
    for (int64_t c = 0; c < num_clusters_; ++c) {
      if (out_.count[c] == 0) continue;
      const auto count = static_cast<float>(out_.count[c]);
      for (int64_t d = 0; d < width_; ++d) s_.centroid[c * width_ + d] /= count;
    }
  }

  void AverageBias() {
    const float* score = a_.selected.score + segment_ * a_.shape.max_selected;
    const float* log_gate = a_.selected.log_gate + segment_ * a_.shape.max_selected;
    std::fill_n(out_.score, num_clusters_, 0.0f);
    std::fill_n(out_.log_gate, num_clusters_, 0.0f);
    std::fill_n(out_.age, num_clusters_, 0.0f);
    for (int64_t j = 0; j < count_; ++j) {
      const uint8_t c = out_.cluster[j];
      out_.score[c] += score[j];
      out_.log_gate[c] += log_gate[j];
      out_.age[c] += static_cast<float>(count_ - 1 - j);
    }
    for (int64_t c = 0; c < num_clusters_; ++c) {
      if (out_.count[c] == 0) continue;
      const auto count = static_cast<float>(out_.count[c]);
      out_.score[c] /= count;
      out_.log_gate[c] /= count;
      out_.age[c] /= count;
    }
  }

  const ClusterEntriesArgs& a_;
  Scratch& s_;
  const int64_t segment_;
  const int64_t kv_head_;
  const int64_t count_;
  const int64_t num_clusters_;
  const int64_t width_;
  const ClusterView out_;
};

int64_t RoundUp16(int64_t bytes) { return (bytes + 15) / 16 * 16; }

}  // namespace

ClusterLayout MakeClusterLayout(int32_t num_clusters, int32_t compressed_dim, int32_t max_selected,
                                DType element) {
  const int64_t rows = RoundUp16(int64_t{num_clusters} * compressed_dim * SizeOf(element));
  const int64_t words = RoundUp16(int64_t{num_clusters} * 4);
  ClusterLayout at{};
  at.v = rows;
  at.count = 2 * rows;
  at.score = at.count + words;
  at.log_gate = at.score + words;
  at.age = at.log_gate + words;
  at.cluster = at.age + words;
  at.head_bytes = at.cluster + RoundUp16(max_selected);
  return at;
}

absl::Status ValidateClusters(const char* op, const EntryClusters& c) {
  RASQ_RETURN_IF_ERROR(CheckNotNull(op, "clusters.segments", c.segments));
  RASQ_RETURN_IF_ERROR(CheckRange(op, "clusters.state_offset", c.state_offset, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(op, "clusters.num_clusters", c.num_clusters, 1, kMaxClusters));
  RASQ_RETURN_IF_ERROR(CheckRange(op, "clusters.read_clusters", c.read_clusters, 1));
  RASQ_RETURN_IF_ERROR(CheckRange(op, "clusters.min_entries", c.min_entries, 0));
  return CheckRange(op, "clusters.layout.head_bytes", c.layout.head_bytes, 1);
}

absl::Status ValidateClusterEntries(const ClusterEntriesArgs& a) {
  constexpr char kOp[] = "ClusterEntries";
  RASQ_RETURN_IF_ERROR(ValidateBatch(kOp, a.batch));
  RASQ_RETURN_IF_ERROR(ValidateShape(kOp, a.shape));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "capacity", a.shape.capacity, 1));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "max_selected", a.shape.max_selected, 1));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "num_kv_heads", a.num_kv_heads, 1));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "compressed_dim", a.compressed_dim, 1));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "rounds", a.rounds, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "entry_k_offset", a.entry_k_offset, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "entry_v_offset", a.entry_v_offset, 0));
  if (a.batch.num_chunks == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(ValidateClusters(kOp, a.clusters));
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "selected.count", a.selected.count));
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "selected.row", a.selected.row));
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "selected.score", a.selected.score));
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "selected.log_gate", a.selected.log_gate));
  if (a.batch.num_staged == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "staged_k", a.staged_k));
  return CheckNotNull(kOp, "staged_v", a.staged_v);
}

absl::Status ClusterEntriesCpu(const ClusterEntriesArgs& a, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidateClusterEntries(a));
  RASQ_RETURN_IF_ERROR(CheckBatchContents("ClusterEntries", a.batch, a.shape));
  RASQ_RETURN_IF_ERROR(CheckSelection("ClusterEntries", a));
  pool.ParallelFor(int64_t{a.batch.num_segments} * a.num_kv_heads, [&](int64_t task, int) {
    thread_local Scratch scratch;
    const int64_t segment = task / a.num_kv_heads;
    if (a.batch.segments[segment].begins == 0 ||
        a.selected.count[segment] <= a.clusters.min_entries) {
      return;
    }
    Clustering(a, segment, task % a.num_kv_heads, scratch).Run();
  });
  return absl::OkStatus();
}

absl::Status ValidateKeepClusters(const KeepClustersArgs& a) {
  RASQ_RETURN_IF_ERROR(ValidateBatch("KeepClusters", a.batch));
  RASQ_RETURN_IF_ERROR(CheckRange("KeepClusters", "num_kv_heads", a.num_kv_heads, 1));
  return a.batch.num_chunks > 0 ? ValidateClusters("KeepClusters", a.clusters) : absl::OkStatus();
}

absl::Status KeepClustersCpu(const KeepClustersArgs& a, ThreadPool& /*pool*/) {
  RASQ_RETURN_IF_ERROR(ValidateKeepClusters(a));
  RASQ_RETURN_IF_ERROR(CheckBatchContents("KeepClusters", a.batch));
  const int64_t bytes = a.num_kv_heads * a.clusters.layout.head_bytes;
  for (int32_t i = 0; i < a.batch.num_chunks; ++i) {
    const StreamChunk& c = a.batch.chunks[i];
    if (!HasBeginning(a.batch, c)) continue;
    const int64_t last = c.first_segment + c.num_segments - 1;
    std::memcpy(c.state + a.clusters.state_offset, a.clusters.segments + last * bytes, bytes);
  }
  return absl::OkStatus();
}

}  // namespace rasq
