#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/elements_cpu.h"
#include "kernels/entry_rows_cpu.h"
#include "kernels/key_weights.h"
#include "kernels/stream_batch_cpu.h"
#include "kernels/vector_loops_cpu.h"

namespace rasq {
namespace {

struct Scratch {
  std::vector<float> entries;  // [entries, head_dim]
  std::vector<float> bias;     // [entries]
  std::vector<float> q;        // [head_dim], scaled
  std::vector<float> weights;  // [keys], of one query and head
  std::vector<float> sums;     // [keys]
};

// One segment and kv head: its keys are the list's entries, then the tokens of window and part.
template <typename T>
class KeySums {
 public:
  KeySums(const KeyWeightsArgs& args, int64_t segment, int64_t kv_head, Scratch& scratch)
      : args_(args),
        a_(args.attention),
        s_(scratch),
        index_(segment),
        kv_head_(kv_head),
        segment_(a_.batch.segments[segment]),
        chunk_(a_.batch.chunks[segment_.chunk]),
        dim_(a_.head_dim),
        group_(a_.num_heads / a_.num_kv_heads),
        stride_(int64_t{a_.num_kv_heads} * a_.head_dim),
        begin_(std::max<int64_t>(0, segment_.start - a_.shape.window_rows)),
        end_(FirstPosition(chunk_, segment_) + segment_.num_rows),
        num_entries_(a_.reads_memory ? a_.selected.count[ListOf(a_, segment, kv_head)] : 0) {}

  void Run() {
    s_.entries.resize(num_entries_ * dim_);
    for (int64_t j = 0; j < num_entries_; ++j) {
      LoadEntry(a_, index_, kv_head_, j, /*key=*/true, DType::kFloat32, &s_.entries[j * dim_]);
    }
    s_.bias.resize(num_entries_);
    s_.q.resize(dim_);
    s_.weights.resize(num_entries_ + end_ - begin_);
    s_.sums.assign(s_.weights.size(), 0.0f);
    for (int64_t g = 0; g < group_; ++g) {
      const int64_t head = kv_head_ * group_ + g;
      if (num_entries_ > 0) EntryBias(a_, index_, head, s_.bias.data());
      for (int64_t position = FirstQuery(); position < end_; ++position) AddQuery(position, head);
    }
    Store();
  }

 private:
  int64_t FirstQuery() const {
    const int64_t kept = args_.query_ring_rows > 0 ? 0 : FirstPosition(chunk_, segment_);
    return std::max(kept, end_ - args_.num_queries);
  }

  void AddQuery(int64_t position, int64_t head) {
    const bool in_ring = position < chunk_.first_position;
    const int64_t row = in_ring ? position % args_.query_ring_rows
                                : chunk_.first_row + position - chunk_.first_position;
    const int64_t at = row * a_.num_heads + head;
    const auto* q = static_cast<const T*>(a_.q);
    const float* lse = a_.lse;
    if (in_ring) {
      q = reinterpret_cast<const T*>(chunk_.state + args_.query_ring_offset);
      lse = reinterpret_cast<const float*>(chunk_.state + args_.lse_ring_offset);
    }
    LoadElements(a_.element, q + at * dim_, s_.q.data(), dim_);
    Scale(s_.q.data(), 1.0f / std::sqrt(static_cast<float>(dim_)), s_.q.data(), dim_);
    float* weights = s_.weights.data();
    DotRows(s_.entries.data(), dim_, num_entries_, s_.q.data(), dim_, weights);
    Add(weights, s_.bias.data(), weights, num_entries_);
    const int64_t seen = position + 1 - begin_;  // tokens; none if the window begins behind
    ForTokenSpans(chunk_, begin_, begin_ + seen, a_.shape.ring_rows, [&](const TokenSpan& span) {
      const T* rows = span.in_ring ? reinterpret_cast<const T*>(chunk_.state + a_.ring_k_offset)
                                   : static_cast<const T*>(a_.k);
      DotRows(rows + span.row * stride_ + kv_head_ * dim_, stride_, span.num_rows, s_.q.data(),
              dim_, weights + num_entries_ + span.offset);
    });
    const int64_t n = num_entries_ + std::max<int64_t>(0, seen);
    ExpLogits(weights, /*scale=*/1, /*bias=*/nullptr, lse[at], weights, n);
    Add(s_.sums.data(), weights, s_.sums.data(), n);
  }

