#include "kernels/attend_few_cpu.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/elements_cpu.h"
#include "kernels/entry_clusters_cpu.h"
#include "kernels/entry_rows_cpu.h"
#include "kernels/fused_blocks_cpu.h"
#include "kernels/stream_batch_cpu.h"
#include "kernels/vector_loops_cpu.h"

namespace rasq {
namespace {

struct Scratch {
  std::vector<float> q;           // [queries, head_dim]: all heads of the kv head, all rows; scaled
  std::vector<float> memory_q;    // [queries, compressed_dim]: moved into the memory's frame
  std::vector<int32_t> listed;    // the entries that some query reads
  std::vector<uint64_t> read;     // [queries]: the clusters that it reads, as bits
  std::vector<float> up;          // [head_dim, compressed_dim]
  std::vector<float> head;        // [head_dim]
  std::vector<float> sinks;       // [sinks, head_dim]
  std::vector<float> centroids;   // [clusters, compressed_dim]
  std::vector<float> entries;     // [entries, compressed_dim]: those listed
  std::vector<float> bias;        // [entries]
  std::vector<float> summary;     // [queries, clusters]: logits of the centroids
  std::vector<float> logits;      // [queries, keys]: sinks, window and own, entries, centroids
  std::vector<float> out;         // [queries, head_dim]
  std::vector<float> memory_out;  // [compressed_dim]
};

template <typename T>
class FewRows {
 public:
  FewRows(const StreamAttentionArgs& a, int64_t segment, int64_t kv_head, Scratch& scratch)
      : a_(a),
        s_(scratch),
        index_(segment),
        kv_head_(kv_head),
        segment_(a.batch.segments[segment]),
        chunk_(a.batch.chunks[segment_.chunk]),
        dim_(a.head_dim),
        group_(a.num_heads / a.num_kv_heads),
        num_queries_(group_ * segment_.num_rows),
        stride_(int64_t{a.num_kv_heads} * a.head_dim),
        first_position_(FirstPosition(chunk_, segment_)),
        begin_(std::max<int64_t>(0, segment_.start - a.shape.window_rows)),
        end_(first_position_ + segment_.num_rows),
        num_sinks_(std::clamp<int64_t>(segment_.start - a.shape.window_rows, 0, a.shape.sink_rows)),
        num_entries_(a.reads_memory ? a.selected.count[ListOf(a, segment, kv_head)] : 0),
        exact_entries_(HasExactEntries(a)),
        num_clusters_(IsClustered(a, segment) ? a.clusters.num_clusters : 0) {
    if (num_clusters_ > 0) {
      clusters_ = ClustersOf(a.clusters, a.batch, a.num_kv_heads, segment, kv_head);
    }
  }

  void Run() {
    s_.head.resize(dim_);
    LoadQueries();
    if (num_entries_ > 0) {
      MoveQueries();
      ListEntries();
    }
    num_listed_ = num_entries_ > 0 ? static_cast<int64_t>(s_.listed.size()) : 0;
    num_keys_ = num_sinks_ + (end_ - begin_) + num_listed_ + num_clusters_;
    s_.logits.resize(num_queries_ * num_keys_);
    ScoreSinks();
    ForWindow(a_.ring_k_offset, a_.k, [this](const T* rows, int64_t num_rows, int64_t offset) {
      for (int64_t i = 0; i < num_queries_; ++i) {
        DotRows(rows, stride_, num_rows, &s_.q[i * dim_], dim_, Logits(i) + num_sinks_ + offset);
      }
    });
    if (num_entries_ > 0) ScoreEntries();
    for (int64_t i = 0; i < num_queries_; ++i) Softmax(i);
    s_.out.assign(num_queries_ * dim_, 0.0f);
    const T* sinks = InState(a_.sink_v_offset) + kv_head_ * dim_;
    for (int64_t i = 0; i < num_queries_; ++i) {
      AddRows(sinks, stride_, num_sinks_, Logits(i), dim_, &s_.out[i * dim_]);
    }
    ForWindow(a_.ring_v_offset, a_.v, [this](const T* rows, int64_t num_rows, int64_t offset) {
      for (int64_t i = 0; i < num_queries_; ++i) {
        AddRows(rows, stride_, num_rows, Logits(i) + num_sinks_ + offset, dim_, &s_.out[i * dim_]);
      }
    });
    if (num_entries_ > 0) SumEntries();
    for (int64_t i = 0; i < num_queries_; ++i) {
      Scale(&s_.out[i * dim_], 1.0f, static_cast<T*>(a_.out) + Element(i), dim_);
    }
  }

 private:
  // Query i is row i / group_ of the segment's part, head i % group_ of the kv head.
  int64_t HeadOf(int64_t query) const { return kv_head_ * group_ + query % group_; }
  int64_t Element(int64_t query) const {
    return ((segment_.first_row + query / group_) * a_.num_heads + HeadOf(query)) * dim_;
  }
  float* Logits(int64_t query) { return &s_.logits[query * num_keys_]; }
  const T* InState(int64_t offset) const {
    return reinterpret_cast<const T*>(chunk_.state + offset);
  }

