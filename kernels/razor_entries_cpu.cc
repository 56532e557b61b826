#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/elements_cpu.h"
#include "kernels/head_lists_cpu.h"
#include "kernels/razor_entries.h"

namespace rasq {
namespace {

class RazorHead {
 public:
  RazorHead(const RazorEntriesArgs& a, const StreamChunk& chunk, int32_t kv_head)
      : a_(a),
        chunk_(chunk),
        head_(kv_head),
        rows_(a.store, chunk, kv_head),
        at_(RazorRowsOf(a.policy, kv_head)),
        kept_(FirstKept(chunk.leave_end)) {}

  // What was among the newest and is no longer, before its rows are taken by what leaves now.
  void Fold() {
    if (at_.retrieves || kept_ <= a_.policy.sink_rows) return;
    const int64_t before = std::max<int64_t>(FirstKept(chunk_.leave_begin), a_.policy.sink_rows);
    if (kept_ == before) return;
    FoldRows(/*key=*/true, a_.mean_k_offset, before);
    FoldRows(/*key=*/false, a_.mean_v_offset, before);
  }

  void KeepLeaving() const {
    for (int64_t p = chunk_.leave_begin; p < chunk_.leave_end; ++p) {
      if (p < a_.policy.sink_rows || p >= kept_) rows_.Keep(p, RazorRowOf(a_.policy, at_, p));
    }
  }

  void List(int64_t segment) const {
    const int64_t list = segment * a_.store.num_kv_heads + head_;
    int32_t* row = a_.lists.row + list * a_.store.shape.max_selected;
    float* bias = a_.lists.bias + list * a_.store.shape.max_selected;
    int32_t count = 0;
    const int64_t sinks = std::min<int64_t>(a_.policy.sink_rows, chunk_.leave_end);
    for (int64_t p = 0; p < sinks; ++p, ++count) Put(p, row + count, bias + count);
    for (int64_t p = std::max(sinks, kept_); p < chunk_.leave_end; ++p, ++count) {
      Put(p, row + count, bias + count);
    }
    const int64_t folded = kept_ - a_.policy.sink_rows;
    if (!at_.retrieves && folded > 0) {
      row[count] = static_cast<int32_t>(CompensationRow());
      bias[count] = static_cast<float>(std::log(static_cast<double>(folded)));
      ++count;
    }
    a_.lists.count[list] = count;
  }

 private:
  int64_t FirstKept(int64_t left) const {
    return RazorFirstKept(a_.policy, at_.retrieves, left, a_.store.shape.window_rows);
  }
  int64_t CompensationRow() const { return at_.first + a_.policy.sink_rows + at_.rows; }
  void Put(int64_t position, int32_t* row, float* bias) const {
    *row = static_cast<int32_t>(RazorRowOf(a_.policy, at_, position));
    *bias = 0;
  }

  void FoldRows(bool key, int64_t mean_offset, int64_t before) const {
    const int64_t dim = a_.store.head_dim;
    auto* mean = reinterpret_cast<double*>(chunk_.state + mean_offset) + head_ * dim;
    std::vector<double> sum(dim);
    std::vector<float> row(dim);
    for (int64_t p = before; p < kept_; ++p) {
      const std::byte* from = p < chunk_.leave_begin
                                  ? rows_.Stored(key, RazorRowOf(a_.policy, at_, p))
                                  : rows_.InRing(key, p);
      LoadElements(a_.store.element, from, row.data(), dim);
      for (int64_t d = 0; d < dim; ++d) sum[d] += row[d];
    }
    const auto had = static_cast<double>(before - a_.policy.sink_rows);
    const auto has = static_cast<double>(kept_ - a_.policy.sink_rows);
    for (int64_t d = 0; d < dim; ++d) {
      mean[d] = had > 0 ? mean[d] + (sum[d] - (has - had) * mean[d]) / has : sum[d] / has;
      row[d] = static_cast<float>(mean[d]);
    }
    StoreElements(a_.store.element, row.data(), rows_.Stored(key, CompensationRow()), dim);
  }

  const RazorEntriesArgs& a_;
  const StreamChunk& chunk_;
  const int64_t head_;
  const HeadRows rows_;
  const RazorRows at_;
  const int64_t kept_;  // the first position of the newest, after this batch
};

}  // namespace

absl::Status ValidateRazorEntries(const RazorEntriesArgs& a) {
  constexpr char kOp[] = "RazorEntries";
  RASQ_RETURN_IF_ERROR(ValidateHeadStore(kOp, a.store, a.lists));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "num_kv_heads", a.store.num_kv_heads, 1, kMaxRazorHeads));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "sink_rows", a.policy.sink_rows, 0, 1 << 20));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "retrieval_rows", a.policy.retrieval_rows, 0, 1 << 30));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "local_rows", a.policy.local_rows, 0, 1 << 30));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "local_tokens", a.policy.local_tokens, 0, 1 << 30));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "compression", a.policy.compression, 0, 1 << 30));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "mean_k_offset", a.mean_k_offset, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "mean_v_offset", a.mean_v_offset, 0));
  const int64_t rows = NumRazorRows(a.policy, a.store.num_kv_heads);
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "capacity", a.store.shape.capacity, rows));
  const int64_t longest =
      a.policy.sink_rows + std::max(a.policy.retrieval_rows, a.policy.local_rows + 1);
  return CheckRange(kOp, "max_selected", a.store.shape.max_selected, longest);
}

absl::Status RazorEntriesCpu(const RazorEntriesArgs& a, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidateRazorEntries(a));
  RASQ_RETURN_IF_ERROR(CheckHeadStore("RazorEntries", a.store));
  for (int32_t i = 0; i < a.store.batch.num_chunks; ++i) {
    const int64_t left = a.store.batch.chunks[i].leave_end;
    const int64_t kept =
        left - RazorFirstKept(a.policy, /*retrieves=*/false, left, a.store.shape.window_rows);
    if (kept > a.policy.local_rows) {
      return absl::InvalidArgumentError(
          absl::StrCat("RazorEntries: chunk ", i, ": leave_end=", left,
                       ": more than local_rows=", a.policy.local_rows, " are kept"));
    }
  }
  const int64_t heads = a.store.num_kv_heads;
  pool.ParallelFor(a.store.batch.num_segments * heads, [&](int64_t task, int /*thread*/) {
    const int64_t segment = task / heads;
    const StreamChunk& chunk = a.store.batch.chunks[a.store.batch.segments[segment].chunk];
    RazorHead head(a, chunk, static_cast<int32_t>(task % heads));
    head.Fold();
    head.KeepLeaving();
    head.List(segment);
  });
  return absl::OkStatus();
}

}  // namespace rasq
