#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/row_tasks_cpu.h"
#include "kernels/token_logprobs.h"
#include "kernels/vector_loops_cpu.h"

namespace rasq {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

float RowLogprob(float* logits, int64_t vocab, int32_t token) {
  float best = kNever;
  for (int64_t i = 0; i < vocab; ++i) {
    if (!std::isfinite(logits[i])) logits[i] = kNever;
    best = std::max(best, logits[i]);
  }
  if (best == kNever) return kNever;
  const float above = logits[token] - best;  // before the row is overwritten
  return above - std::log(ExpLogits(logits, /*scale=*/1, /*bias=*/nullptr, best, logits, vocab));
}

}  // namespace

absl::Status ValidateTokenLogprobs(const TokenLogprobsArgs& a) {
  RASQ_RETURN_IF_ERROR(CheckRange("TokenLogprobs", "rows", a.rows, 0, INT32_MAX));
  RASQ_RETURN_IF_ERROR(CheckRange("TokenLogprobs", "vocab", a.vocab, 1, INT32_MAX));
  if (a.rows == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull("TokenLogprobs", "logits", a.logits));
  RASQ_RETURN_IF_ERROR(CheckNotNull("TokenLogprobs", "token", a.token));
  return CheckNotNull("TokenLogprobs", "logprob", a.logprob);
}

absl::Status TokenLogprobsCpu(const TokenLogprobsArgs& a, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidateTokenLogprobs(a));
  for (int64_t t = 0; t < a.rows; ++t) {
    RASQ_RETURN_IF_ERROR(
        CheckRange("TokenLogprobs", absl::StrCat("token[", t, "]"), a.token[t], 0, a.vocab - 1));
  }
  ForRowRanges(pool, a.rows, a.vocab * 4, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      a.logprob[t] = RowLogprob(a.logits + t * a.vocab, a.vocab, a.token[t]);
    }
  });
  return absl::OkStatus();
}

}  // namespace rasq
