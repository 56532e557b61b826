#include <cmath>
#include <cstddef>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/elements_cpu.h"
#include "kernels/repeat_scores.h"
#include "kernels/stream_batch_cpu.h"
#include "kernels/vector_loops_cpu.h"

namespace rasq {
namespace {

struct Scratch {
  std::vector<float> q, k;  // [head_dim]
};

// One row of a chunk, all heads.
void ScoreRow(const RepeatScoresArgs& a, const StreamChunk& chunk, int64_t row, Scratch& scratch) {
  const int64_t dim = a.head_dim, group = a.num_heads / a.num_kv_heads;
  const int64_t bytes = dim * SizeOf(a.element);
  const int64_t position = chunk.first_position + row - chunk.first_row;
  const double scale = 1 / std::sqrt(static_cast<double>(dim));
  scratch.q.resize(dim);
  scratch.k.resize(dim);
  for (int64_t head = 0; head < a.num_heads; ++head) {
    const int64_t at = row * a.num_heads + head;
    LoadElements(a.element, static_cast<const std::byte*>(a.q) + at * bytes, scratch.q.data(), dim);
    const auto weight = [&](int64_t key) {
      const bool in_ring = key < chunk.first_position;
      const int64_t key_row =
          in_ring ? key % a.shape.ring_rows : chunk.first_row + key - chunk.first_position;
      const std::byte* from =
          in_ring ? chunk.state + a.ring_k_offset : static_cast<const std::byte*>(a.k);
      LoadElements(a.element, from + (key_row * a.num_kv_heads + head / group) * bytes,
                   scratch.k.data(), dim);
      const double logit = Dot(scratch.q.data(), scratch.k.data(), dim) * scale;
      return std::exp(logit - a.lse[at]);
    };
    double echo = 0, induction = 0;
    for (int64_t key = position - a.period; key >= a.first; key -= a.period) {
      echo += weight(key);
      induction += weight(key + 1);
    }
    a.out[at] = {static_cast<float>(echo), static_cast<float>(induction)};
  }
}

}  // namespace

absl::Status ValidateRepeatScores(const RepeatScoresArgs& a) {
  constexpr char kOp[] = "RepeatScores";
  RASQ_RETURN_IF_ERROR(ValidateBatch(kOp, a.batch));
  RASQ_RETURN_IF_ERROR(ValidateShape(kOp, a.shape));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "num_kv_heads", a.num_kv_heads, 1));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "num_heads", a.num_heads, 1, 65535));
  if (a.num_heads % a.num_kv_heads != 0) return BadArgument(kOp, "num_heads", a.num_heads);
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "head_dim", a.head_dim, 1));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "ring_k_offset", a.ring_k_offset, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "first", a.first, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "period", a.period, 1));
  if (a.batch.num_chunks == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "q", a.q));
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "k", a.k));
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "lse", a.lse));
  return CheckNotNull(kOp, "out", a.out);
}

absl::Status RepeatScoresCpu(const RepeatScoresArgs& a, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidateRepeatScores(a));
  RASQ_RETURN_IF_ERROR(CheckBatchContents("RepeatScores", a.batch, a.shape));
  for (int32_t i = 0; i < a.batch.num_chunks; ++i) {
    const StreamChunk& c = a.batch.chunks[i];
    if (c.first_position + c.num_rows > a.shape.ring_rows) {
      return absl::InvalidArgumentError(absl::StrCat("RepeatScores: chunk ", i, ": first_position=",
                                                     c.first_position, ": rows have been lost"));
    }
    pool.ParallelFor(c.num_rows, [&](int64_t row, int /*thread*/) {
      thread_local Scratch scratch;
      ScoreRow(a, c, c.first_row + row, scratch);
    });
  }
  return absl::OkStatus();
}

}  // namespace rasq