  void Store() {
    float* out = args_.out + (index_ * a_.num_kv_heads + kv_head_) * KeyColumns(a_.shape);
    if (!args_.accumulate) std::fill_n(out, KeyColumns(a_.shape), 0.0f);
    const float scale = args_.sum_heads ? 1.0f : 1.0f / static_cast<float>(group_);
    float* sums = s_.sums.data();
    Scale(sums, scale, sums, static_cast<int64_t>(s_.sums.size()));
    Add(out, sums, out, num_entries_);
    float* tokens = out + a_.shape.max_selected;
    Add(tokens, sums + num_entries_, tokens, end_ - begin_);
  }

  const KeyWeightsArgs& args_;
  const StreamAttentionArgs& a_;
  Scratch& s_;
  const int64_t index_;
  const int64_t kv_head_;
  const StreamSegment& segment_;
  const StreamChunk& chunk_;
  const int64_t dim_;
  const int64_t group_;
  const int64_t stride_;  // elements between tokens of a kv head
  const int64_t begin_;   // tokens: positions [begin_, end_)
  const int64_t end_;
  const int64_t num_entries_;
};

}  // namespace

absl::Status ValidateKeyWeights(const KeyWeightsArgs& args) {
  constexpr char kOp[] = "KeyWeights";
  const StreamAttentionArgs& a = args.attention;
  RASQ_RETURN_IF_ERROR(ValidateStreamAttention(a));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "num_queries", args.num_queries, 1, kMaxKeyQueries));
  if (args.query_ring_rows != 0) {
    RASQ_RETURN_IF_ERROR(
        CheckRange(kOp, "query_ring_rows", args.query_ring_rows, args.num_queries));
  }
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "query_ring_offset", args.query_ring_offset, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "lse_ring_offset", args.lse_ring_offset, 0));
  if (a.batch.num_chunks == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "attention.lse", a.lse));
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "out", args.out));
  if (!a.reads_memory) return absl::OkStatus();
  const auto bad = [](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat("KeyWeights: attention with ", what));
  };
  if (!HasExactEntries(a)) return bad("key_up");
  if (a.entry_type != EntryType::kElement) {
    return bad(absl::StrCat("entry_type=", Name(a.entry_type, a.element)));
  }
  if (a.memory_rotation != nullptr) return bad("memory_rotation");
  if (a.clusters.segments != nullptr) return bad("clusters");
  if (a.fused_weight != nullptr) return bad("fused_weight");
  return absl::OkStatus();
}

absl::Status KeyWeightsCpu(const KeyWeightsArgs& args, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidateKeyWeights(args));
  const StreamAttentionArgs& a = args.attention;
  RASQ_RETURN_IF_ERROR(CheckBatchContents("KeyWeights", a.batch, a.shape));
  if (a.reads_memory) RASQ_RETURN_IF_ERROR(CheckSelection("KeyWeights", a));
  pool.ParallelFor(int64_t{a.batch.num_segments} * a.num_kv_heads, [&](int64_t task, int) {
    thread_local Scratch scratch;
    const int64_t segment = task / a.num_kv_heads, kv_head = task % a.num_kv_heads;
    if (a.element == DType::kBfloat16) {
      KeySums<bfloat16>(args, segment, kv_head, scratch).Run();
    } else {
      KeySums<float>(args, segment, kv_head, scratch).Run();
    }
  });
  return absl::OkStatus();
}

}  // namespace rasq
