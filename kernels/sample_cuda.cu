#include <cuda_runtime.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "kernels/base/check_args.h"
#include "kernels/base/cuda_status.h"
#include "kernels/base/status.h"
#include "kernels/block_reduce_cuda.h"
#include "kernels/random.h"
#include "kernels/sample.h"

namespace rasq {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;
// Rows are searched by digits of four bits: each thread has sums of its own for the 16 values, so
// that integers add up without atomics.
constexpr int kDigitBits = 4;
constexpr int kDigits = 1 << kDigitBits;
constexpr int64_t kSumBytes = int64_t{kDigits} * kThreads * sizeof(uint64_t);
// Tokens in reach of the best, brought together in shared memory to be searched there. Rows with
// more of them are searched where they lie.
constexpr int32_t kMostListed = 8192;
constexpr int64_t kSharedBytes = kSumBytes + kMostListed * sizeof(uint64_t);
constexpr int32_t kMostAlternatives = 1024;
constexpr float kNever = -INFINITY;

// What a search sees of a token: OrderedBits of its logit, then its id such that lower ones are
// better. The order of keys is the order of tokens, and no two are equal.
struct KeyFormat {
  __device__ uint64_t KeyOf(float logit, int32_t id) const {
    return (uint64_t{OrderedBits(logit)} << id_bits) | (Mask() - static_cast<uint32_t>(id));
  }
  __device__ int32_t IdOf(uint64_t key) const {
    return static_cast<int32_t>(Mask() - (static_cast<uint32_t>(key) & Mask()));
  }
  __device__ uint32_t OrderOf(uint64_t key) const { return static_cast<uint32_t>(key >> id_bits); }
  __device__ float LogitOf(uint64_t key) const { return FromOrderedBits(OrderOf(key)); }
  __device__ uint32_t Mask() const { return (1u << id_bits) - 1; }

  int id_bits;  // 0..31
};

// The weight of a token in the draw, as an integer: sums are exact, in whatever order they are
// taken. The best one's weight is `unit`, and a row's sum is below 2^63.
struct Weights {
  __device__ float Exponent(float logit) const {
    return __fmul_rn(__fsub_rn(logit, best), inverse_temperature);
  }
  __device__ uint64_t operator()(float logit) const {
    const float weight = expf(Exponent(logit));
    if (weight < min_p) return 0;
    return __float2ull_rn(__fmul_rn(weight, unit));
  }

  float best;
  float inverse_temperature;
  float min_p;  // 0: none
  float unit;   // a power of two
};

struct Shared {
  uint64_t* sum_of_thread;  // [kDigits, kThreads]
  uint64_t* list;           // [kMostListed]
  uint64_t* sum;            // [kDigits], of the block
  int32_t* list_size;
};

// Tokens [begin, end) of a row, but for those that are never drawn.
struct RowSource {
  template <typename Body>
  __device__ void ForEach(const Body& body) const {
#pragma unroll 4
    for (int32_t id = begin + static_cast<int32_t>(threadIdx.x); id < end; id += kThreads) {
      const float logit = logits[id];
      if (isfinite(logit)) body(format.KeyOf(logit, id));
    }
  }

  const float* logits;
  int32_t begin;
  int32_t end;
  KeyFormat format;
};

struct ListSource {
  template <typename Body>
  __device__ void ForEach(const Body& body) const {
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < size; i += kThreads) body(list[i]);
  }

  const uint64_t* list;
  int32_t size;
};

// s.sum[d] = the sum of measure(key) over the keys with digit_of(key) == d; others have -1.
template <typename Source, typename DigitOf, typename Measure>
__device__ void SumByDigit(const Source& source, const DigitOf& digit_of, const Measure& measure,
                           const Shared& s) {
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32;
  const int warp = thread / 32;
#pragma unroll
  for (int digit = 0; digit < kDigits; ++digit) s.sum_of_thread[digit * kThreads + thread] = 0;
  source.ForEach([&](uint64_t key) {
    const int digit = digit_of(key);
    if (digit >= 0) s.sum_of_thread[digit * kThreads + thread] += measure(key);
  });
  __syncthreads();
  if (warp < kDigits) {
    uint64_t sum = 0;
    for (int i = lane; i < kThreads; i += 32) sum += s.sum_of_thread[warp * kThreads + i];
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
      sum += __shfl_xor_sync(kAllLanes, sum, distance);
    }
    if (lane == 0) s.sum[warp] = sum;
  }
  __syncthreads();
}