  void LoadQueries() {
    s_.q.resize(num_queries_ * dim_);
    const float scale = 1.0f / std::sqrt(static_cast<float>(dim_));
    for (int64_t i = 0; i < num_queries_; ++i) {
      float* q = &s_.q[i * dim_];
      LoadElements(a_.element, static_cast<const T*>(a_.q) + Element(i), q, dim_);
      Scale(q, scale, q, dim_);
    }
  }

  void ScoreSinks() {
    s_.sinks.resize(num_sinks_ * dim_);
    const T* sinks = InState(a_.sink_k_offset) + kv_head_ * dim_;
    for (int64_t j = 0; j < num_sinks_; ++j) {
      LoadElements(a_.element, sinks + j * stride_, s_.head.data(), dim_);
      Rotate(s_.head.data(), a_.sink_rotation + (index_ * a_.shape.sink_rows + j) * dim_,
             &s_.sinks[j * dim_], dim_);
    }
    for (int64_t i = 0; i < num_queries_; ++i) {
      DotRows(s_.sinks.data(), dim_, num_sinks_, &s_.q[i * dim_], dim_, Logits(i));
    }
  }

  // The listed entries' keys or values as floats, behind each other.
  void GatherEntries(bool key) {
    const int64_t width = a_.compressed_dim;
    s_.entries.resize(num_listed_ * width);
    for (int64_t j = 0; j < num_listed_; ++j) {
      LoadEntry(a_, index_, kv_head_, s_.listed[j], key, DType::kFloat32, &s_.entries[j * width]);
    }
  }

  void LoadCentroids(const std::byte* rows) {
    s_.centroids.resize(num_clusters_ * a_.compressed_dim);
    LoadElements(a_.element, rows, s_.centroids.data(), num_clusters_ * a_.compressed_dim);
  }

  // This kv head's P^+ as floats.
  void LoadUp(const void* up) {
    const int64_t size = dim_ * a_.compressed_dim;
    s_.up.resize(size);
    const auto* from = static_cast<const std::byte*>(up) + kv_head_ * size * SizeOf(a_.element);
    LoadElements(a_.element, from, s_.up.data(), size);
  }

  // q~ = P_k^+^T q'; for exact entries q' itself.
  void MoveQueries() {
    const int64_t width = a_.compressed_dim;
    if (!exact_entries_) LoadUp(a_.key_up);
    s_.memory_q.assign(num_queries_ * width, 0.0f);
    for (int64_t i = 0; i < num_queries_; ++i) {
      const float* q = &s_.q[i * dim_];
      if (a_.memory_rotation != nullptr) {
        RotateBack(q, a_.memory_rotation + index_ * dim_, s_.head.data(), dim_);
        q = s_.head.data();
      }
      if (exact_entries_) {
        std::copy_n(q, dim_, &s_.memory_q[i * width]);
      } else {
        AddRows(s_.up.data(), width, dim_, q, width, &s_.memory_q[i * width]);
      }
    }
  }

  // Which entries have to be read: all, or those of the clusters that a query chooses.
  void ListEntries() {
    uint64_t any = 0;
    if (num_clusters_ > 0) {
      LoadCentroids(clusters_.k);
      s_.summary.resize(num_queries_ * num_clusters_);
      s_.read.resize(num_queries_);
      for (int64_t i = 0; i < num_queries_; ++i) {
        const int64_t width = a_.compressed_dim;
        float* logits = &s_.summary[i * num_clusters_];
        DotRows(s_.centroids.data(), width, num_clusters_, &s_.memory_q[i * width], width, logits);
        s_.read[i] =
            PickClusters(clusters_, a_.clusters.num_clusters, a_.clusters.read_clusters, logits);
        any |= s_.read[i];
      }
    }
    s_.listed.clear();
    for (int32_t j = 0; j < num_entries_; ++j) {
      if (num_clusters_ == 0 || IsRead(any, clusters_.cluster[j])) s_.listed.push_back(j);
    }
  }

  // The logits of entries and centroids with their bias; what the query does not read, -infinity.
  void ScoreEntries() {
    constexpr float kUnread = -std::numeric_limits<float>::infinity();
    const int64_t width = a_.compressed_dim;
    GatherEntries(/*key=*/true);
    s_.bias.resize(std::max(num_entries_, num_clusters_));
    for (int64_t i = 0; i < num_queries_; ++i) {
      float* logits = Logits(i) + num_sinks_ + (end_ - begin_);
      DotRows(s_.entries.data(), width, num_listed_, &s_.memory_q[i * width], width, logits);
      EntryBias(a_, index_, HeadOf(i), s_.bias.data());
      if (num_clusters_ == 0) {
        Add(logits, s_.bias.data(), logits, num_listed_);
        continue;
      }
      for (int64_t j = 0; j < num_listed_; ++j) {
        const int32_t entry = s_.listed[j];
        const bool is_read = IsRead(s_.read[i], clusters_.cluster[entry]);
        logits[j] = is_read ? logits[j] + s_.bias[entry] : kUnread;
      }
      ClusterBias(a_, clusters_, HeadOf(i), s_.bias.data());
      for (int64_t c = 0; c < num_clusters_; ++c) {
        logits[num_listed_ + c] =
            IsRead(s_.read[i], c) ? kUnread : s_.summary[i * num_clusters_ + c] + s_.bias[c];
      }
    }
  }

