#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/random.h"
#include "kernels/sample.h"
#include "kernels/vector_loops_cpu.h"

namespace rasq {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

struct Scratch {
  std::vector<float> logits;
  std::vector<float> weights;
  std::vector<int32_t> order;
};

void Penalise(const SamplePolicy& p, int64_t vocab, std::vector<float>& logits) {
  for (int32_t i = 0; i < p.num_seen; ++i) {
    if (p.seen_id[i] < 0 || p.seen_id[i] >= vocab) continue;
    float& logit = logits[p.seen_id[i]];
    logit = logit > 0 ? logit / p.repetition_penalty : logit * p.repetition_penalty;
    if (p.seen_count[i] > 0) {
      logit -= p.presence_penalty + p.frequency_penalty * static_cast<float>(p.seen_count[i]);
    }
  }
  for (int32_t i = 0; i < p.num_banned; ++i) {
    if (p.banned_id[i] >= 0 && p.banned_id[i] < vocab) logits[p.banned_id[i]] = kNever;
  }
}

// Better first; between equals, the lower id.
struct Better {
  const std::vector<float>& logits;
  bool operator()(int32_t a, int32_t b) const {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  }
};

// Brings the best n of `order` to its front, in order.
void SortBest(int64_t n, const std::vector<float>& logits, std::vector<int32_t>& order) {
  const auto size = static_cast<int64_t>(order.size());
  if (n < size) std::nth_element(order.begin(), order.begin() + n, order.end(), Better{logits});
  std::sort(order.begin(), order.begin() + n, Better{logits});
}

// Draws in proportion to the weights of ids, of which there are n; id(i) is the i-th.
template <typename Id>
int32_t Draw(double u, int64_t n, const std::vector<float>& weights, const Id& id) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += weights[id(i)];
  double rest = u * sum;
  int32_t last = id(0);
  for (int64_t i = 0; i < n; ++i) {
    if (weights[id(i)] <= 0) continue;
    last = id(i);
    rest -= weights[last];
    if (rest < 0) break;
  }
  return last;
}

// Leaves in `order` the ids that top-k and top-p keep, best first. Ids far below the best are left
// out before anything is sorted: few are in reach of it.
void KeepBest(const SamplePolicy& p, float best, Scratch& s) {
  const auto vocab = static_cast<int64_t>(s.logits.size());
  const int64_t most = p.top_k > 0 ? std::min<int64_t>(p.top_k, vocab) : vocab;
  double total = 0;  // of top-k's weights, or of all
  for (const float weight : s.weights) total += weight;
  float reach = std::max(1.0f, 4 * p.temperature);
  while (true) {
    double sum = 0;
    s.order.clear();
    for (int32_t i = 0; i < vocab; ++i) {
      if (s.logits[i] < best - reach) continue;
      s.order.push_back(i);
      sum += s.weights[i];
    }
    const auto size = static_cast<int64_t>(s.order.size());
    if (size >= most || (most == vocab && sum >= p.top_p * total) || std::isinf(reach)) break;
    reach *= 2;
  }
  const int64_t kept = std::min<int64_t>(most, s.order.size());
  SortBest(kept, s.logits, s.order);
  s.order.resize(kept);
  if (p.top_p >= 1) return;
  if (most < vocab) {
    total = 0;
    for (const int32_t id : s.order) total += s.weights[id];
  }
  double sum = 0;
  for (size_t i = 0; i < s.order.size(); ++i) {
    sum += s.weights[s.order[i]];
    if (sum >= p.top_p * total) {
      s.order.resize(i + 1);
      return;
    }
  }
}

int32_t Sampled(const SamplePolicy& p, float best, Scratch& s) {
  const auto vocab = static_cast<int64_t>(s.logits.size());
  // Differences first, and a bound on the scale, so that no temperature overflows.
  const float scale = std::min(1.0f / p.temperature, 1e30f);
  s.weights.resize(vocab);
  for (int64_t i = 0; i < vocab; ++i) s.weights[i] = s.logits[i] - best;
  ExpLogits(s.weights.data(), scale, /*bias=*/nullptr, /*shift=*/0, s.weights.data(), vocab);
  const double u = UniformAt(p.seed, p.draw);
  const bool truncates = (p.top_k > 0 && p.top_k < vocab) || p.top_p < 1;
  if (truncates) KeepBest(p, best, s);
  // The best one's weight is 1, so min-p is a threshold on weights.
  for (float& weight : s.weights) weight = weight < p.min_p ? 0.0f : weight;
  if (truncates) {
    return Draw(u, static_cast<int64_t>(s.order.size()), s.weights,
                [&s](int64_t i) { return s.order[i]; });
  }
  return Draw(u, vocab, s.weights, [](int64_t i) { return static_cast<int32_t>(i); });
}

