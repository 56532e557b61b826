#include <algorithm>
#include <cstddef>
#include <vector>

#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/budget_head.h"
#include "kernels/elements_cpu.h"
#include "kernels/stream_batch_cpu.h"
#include "kernels/vector_loops_cpu.h"

namespace rasq {
namespace {

struct Scratch {
  std::vector<float> query;   // [index_dim]
  std::vector<float> pooled;  // [index_dim]
};

// The mean of the segment's queries.
void Pool(const BudgetHeadArgs& a, const StreamSegment& segment, Scratch& scratch) {
  const StreamChunk& chunk = a.batch.chunks[segment.chunk];
  const int64_t num_queries = std::min<int64_t>(segment.start, a.shape.segment_rows);
  const int64_t row_bytes = a.index_dim * SizeOf(a.element);
  const std::byte* ring = chunk.state + a.query_ring_offset;
  const auto* own = static_cast<const std::byte*>(a.query);
  scratch.query.resize(a.index_dim);
  scratch.pooled.assign(a.index_dim, 0.0f);
  ForTokenSpans(
      chunk, segment.start - num_queries, segment.start, a.shape.segment_rows,
      [&](const TokenSpan& span) {
        for (int64_t i = 0; i < span.num_rows; ++i) {
          LoadElements(a.element, (span.in_ring ? ring : own) + (span.row + i) * row_bytes,
                       scratch.query.data(), a.index_dim);
          Add(scratch.pooled.data(), scratch.query.data(), scratch.pooled.data(), a.index_dim);
        }
      });
  if (num_queries == 0) return;
  for (float& x : scratch.pooled) x /= static_cast<float>(num_queries);
}

}  // namespace

absl::Status ValidateBudgetHead(const BudgetHeadArgs& a) {
  constexpr char kOp[] = "BudgetHead";
  RASQ_RETURN_IF_ERROR(ValidateBatch(kOp, a.batch));
  RASQ_RETURN_IF_ERROR(ValidateShape(kOp, a.shape));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "index_dim", a.index_dim, 1, 65536));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "num_factors", a.num_factors, 1, kMaxBudgetFactors));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "query_ring_offset", a.query_ring_offset, 0));
  if (a.batch.num_chunks == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "query", a.query));
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "weight", a.weight));
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "bias", a.bias));
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "factors", a.factors));
  return CheckNotNull(kOp, "factor", a.factor);
}

absl::Status BudgetHeadCpu(const BudgetHeadArgs& a, ThreadPool& /*pool*/) {
  RASQ_RETURN_IF_ERROR(ValidateBudgetHead(a));
  RASQ_RETURN_IF_ERROR(CheckBatchContents("BudgetHead", a.batch, a.shape));
  // Some ten thousand sums a segment: not worth the pool.
  Scratch scratch;
  for (int32_t i = 0; i < a.batch.num_segments; ++i) {
    if (a.batch.segments[i].begins == 0) continue;
    Pool(a, a.batch.segments[i], scratch);
    int32_t best = 0;
    float most = 0;
    for (int32_t f = 0; f < a.num_factors; ++f) {
      const float* weight = a.weight + int64_t{f} * a.index_dim;
      const float logit = Dot(weight, scratch.pooled.data(), a.index_dim) + a.bias[f];
      if (f > 0 && !(logit > most)) continue;
      best = f;
      most = logit;
    }
    a.factor[i] = a.factors[best];
  }
  return absl::OkStatus();
}

}  // namespace rasq