__device__ uint64_t Total(const Shared& s) {
  uint64_t total = 0;
  for (int digit = 0; digit < kDigits; ++digit) total += s.sum[digit];
  return total;
}

// Walks the keys from the best to the token at which the running sum of measure(key) first exceeds
// target_of(sum over all), and returns its key; 0 if the sum over all does not exceed it.
template <typename Source, typename Measure, typename TargetOf>
__device__ uint64_t Crossing(const Source& source, const KeyFormat& format, const Measure& measure,
                             const TargetOf& target_of, const Shared& s) {
  const int bits = 32 + format.id_bits;
  const int top = (bits + kDigitBits - 1) / kDigitBits * kDigitBits - kDigitBits;
  uint64_t found = 0;
  uint64_t rest = 0;
  for (int shift = top; shift >= 0; shift -= kDigitBits) {
    SumByDigit(
        source,
        [=](uint64_t key) {
          // In two steps: a shift by the whole width is undefined.
          return key >> shift >> kDigitBits == found
                     ? static_cast<int>(key >> shift) & (kDigits - 1)
                     : -1;
        },
        measure, s);
    if (shift == top) {
      const uint64_t total = Total(s);
      rest = target_of(total);
      if (total <= rest) return 0;
    }
    int digit = kDigits - 1;
    while (digit > 0 && s.sum[digit] <= rest) rest -= s.sum[digit--];
    found = (found << kDigitBits) | static_cast<uint64_t>(digit);
  }
  return found;
}

// Brings the tokens together for which keep(key). Their number, or -1 if they are too many.
template <typename Keep>
__device__ int32_t Gather(const RowSource& row, const Keep& keep, const Shared& s) {
  if (threadIdx.x == 0) *s.list_size = 0;
  __syncthreads();
  row.ForEach([&](uint64_t key) {
    if (!keep(key)) return;
    const int32_t place = Append(s.list_size);
    if (place < kMostListed) s.list[place] = key;
  });
  __syncthreads();
  const int32_t size = *s.list_size;
  __syncthreads();  // read by all before it changes again
  return size <= kMostListed ? size : -1;
}

// The best of a row, and what a search can tell from the threads' bests.
struct Best {
  float logit;
  int32_t id;
  double sum;          // of exp(logit - best)
  uint32_t own_order;  // OrderedBits of the best that this thread saw; 0: none
};

__device__ float Finite(float logit) { return isfinite(logit) ? logit : kNever; }

