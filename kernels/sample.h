// The next token of each row, from its logits. In order: penalties, bans, then greedy (temperature
// 0) or: temperature, top-k, top-p, min-p, one draw. Log-probabilities are of the softmax of the
// logits after penalties and bans, before temperature and truncation. Sources: Keskar et al. 2019,
// arXiv:1909.05858 (repetition penalty), Holtzman et al. 2020, arXiv:1904.09751 (top-p), Nguyen et
// al. 2024, arXiv:2407.01082 (min-p); presence and frequency penalties as the OpenAI API defines
// them.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/base/stream.h"
#include "kernels/base/thread_pool.h"

namespace rasq {

struct SamplePolicy {
  float temperature = 0;         // >= 0; 0: greedy, ties to the lower id
  int32_t top_k = 0;             // 0: off
  float top_p = 1;               // (0, 1]; 1: off
  float min_p = 0;               // [0, 1]; 0: off. Least probability, as a share of the largest
  float repetition_penalty = 1;  // > 0; over tokens in `seen`; 1: off
  float presence_penalty = 0;    // subtracted once from tokens with count > 0
  float frequency_penalty = 0;   // subtracted count times
  uint64_t seed = 0;  // with `draw`, names the random number: the same pair, the same token
  uint64_t draw = 0;  // counts the call's tokens
  int32_t num_alternatives = 0;  // best log-probabilities to report; <= max_alternatives
  // Borrowed; sorted by id, each id once.
  const int32_t* seen_id = nullptr;     // tokens of the prompt and the output
  const int32_t* seen_count = nullptr;  // how often each stands in the output alone; may be 0
  int32_t num_seen = 0;
  const int32_t* banned_id = nullptr;  // never drawn (a stop token before min_new_tokens)
  int32_t num_banned = 0;
};

struct SampleArgs {
  float* logits;               // [rows, vocab]; may be overwritten
  const SamplePolicy* policy;  // [rows]
  int64_t rows;                // >= 0
  int64_t vocab;               // >= 1
  int32_t max_alternatives;    // row width of the two arrays below; may be 0
  int32_t* token;              // [rows]
  float* logprob;              // [rows]: of the token
  int32_t* alternative;        // [rows, max_alternatives]: ids by falling log-probability
  float* alternative_logprob;  // [rows, max_alternatives]
};

absl::Status ValidateSample(const SampleArgs& args);
// A logit that is not finite counts as -infinity. A row without a finite one gets token -1 and a
// log-probability of -infinity: one stream's fault is not that of the others.
absl::Status SampleCpu(const SampleArgs& args, ThreadPool& pool);
absl::Status SampleCuda(const SampleArgs& args, Stream stream);

}  // namespace rasq
