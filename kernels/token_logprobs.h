// logprob[t] = logits[t, token[t]] - log(sum_i exp(logits[t, i])): how likely the model found each
// of a text's tokens, in natural logarithms.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/base/stream.h"
#include "kernels/base/thread_pool.h"

namespace rasq {

struct TokenLogprobsArgs {
  float* logits;         // [rows, vocab]; may be overwritten
  const int32_t* token;  // [rows], in the vocabulary: checked by the CPU version alone
  int64_t rows;          // >= 0
  int64_t vocab;         // >= 1
  float* logprob;        // [rows]
};

absl::Status ValidateTokenLogprobs(const TokenLogprobsArgs& args);
// As in sample.h, a logit that is not finite counts as -infinity: such a token, and every token of
// a row without a finite logit, has a log-probability of -infinity. A row's result does not depend
// on the number of rows.
absl::Status TokenLogprobsCpu(const TokenLogprobsArgs& args, ThreadPool& pool);
absl::Status TokenLogprobsCuda(const TokenLogprobsArgs& args, Stream stream);

}  // namespace rasq