// One pass over the row: each thread keeps its best and the sum relative to it. `by_fours`: the
// batch's rows are aligned to 16 bytes, all of them, so that sums do not depend on the row's place.
__device__ Best FindBest(const float* logits, int32_t vocab, bool by_fours) {
  __shared__ float best_of_warp[kWarps];
  __shared__ int32_t id_of_warp[kWarps];
  const auto thread = static_cast<int32_t>(threadIdx.x);
  float best = kNever;
  int32_t id = INT32_MAX;
  float sum = 0;
  const auto add = [&](const float(&x)[4], int32_t first, int32_t step) {
    const float most = fmaxf(fmaxf(x[0], x[1]), fmaxf(x[2], x[3]));
    if (most > best) {
      sum *= __expf(best - most);  // from nothing: 0 * exp(-infinity)
      best = most;
      const int j = x[0] == most ? 0 : x[1] == most ? 1 : x[2] == most ? 2 : 3;
      id = first + j * step;
    }
    if (best == kNever) return;
    sum +=
        (__expf(x[0] - best) + __expf(x[1] - best)) + (__expf(x[2] - best) + __expf(x[3] - best));
  };
  int32_t done = 0;
  if (by_fours) {
    const auto* fours = reinterpret_cast<const float4*>(logits);
#pragma unroll 4
    for (int32_t i = thread; i < vocab / 4; i += kThreads) {
      const float4 four = fours[i];
      add({Finite(four.x), Finite(four.y), Finite(four.z), Finite(four.w)}, 4 * i, 1);
    }
    done = vocab;
  }
  for (int32_t base = done; base < vocab; base += 4 * kThreads) {
    float x[4];
    for (int j = 0; j < 4; ++j) {
      const int32_t i = base + j * kThreads + thread;
      x[j] = i < vocab ? Finite(logits[i]) : kNever;
    }
    add({x[0], x[1], x[2], x[3]}, base + thread, kThreads);
  }

  float most = best;
  int32_t most_id = id;
  const auto take = [&](float other, int32_t other_id) {
    if (other > most || (other == most && other_id < most_id)) most = other, most_id = other_id;
  };
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    take(__shfl_xor_sync(kAllLanes, most, distance), __shfl_xor_sync(kAllLanes, most_id, distance));
  }
  if (thread % 32 == 0) best_of_warp[thread / 32] = most, id_of_warp[thread / 32] = most_id;
  __syncthreads();
  for (int warp = 0; warp < kWarps; ++warp) take(best_of_warp[warp], id_of_warp[warp]);
  const double own = best == kNever ? 0 : double{sum} * expf(best - most);
  return {.logit = most,
          .id = most_id,
          .sum = BlockSum<kThreads>(own),
          .own_order = best == kNever ? 0 : OrderedBits(best)};
}

// A bound on the k-th best token's OrderedBits, from below: the k-th best of the threads' bests.
// 1: any number.
__device__ uint32_t BoundOfBest(int32_t k, uint32_t own_order) {
  if (k > kThreads) return 1;
  uint32_t bound = 0;
  for (uint32_t bit = 0x80000000u; bit != 0; bit >>= 1) {
    const uint32_t higher = bound | bit;
    if (__syncthreads_count(own_order >= higher) >= k) bound = higher;
  }
  return max(bound, 1u);
}

// Draws among the whole row, in order of ids: each pass narrows it to a sixteenth.
__device__ int32_t DrawById(const RowSource& row, const Weights& weights, double u,
                            const Shared& s) {
  RowSource part = row;
  uint64_t rest = 0;
  bool whole = true;
  while (whole || part.end - part.begin > 1) {
    int step_bits = 0;
    while ((int64_t{kDigits} << step_bits) < part.end - part.begin) ++step_bits;
    SumByDigit(
        part, [&](uint64_t key) { return (row.format.IdOf(key) - part.begin) >> step_bits; },
        [&](uint64_t key) { return weights(row.format.LogitOf(key)); }, s);
    if (whole) {
      const uint64_t total = Total(s);
      rest = min(static_cast<uint64_t>(u * static_cast<double>(total)), total - 1);
      whole = false;
    }
    int digit = 0;
    while (digit < kDigits - 1 && s.sum[digit] <= rest) rest -= s.sum[digit++];
    part.begin += digit << step_bits;
    part.end = static_cast<int32_t>(min(int64_t{part.end}, part.begin + (int64_t{1} << step_bits)));
  }
  return part.begin;
}

// Top-k, top-p, min-p and the draw, best tokens first. `total`: what top-p is a share of, where
// there is no top-k; the source may then lack tokens that top-p leaves out.
template <typename Source>
__device__ int32_t DrawByRank(const Source& source, const SamplePolicy& p, const KeyFormat& format,
                              Weights weights, uint64_t total, bool has_top_k, double u,
                              const Shared& s) {
  const float min_p = weights.min_p;
  weights.min_p = 0;
  uint64_t last = 0;  // key of the last token that is kept
  if (has_top_k) {
    const auto one = [](uint64_t /*key*/) { return uint64_t{1}; };
    const auto target = [&](uint64_t /*count*/) { return static_cast<uint64_t>(p.top_k - 1); };
    last = Crossing(source, format, one, target, s);
  }
  const auto weight = [&](uint64_t key) {
    return key >= last ? weights(format.LogitOf(key)) : uint64_t{0};
  };
  if (p.top_p < 1) {
    const auto target = [&](uint64_t sum) {
      const double share = double{p.top_p} * static_cast<double>(has_top_k ? sum : total);
      // The running sum reaches the share where it exceeds what is just below it.
      return static_cast<uint64_t>(max(ceil(share), 1.0)) - 1;
    };
    last = max(last, Crossing(source, format, weight, target, s));
  }
  weights.min_p = min_p;
  const auto target = [&](uint64_t sum) {
    return min(static_cast<uint64_t>(u * static_cast<double>(sum)), sum - 1);
  };
  return format.IdOf(Crossing(source, format, weight, target, s));
}