  // Logits to weights, in place. Rows of the segment behind the query's own weigh nothing.
  void Softmax(int64_t query) {
    float* logits = Logits(query);
    const int64_t seen = first_position_ + query / group_ + 1 - begin_;
    std::fill(logits + num_sinks_ + seen, logits + num_sinks_ + (end_ - begin_),
              -std::numeric_limits<float>::infinity());
    const bool fused = num_entries_ > 0 && a_.fused_weight != nullptr;
    const int64_t num_keys = fused ? num_keys_ - num_listed_ : num_keys_;  // of the plain softmax
    LogSum all;
    LogSum memory;
    if (fused) {
      const float* weight =
          a_.fused_weight + ListOf(a_, index_, kv_head_) * NumFusedBlocks(a_.shape.max_selected);
      memory = FuseBlocks(logits + num_keys, /*scale=*/1, /*bias=*/nullptr, weight, num_listed_);
    }
    all.most = std::max(memory.most, MaxLogit(logits, /*scale=*/1, /*bias=*/nullptr, num_keys));
    all.sum = ExpLogits(logits, /*scale=*/1, /*bias=*/nullptr, all.most, logits, num_keys);
    if (fused) {
      const float share = memory.RelativeTo(all.most);
      all.sum += share;
      Scale(logits + num_keys, share / all.sum, logits + num_keys, num_listed_);
    }
    Scale(logits, 1.0f / all.sum, logits, num_keys);
    if (a_.lse != nullptr) a_.lse[Element(query) / dim_] = all.Log();
  }

  // out += P_v^+ of the weighted entries.
  void SumEntries() {
    const int64_t width = a_.compressed_dim;
    if (!exact_entries_) LoadUp(a_.value_up);
    GatherEntries(/*key=*/false);
    if (num_clusters_ > 0) LoadCentroids(clusters_.v);
    for (int64_t i = 0; i < num_queries_; ++i) {
      const float* weights = Logits(i) + num_sinks_ + (end_ - begin_);
      s_.memory_out.assign(width, 0.0f);
      AddRows(s_.entries.data(), width, num_listed_, weights, width, s_.memory_out.data());
      if (num_clusters_ > 0) {
        AddRows(s_.centroids.data(), width, num_clusters_, weights + num_listed_, width,
                s_.memory_out.data());
      }
      const float* head = s_.memory_out.data();
      if (!exact_entries_) {
        DotRows(s_.up.data(), width, dim_, s_.memory_out.data(), width, s_.head.data());
        head = s_.head.data();
      }
      Add(&s_.out[i * dim_], head, &s_.out[i * dim_], dim_);
    }
  }

  // Calls body(rows, num_rows, offset) for the runs of positions from begin_ + offset on: this kv
  // head's rows, stride_ apart.
  template <typename Body>
  void ForWindow(int64_t ring_offset, const void* own, const Body& body) {
    ForTokenSpans(chunk_, begin_, end_, a_.shape.ring_rows, [&](const TokenSpan& span) {
      const T* rows = span.in_ring ? InState(ring_offset) : static_cast<const T*>(own);
      body(rows + span.row * stride_ + kv_head_ * dim_, span.num_rows, span.offset);
    });
  }

  const StreamAttentionArgs& a_;
  Scratch& s_;
  const int64_t index_;
  const int64_t kv_head_;
  const StreamSegment& segment_;
  const StreamChunk& chunk_;
  const int64_t dim_;
  const int64_t group_;
  const int64_t num_queries_;
  const int64_t stride_;  // elements between tokens of a kv head
  const int64_t first_position_;
  const int64_t begin_;  // window and own segment: positions [begin_, end_)
  const int64_t end_;
  const int64_t num_sinks_;
  const int64_t num_entries_;
  const bool exact_entries_;
  const int64_t num_clusters_;  // 0: entries are read without clusters
  ClusterView clusters_;
  int64_t num_listed_ = 0;
  int64_t num_keys_ = 0;
};

}  // namespace

void AttendFew(const StreamAttentionArgs& a, int64_t segment, int64_t kv_head) {
  thread_local Scratch scratch;
  if (a.element == DType::kBfloat16) {
    FewRows<bfloat16>(a, segment, kv_head, scratch).Run();
  } else {
    FewRows<float>(a, segment, kv_head, scratch).Run();
  }
}

}  // namespace rasq
