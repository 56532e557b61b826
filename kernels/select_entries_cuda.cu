#include <cuda_runtime.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "kernels/base/check_args.h"
#include "kernels/base/cuda_status.h"
#include "kernels/base/status.h"
#include "kernels/block_reduce_cuda.h"
#include "kernels/select_entries.h"
#include "kernels/state_selection.h"
#include "kernels/stream_batch_cuda.h"

namespace rasq {
namespace {

constexpr int kThreads = 1024;
constexpr int kRememberThreads = 256;
// The chosen are sorted in shared memory: 12 bytes each.
constexpr int64_t kMostSelected = 16384;
constexpr int kBins = 256;

// The k largest of n values: those above `value`, and `num_ties` of the `num_equal` equal to it.
template <typename T>
struct Threshold {
  T value;
  int32_t num_ties;
  int32_t num_equal;
};

// Finds it digit by digit from the top. value_of(i) is 0 for elements that take no part; of the
// others there are more than k. 1 <= k.
template <typename T, typename ValueOf>
__device__ Threshold<T> FindThreshold(int32_t n, int32_t k, const ValueOf& value_of) {
  __shared__ int32_t bins[kBins];
  __shared__ int32_t found_digit, found_places, found_count;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  Threshold<T> found{.value = 0, .num_ties = k, .num_equal = n};
  for (int shift = 8 * static_cast<int>(sizeof(T)) - 8; shift >= 0; shift -= 8) {
    if (thread < kBins) bins[thread] = 0;
    __syncthreads();
    for (int32_t i = thread; i < n; i += kThreads) {
      const T value = value_of(i);
      // In two steps: a shift by the whole width is undefined.
      if (value == 0 || ((value ^ found.value) >> shift >> 8) != 0) continue;
      atomicAdd(&bins[(value >> shift) & (kBins - 1)], 1);
    }
    __syncthreads();
    if (thread < 32) {
      // The lane's bins from the top, and how many elements stand in those above.
      constexpr int kBinsOfLane = kBins / 32;
      const int32_t top = kBins - 1 - thread * kBinsOfLane;
      int32_t own = 0;
      for (int32_t i = 0; i < kBinsOfLane; ++i) own += bins[top - i];
      int32_t above = own;
      for (int distance = 1; distance < 32; distance *= 2) {
        const int32_t other = __shfl_up_sync(kAllLanes, above, distance);
        if (thread >= distance) above += other;
      }
      above -= own;
      if (above < found.num_ties && found.num_ties <= above + own) {
        int32_t digit = top;
        while (above + bins[digit] < found.num_ties) above += bins[digit--];
        found_digit = digit;
        found_places = found.num_ties - above;
        found_count = bins[digit];
      }
    }
    __syncthreads();
    found.value |= static_cast<T>(found_digit) << shift;
    found.num_ties = found_places;
    found.num_equal = found_count;
  }
  return found;
}

// One segment's candidates.
struct Candidates {
  const float* key;
  const int64_t* position;
  int32_t n;
  float floor;
  bool newest;