// With temperature above 0.
__device__ int32_t Drawn(const RowSource& row, const SamplePolicy& p, const Best& best,
                         const Shared& s) {
  const int32_t vocab = row.end;
  // Differences first, and a bound on the scale, so that no temperature overflows.
  const Weights weights{.best = best.logit,
                        .inverse_temperature = fminf(1.0f / p.temperature, 1e30f),
                        .min_p = p.min_p,
                        .unit = ldexpf(1, 62 - row.format.id_bits)};
  const double u = UniformAt(p.seed, p.draw);
  const bool has_top_k = p.top_k > 0 && p.top_k < vocab;
  if (!has_top_k && !(p.top_p < 1)) return DrawById(row, weights, u, s);
  uint64_t total = 0;
  int32_t listed;
  if (has_top_k) {
    const uint32_t bound = BoundOfBest(p.top_k, best.own_order);
    listed = p.top_k > kThreads
                 ? -1
                 : Gather(
                       row, [&](uint64_t key) { return row.format.OrderOf(key) >= bound; }, s);
  } else {
    // Weights by distance from the best, in steps of a factor e: those farthest are left out that
    // together lie beyond top-p's share.
    Weights all = weights;
    all.min_p = 0;
    const auto distance = [&](uint64_t key) {
      return static_cast<int>(fminf(-all.Exponent(row.format.LogitOf(key)), kDigits - 1));
    };
    SumByDigit(
        row, distance, [&](uint64_t key) { return all(row.format.LogitOf(key)); }, s);
    total = Total(s);
    const double share = ceil(double{p.top_p} * static_cast<double>(total));
    const uint64_t spare = total - min(total, static_cast<uint64_t>(share));
    int reach = kDigits;
    for (uint64_t tail = 0; reach > 1; --reach) {
      tail += s.sum[reach - 1];
      if (tail > spare) break;
    }
    listed = Gather(
        row, [&](uint64_t key) { return distance(key) < reach; }, s);
  }
  if (listed < 0) {
    return DrawByRank(row, p, row.format, weights, total, has_top_k, u, s);
  }
  return DrawByRank(ListSource{.list = s.list, .size = listed}, p, row.format, weights, total,
                    has_top_k, u, s);
}

// The best tokens and their log-probabilities.
__device__ void ReportAlternatives(const RowSource& row, int32_t wanted, const Best& best,
                                   int32_t* alternative, float* logprob, const Shared& s) {
  const KeyFormat& format = row.format;
  const auto one = [](uint64_t /*key*/) { return uint64_t{1}; };
  const auto target = [&](uint64_t /*count*/) { return static_cast<uint64_t>(wanted - 1); };
  const uint32_t bound = BoundOfBest(wanted, best.own_order);
  int32_t listed = Gather(
      row, [&](uint64_t key) { return format.OrderOf(key) >= bound; }, s);
  uint64_t last;
  if (listed >= 0) {
    last = Crossing(ListSource{.list = s.list, .size = listed}, format, one, target, s);
  } else {
    last = Crossing(row, format, one, target, s);
    listed = Gather(
        row, [&](uint64_t key) { return key >= last; }, s);
  }
  const auto log_sum = static_cast<float>(log(best.sum));
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < listed; i += kThreads) {
    const uint64_t key = s.list[i];
    if (key < last) continue;
    int32_t rank = 0;
    for (int32_t j = 0; j < listed; ++j) rank += s.list[j] > key ? 1 : 0;
    alternative[rank] = format.IdOf(key);
    logprob[rank] = (format.LogitOf(key) - best.logit) - log_sum;
  }
}