void SampleRow(const SampleArgs& a, int64_t row) {
  thread_local Scratch s;
  const SamplePolicy& p = a.policy[row];
  s.logits.assign(a.logits + row * a.vocab, a.logits + (row + 1) * a.vocab);
  for (float& logit : s.logits) {
    if (!std::isfinite(logit)) logit = kNever;
  }
  Penalise(p, a.vocab, s.logits);
  int32_t token = 0;
  for (int32_t i = 1; i < a.vocab; ++i) {
    if (s.logits[i] > s.logits[token]) token = i;
  }
  int32_t* alternative = a.alternative + row * a.max_alternatives;
  float* alternative_logprob = a.alternative_logprob + row * a.max_alternatives;
  std::fill_n(alternative, a.max_alternatives, -1);
  std::fill_n(alternative_logprob, a.max_alternatives, kNever);
  const float best = s.logits[token];
  if (!std::isfinite(best)) {
    a.token[row] = -1;
    a.logprob[row] = kNever;
    return;
  }
  s.weights.resize(a.vocab);
  const float log_sum = best + std::log(ExpLogits(s.logits.data(), /*scale=*/1, /*bias=*/nullptr,
                                                  best, s.weights.data(), a.vocab));
  if (p.temperature > 0) token = Sampled(p, best, s);
  a.token[row] = token;
  a.logprob[row] = s.logits[token] - log_sum;

  if (p.num_alternatives == 0) return;
  const int64_t wanted = std::min<int64_t>(p.num_alternatives, a.vocab);
  s.order.resize(a.vocab);
  for (int64_t i = 0; i < a.vocab; ++i) s.order[i] = static_cast<int32_t>(i);
  SortBest(wanted, s.logits, s.order);
  for (int64_t i = 0; i < wanted && s.logits[s.order[i]] != kNever; ++i) {
    alternative[i] = s.order[i];
    alternative_logprob[i] = s.logits[s.order[i]] - log_sum;
  }
}

absl::Status CheckPolicy(const SampleArgs& a, int64_t row) {
  const SamplePolicy& p = a.policy[row];
  const auto name = [row](const char* field) { return absl::StrCat("policy[", row, "].", field); };
  const auto check = [&](bool good, const char* field, double value) {
    return good ? absl::OkStatus() : BadArgument("Sample", name(field), value);
  };
  RASQ_RETURN_IF_ERROR(
      check(p.temperature >= 0 && std::isfinite(p.temperature), "temperature", p.temperature));
  RASQ_RETURN_IF_ERROR(check(p.top_k >= 0, "top_k", p.top_k));
  RASQ_RETURN_IF_ERROR(check(p.top_p > 0 && p.top_p <= 1, "top_p", p.top_p));
  RASQ_RETURN_IF_ERROR(check(p.min_p >= 0 && p.min_p <= 1, "min_p", p.min_p));
  RASQ_RETURN_IF_ERROR(check(p.repetition_penalty > 0 && std::isfinite(p.repetition_penalty),
                             "repetition_penalty", p.repetition_penalty));
  RASQ_RETURN_IF_ERROR(
      check(std::isfinite(p.presence_penalty), "presence_penalty", p.presence_penalty));
  RASQ_RETURN_IF_ERROR(
      check(std::isfinite(p.frequency_penalty), "frequency_penalty", p.frequency_penalty));
  RASQ_RETURN_IF_ERROR(
      CheckRange("Sample", name("num_alternatives"), p.num_alternatives, 0, a.max_alternatives));
  RASQ_RETURN_IF_ERROR(CheckRange("Sample", name("num_seen"), p.num_seen, 0));
  if (p.num_seen > 0) {
    RASQ_RETURN_IF_ERROR(CheckNotNull("Sample", name("seen_id"), p.seen_id));
    RASQ_RETURN_IF_ERROR(CheckNotNull("Sample", name("seen_count"), p.seen_count));
  }
  RASQ_RETURN_IF_ERROR(CheckRange("Sample", name("num_banned"), p.num_banned, 0));
  if (p.num_banned > 0) {
    RASQ_RETURN_IF_ERROR(CheckNotNull("Sample", name("banned_id"), p.banned_id));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateSample(const SampleArgs& a) {
  RASQ_RETURN_IF_ERROR(CheckRange("Sample", "rows", a.rows, 0));
  RASQ_RETURN_IF_ERROR(CheckRange("Sample", "vocab", a.vocab, 1, INT32_MAX));
  RASQ_RETURN_IF_ERROR(CheckRange("Sample", "max_alternatives", a.max_alternatives, 0));
  if (a.rows == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull("Sample", "logits", a.logits));
  RASQ_RETURN_IF_ERROR(CheckNotNull("Sample", "policy", a.policy));
  RASQ_RETURN_IF_ERROR(CheckNotNull("Sample", "token", a.token));
  RASQ_RETURN_IF_ERROR(CheckNotNull("Sample", "logprob", a.logprob));
  if (a.max_alternatives == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull("Sample", "alternative", a.alternative));
  return CheckNotNull("Sample", "alternative_logprob", a.alternative_logprob);
}

absl::Status SampleCpu(const SampleArgs& a, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidateSample(a));
  for (int64_t row = 0; row < a.rows; ++row) RASQ_RETURN_IF_ERROR(CheckPolicy(a, row));
  pool.ParallelFor(a.rows, [&](int64_t row, int /*thread*/) { SampleRow(a, row); });
  return absl::OkStatus();
}

}  // namespace rasq