  // NaN is not live.
  __device__ bool IsLive(int32_t i) const { return key[i] > -INFINITY; }
  // Orders those that may be chosen, all alike if the newest are; 0 for the others.
  __device__ uint32_t Value(int32_t i) const {
    if (newest) return IsLive(i) ? 1 : 0;
    return IsLive(i) && !(key[i] < floor) ? OrderedBits(key[i]) : 0;
  }
};

// How evenly the keys of the live entries are spread: entropy of their softmax over its maximum.
__device__ double Complexity(const Candidates& candidates) {
  const auto thread = static_cast<int32_t>(threadIdx.x);
  __shared__ uint32_t best_bits;
  if (thread == 0) best_bits = 0;
  __syncthreads();
  int32_t own_live = 0;
  uint32_t own_best = 0;
  for (int32_t i = thread; i < candidates.n; i += kThreads) {
    if (!candidates.IsLive(i)) continue;
    ++own_live;
    own_best = max(own_best, OrderedBits(candidates.key[i]));
  }
  own_best = __reduce_max_sync(kAllLanes, own_best);
  if (thread % 32 == 0) atomicMax(&best_bits, own_best);
  const int32_t num_live = BlockSum<kThreads>(own_live);  // its barriers make the maximum known
  if (num_live < 2) return 0;
  const float best = FromOrderedBits(best_bits);
  double own_sum = 0;
  double own_weighted = 0;  // sum of exp(d) * d, d = key - best
  for (int32_t i = thread; i < candidates.n; i += kThreads) {
    if (!candidates.IsLive(i)) continue;
    const double d = double{candidates.key[i]} - best;
    const double e = exp(d);
    own_sum += e;
    own_weighted += e * d;
  }
  const double sum = BlockSum<kThreads>(own_sum);
  const double weighted = BlockSum<kThreads>(own_weighted);
  const double complexity = (log(sum) - weighted / sum) / log(static_cast<double>(num_live));
  return complexity > 0 ? min(complexity, 1.0) : 0;  // 0 also for NaN: an infinite key
}

__device__ int32_t BudgetOf(const ReadPolicy& policy, float factor, const Candidates& candidates,
                            int32_t max_selected) {
  if (policy.newest) return min(policy.budget, max_selected);
  double budget = double{factor} * policy.budget;
  if (policy.gain > 0) budget *= 1 + double{policy.gain} * Complexity(candidates);
  // Clamped before rounding: a large gain must not overflow.
  return static_cast<int32_t>(llround(min(max(budget, 1.0), static_cast<double>(max_selected))));
}

// What was chosen, to be sorted.
struct Chosen {
  int64_t* position;
  int32_t* row;
};

// Sorts by position; `size` is a power of two.
__device__ void Sort(const Chosen& chosen, int32_t size) {
  const auto thread = static_cast<int32_t>(threadIdx.x);
  for (int32_t run = 2; run <= size; run *= 2) {
    for (int32_t distance = run / 2; distance > 0; distance /= 2) {
      // From distance 32 on down a warp's pairs lie in the same 64 elements, which no other warp
      // touches.
      if (distance >= 32 || run == 2) {
        __syncthreads();
      } else {
        __syncwarp();
      }
      for (int32_t pair = thread; pair < size / 2; pair += kThreads) {
        const int32_t low = 2 * pair - (pair & (distance - 1));
        const int32_t high = low + distance;
        const bool ascending = (low & run) == 0;
        const int64_t a = chosen.position[low], b = chosen.position[high];
        if ((a > b) != ascending) continue;
        chosen.position[low] = b;
        chosen.position[high] = a;
        const int32_t row = chosen.row[low];
        chosen.row[low] = chosen.row[high];
        chosen.row[high] = row;
      }
    }
  }
  __syncthreads();
}

// For a segment that begins.
__device__ void Choose(const SelectEntriesArgs& a, const StreamChunk& c, const ReadPolicy& policy,
                       int64_t index, const Chosen& chosen) {
  __shared__ int32_t num_chosen;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const Candidates candidates{.key = a.key + index * a.stride,
                              .position = a.row_position + c.first_entry,
                              .n = static_cast<int32_t>(a.shape.capacity + NumLeaving(c)),
                              .floor = policy.floor,
                              .newest = policy.newest};
  const float factor = a.factor != nullptr ? a.factor[index] : 1;
  const int32_t budget = BudgetOf(policy, factor, candidates, a.shape.max_selected);
  if (a.budget != nullptr && thread == 0) a.budget[index] = budget;
  int32_t own_eligible = 0;
#pragma unroll 4
  for (int32_t i = thread; i < candidates.n; i += kThreads) {
    own_eligible += candidates.Value(i) != 0 ? 1 : 0;
  }
  if (thread == 0) num_chosen = 0;
  const int32_t eligible = BlockSum<kThreads>(own_eligible);

  uint32_t least = 1;          // of the values that are chosen
  int64_t least_position = 0;  // of those with value `least`
  if (eligible > budget) {
    const auto found = FindThreshold<uint32_t>(candidates.n, budget,
                                               [&](int32_t i) { return candidates.Value(i); });
    least = found.value;
    if (found.num_equal > found.num_ties) {
      // One more than the position: 0 is for those that take no part.
      const auto newest = FindThreshold<uint64_t>(candidates.n, found.num_ties, [&](int32_t i) {
        return candidates.Value(i) == least ? static_cast<uint64_t>(candidates.position[i]) + 1
                                            : uint64_t{0};
      });
      least_position = static_cast<int64_t>(newest.value - 1);
    }
  }
  for (int32_t i = thread; i < candidates.n; i += kThreads) {
    const uint32_t value = candidates.Value(i);
    if (value < least) continue;
    const int64_t position = candidates.position[i];
    if (value == least && position < least_position) continue;
    const int32_t place = Append(&num_chosen);
    if (place >= a.shape.max_selected) continue;  // if positions were not distinct
    chosen.position[place] = position;
    chosen.row[place] = i;
  }
  __syncthreads();
  const int32_t count = min(num_chosen, budget);
  int32_t size = 1;
  while (size < count) size *= 2;
  for (int32_t i = count + thread; i < size; i += kThreads) chosen.position[i] = INT64_MAX;
  Sort(chosen, size);

  const SelectedEntries& out = a.selected;
  const int64_t first = index * a.shape.max_selected;
  if (thread == 0) out.count[index] = count;
  for (int32_t i = thread; i < count; i += kThreads) {
    const int32_t row = chosen.row[i];
    out.row[first + i] = row;
    out.score[first + i] = policy.newest ? 0 : a.score[index * a.stride + row];
    out.log_gate[first + i] = a.row_log_gate[c.first_entry + row];
    out.position[first + i] = chosen.position[i];
  }
}

// Takes up what was chosen when the segment began.
__device__ void Recall(const SelectEntriesArgs& a, const StreamChunk& c, int64_t index) {
  const StateSelection from(a, c);
  const SelectedEntries& out = a.selected;
  const int64_t first = index * a.shape.max_selected;
  const int32_t count = min(max(*from.count, 0), a.shape.max_selected);
  if (threadIdx.x == 0) out.count[index] = count;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < count; i += kThreads) {
    out.row[first + i] = from.row[i];
    out.score[first + i] = from.score[i];
    out.log_gate[first + i] = from.log_gate[i];
    out.position[first + i] = from.position[i];
  }
}

// Grid: num_segments. Block: kThreads: few segments begin in a decoding step, and each of them has
// a row of thousands of keys. Traffic: the keys once from memory and some eight times from the
// caches; positions of those chosen or tied.
__global__ void __launch_bounds__(kThreads) SelectKernel(SelectEntriesArgs a, int32_t most) {
  extern __shared__ __align__(16) std::byte memory[];
  const int64_t index = blockIdx.x;
  const StreamSegment segment = a.batch.segments[index];
  const StreamChunk c = a.batch.chunks[segment.chunk];
  if (IsPadding(c)) return;
  if (segment.begins == 0) {
    Recall(a, c, index);
    return;
  }
  const auto position = reinterpret_cast<int64_t*>(memory);
  Choose(a, c, a.policy[segment.chunk], index,
         Chosen{.position = position, .row = reinterpret_cast<int32_t*>(position + most)});
}

// Leaves the last segment's choice in the state. Its entries live to the end of the batch, since
// nothing enters after the last segment has begun: the staged ones have a slot. A launch of its
// own, since the chunk's first segment may have to read what the state held before.
// Grid: num_chunks. Block: kRememberThreads. Traffic: one selection a chunk, in and out.
__global__ void __launch_bounds__(kRememberThreads) RememberKernel(SelectEntriesArgs a) {
  const StreamChunk c = a.batch.chunks[blockIdx.x];
  if (IsPadding(c) || !HasBeginning(a.batch, c)) return;
  const int64_t index = int64_t{c.first_segment} + c.num_segments - 1;
  const StateSelection to(a, c);
  const SelectedEntries& from = a.selected;
  const int64_t first = index * a.shape.max_selected;
  const int32_t count = from.count[index];
  if (threadIdx.x == 0) *to.count = count;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < count; i += kRememberThreads) {
    const int32_t row = from.row[first + i];
    to.row[i] = row < a.shape.capacity ? row : a.slot[c.first_staged + row - a.shape.capacity];
    to.score[i] = from.score[first + i];
    to.log_gate[i] = from.log_gate[first + i];
    to.position[i] = from.position[first + i];
  }
}

}  // namespace

absl::Status SelectEntriesCuda(const SelectEntriesArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateSelectEntries(a));
  RASQ_RETURN_IF_ERROR(
      CheckRange("SelectEntries", "max_selected", a.shape.max_selected, 1, kMostSelected));
  if (a.batch.num_chunks == 0) return absl::OkStatus();
  // No more can be chosen than a row has.
  const auto most = static_cast<int32_t>(
      std::bit_ceil(static_cast<uint64_t>(std::clamp<int64_t>(a.stride, 1, a.shape.max_selected))));
  const int bytes = most * static_cast<int>(sizeof(int64_t) + sizeof(int32_t));
  RASQ_RETURN_IF_ERROR(AllowShared(SelectKernel, bytes));
  SelectKernel<<<static_cast<unsigned>(a.batch.num_segments), kThreads, bytes, stream>>>(a, most);
  RASQ_RETURN_IF_ERROR(LaunchStatus("SelectEntries"));
  RememberKernel<<<static_cast<unsigned>(a.batch.num_chunks), kRememberThreads, 0, stream>>>(a);
  return LaunchStatus("SelectEntries");
}

}  // namespace rasq