// In place. Products and sums are rounded one by one, as elsewhere.
__device__ void Penalise(const SamplePolicy& p, int32_t vocab, float* logits) {
  const auto thread = static_cast<int32_t>(threadIdx.x);
  for (int32_t i = thread; i < p.num_seen; i += kThreads) {
    const int32_t id = p.seen_id[i];
    if (id < 0 || id >= vocab) continue;
    float logit = Finite(logits[id]);
    logit =
        logit > 0 ? __fdiv_rn(logit, p.repetition_penalty) : __fmul_rn(logit, p.repetition_penalty);
    const int32_t count = p.seen_count[i];
    if (count > 0) {
      logit = __fsub_rn(logit, __fadd_rn(p.presence_penalty, __fmul_rn(p.frequency_penalty,
                                                                       static_cast<float>(count))));
    }
    logits[id] = logit;
  }
  if (p.num_seen > 0 && p.num_banned > 0) __syncthreads();  // a token may be in both
  for (int32_t i = thread; i < p.num_banned; i += kThreads) {
    const int32_t id = p.banned_id[i];
    if (id >= 0 && id < vocab) logits[id] = kNever;
  }
  if (p.num_seen > 0 || p.num_banned > 0) __syncthreads();
}

// Grid: rows. Block: kThreads. Traffic: greedy rows are read once; a draw reads its row once or
// twice more, out of the cache, unless more than kMostListed tokens are in reach of the best.
__global__ void __launch_bounds__(kThreads) SampleKernel(SampleArgs a, int id_bits) {
  extern __shared__ __align__(16) std::byte memory[];
  __shared__ uint64_t sum[kDigits];
  __shared__ int32_t list_size;
  const Shared s{.sum_of_thread = reinterpret_cast<uint64_t*>(memory),
                 .list = reinterpret_cast<uint64_t*>(memory + kSumBytes),
                 .sum = sum,
                 .list_size = &list_size};
  const int64_t row = blockIdx.x;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const auto vocab = static_cast<int32_t>(a.vocab);
  const SamplePolicy& p = a.policy[row];
  float* logits = a.logits + row * a.vocab;
  int32_t* alternative = a.alternative + row * a.max_alternatives;
  float* alternative_logprob = a.alternative_logprob + row * a.max_alternatives;
  const int32_t wanted = min(min(p.num_alternatives, a.max_alternatives), vocab);

  Penalise(p, vocab, logits);
  for (int32_t i = thread; i < a.max_alternatives; i += kThreads) {
    alternative[i] = -1;
    alternative_logprob[i] = kNever;
  }
  const bool by_fours = vocab % 4 == 0 && reinterpret_cast<uintptr_t>(a.logits) % 16 == 0;
  // Its barriers stand between the fills above and what is found.
  const Best best = FindBest(logits, vocab, by_fours);
  if (best.logit == kNever) {
    if (thread == 0) {
      a.token[row] = -1;
      a.logprob[row] = kNever;
    }
    return;
  }
  const RowSource source{
      .logits = logits, .begin = 0, .end = vocab, .format = {.id_bits = id_bits}};
  const int32_t token = p.temperature > 0 ? Drawn(source, p, best, s) : best.id;
  if (thread == 0) {
    a.token[row] = token;
    a.logprob[row] = (logits[token] - best.logit) - static_cast<float>(log(best.sum));
  }
  if (wanted > 0) ReportAlternatives(source, wanted, best, alternative, alternative_logprob, s);
}

}  // namespace

absl::Status SampleCuda(const SampleArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateSample(a));
  RASQ_RETURN_IF_ERROR(
      CheckRange("Sample", "max_alternatives", a.max_alternatives, 0, kMostAlternatives));
  if (a.rows == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(AllowShared(SampleKernel, static_cast<int>(kSharedBytes)));
  const int id_bits = std::bit_width(static_cast<uint64_t>(a.vocab - 1));
  SampleKernel<<<static_cast<unsigned>(a.rows), kThreads, kSharedBytes, stream>>>(a, id_bits);
  return LaunchStatus("Sample");
}

}  // namespace rasq
