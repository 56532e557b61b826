#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/select_entries.h"
#include "kernels/state_selection.h"
#include "kernels/stream_batch_cpu.h"

namespace rasq {
namespace {

// How evenly the keys of the live entries are spread: entropy of their softmax over its maximum.
double Complexity(const float* key, const std::vector<int32_t>& live) {
  if (live.size() < 2) return 0;
  float best = -std::numeric_limits<float>::infinity();
  for (const int32_t i : live) best = std::max(best, key[i]);
  double sum = 0;
  double weighted = 0;  // sum of exp(d) * d, d = key - best
  for (const int32_t i : live) {
    const double d = double{key[i]} - best;
    const double e = std::exp(d);
    sum += e;
    weighted += e * d;
  }
  const double entropy = std::log(sum) - weighted / sum;
  return std::clamp(entropy / std::log(static_cast<double>(live.size())), 0.0, 1.0);
}

int64_t BudgetOf(const ReadPolicy& policy, float factor, const float* key,
                 const std::vector<int32_t>& live, int32_t max_selected) {
  if (policy.newest) return std::min(policy.budget, max_selected);
  double budget = double{factor} * policy.budget;
  if (policy.gain > 0) budget *= 1 + double{policy.gain} * Complexity(key, live);
  // Clamped before rounding: a large gain must not overflow.
  return std::llround(std::clamp<double>(budget, 1, max_selected));
}

// Chooses for a segment that begins.
void Choose(const SelectEntriesArgs& a, int64_t index) {
  thread_local std::vector<int32_t> live;
  const StreamChunk& c = a.batch.chunks[a.batch.segments[index].chunk];
  const ReadPolicy& policy = a.policy[a.batch.segments[index].chunk];
  const float* key = a.key + index * a.stride;
  const float* score = a.score + index * a.stride;
  const int64_t* position = a.row_position + c.first_entry;
  const auto num_entries = static_cast<int32_t>(a.shape.capacity + NumLeaving(c));
  live.clear();
  for (int32_t i = 0; i < num_entries; ++i) {
    if (key[i] > -std::numeric_limits<float>::infinity()) live.push_back(i);
  }
  const float factor = a.factor != nullptr ? a.factor[index] : 1;
  const int64_t budget = BudgetOf(policy, factor, key, live, a.shape.max_selected);
  if (a.budget != nullptr) a.budget[index] = static_cast<int32_t>(budget);
  const bool by_key = !policy.newest;
  std::erase_if(live, [&](int32_t i) { return by_key && key[i] < policy.floor; });
  if (budget < static_cast<int64_t>(live.size())) {
    std::nth_element(live.begin(), live.begin() + budget, live.end(), [&](int32_t x, int32_t y) {
      return by_key && key[x] != key[y] ? key[x] > key[y] : position[x] > position[y];
    });
    live.resize(budget);
  }
  std::sort(live.begin(), live.end(),
            [&](int32_t x, int32_t y) { return position[x] < position[y]; });
  const SelectedEntries& out = a.selected;
  const int64_t first = index * a.shape.max_selected;
  out.count[index] = static_cast<int32_t>(live.size());
  for (size_t i = 0; i < live.size(); ++i) {
    out.row[first + i] = live[i];
    out.score[first + i] = by_key ? score[live[i]] : 0;
    out.log_gate[first + i] = a.row_log_gate[c.first_entry + live[i]];
    out.position[first + i] = position[live[i]];
  }
}

// Takes up what was chosen when the segment began.
void Recall(const SelectEntriesArgs& a, int64_t index) {
  const StateSelection from(a, a.batch.chunks[a.batch.segments[index].chunk]);
  const SelectedEntries& out = a.selected;
  const int64_t first = index * a.shape.max_selected;
  const int32_t count = std::clamp(*from.count, 0, a.shape.max_selected);
  out.count[index] = count;
  std::copy_n(from.row, count, out.row + first);
  std::copy_n(from.score, count, out.score + first);
  std::copy_n(from.log_gate, count, out.log_gate + first);
  std::copy_n(from.position, count, out.position + first);
}

// Leaves the last segment's choice in the state. Its entries live to the end of the batch, since
// nothing enters after the last segment has begun: the staged ones have a slot.
void Remember(const SelectEntriesArgs& a, const StreamChunk& c) {
  const int64_t index = c.first_segment + c.num_segments - 1;
  const StateSelection to(a, c);
  const SelectedEntries& from = a.selected;
  const int64_t first = index * a.shape.max_selected;
  const int32_t count = from.count[index];
  *to.count = count;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t row = from.row[first + i];
    to.row[i] = row < a.shape.capacity ? row : a.slot[c.first_staged + row - a.shape.capacity];
  }
  std::copy_n(from.score + first, count, to.score);
  std::copy_n(from.log_gate + first, count, to.log_gate);
  std::copy_n(from.position + first, count, to.position);
}

absl::Status CheckPolicies(const SelectEntriesArgs& a) {
  for (int32_t i = 0; i < a.batch.num_chunks; ++i) {
    const ReadPolicy& policy = a.policy[i];
    const auto name = [i](const char* field) { return absl::StrCat("policy[", i, "].", field); };
    RASQ_RETURN_IF_ERROR(CheckRange("SelectEntries", name("budget"), policy.budget, 1));
    if (!(policy.gain >= 0)) return BadArgument("SelectEntries", name("gain"), policy.gain);
    if (std::isnan(policy.floor)) return BadArgument("SelectEntries", name("floor"), policy.floor);
    const int64_t num_entries = a.shape.capacity + NumLeaving(a.batch.chunks[i]);
    if (HasBeginning(a.batch, a.batch.chunks[i]) && num_entries > a.stride) {
      return absl::InvalidArgumentError(
          absl::StrCat("SelectEntries: stride=", a.stride, " with entries=", num_entries));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateSelectEntries(const SelectEntriesArgs& a) {
  RASQ_RETURN_IF_ERROR(ValidateBatch("SelectEntries", a.batch));
  RASQ_RETURN_IF_ERROR(ValidateShape("SelectEntries", a.shape));
  RASQ_RETURN_IF_ERROR(CheckRange("SelectEntries", "max_selected", a.shape.max_selected, 1));
  RASQ_RETURN_IF_ERROR(CheckRange("SelectEntries", "stride", a.stride, a.shape.capacity));
  RASQ_RETURN_IF_ERROR(CheckRange("SelectEntries", "state.count", a.state.count, 0));
  RASQ_RETURN_IF_ERROR(CheckRange("SelectEntries", "state.row", a.state.row, 0));
  RASQ_RETURN_IF_ERROR(CheckRange("SelectEntries", "state.score", a.state.score, 0));
  RASQ_RETURN_IF_ERROR(CheckRange("SelectEntries", "state.log_gate", a.state.log_gate, 0));
  RASQ_RETURN_IF_ERROR(CheckRange("SelectEntries", "state.position", a.state.position, 0));
  if (a.batch.num_chunks == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull("SelectEntries", "score", a.score));
  RASQ_RETURN_IF_ERROR(CheckNotNull("SelectEntries", "key", a.key));
  RASQ_RETURN_IF_ERROR(CheckNotNull("SelectEntries", "row_position", a.row_position));
  RASQ_RETURN_IF_ERROR(CheckNotNull("SelectEntries", "row_log_gate", a.row_log_gate));
  if (a.batch.num_staged > 0) {
    RASQ_RETURN_IF_ERROR(CheckNotNull("SelectEntries", "slot", a.slot));
  }
  RASQ_RETURN_IF_ERROR(CheckNotNull("SelectEntries", "policy", a.policy));
  RASQ_RETURN_IF_ERROR(CheckNotNull("SelectEntries", "selected.count", a.selected.count));
  RASQ_RETURN_IF_ERROR(CheckNotNull("SelectEntries", "selected.row", a.selected.row));
  RASQ_RETURN_IF_ERROR(CheckNotNull("SelectEntries", "selected.score", a.selected.score));
  RASQ_RETURN_IF_ERROR(CheckNotNull("SelectEntries", "selected.log_gate", a.selected.log_gate));
  return CheckNotNull("SelectEntries", "selected.position", a.selected.position);
}

absl::Status SelectEntriesCpu(const SelectEntriesArgs& a, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidateSelectEntries(a));
  RASQ_RETURN_IF_ERROR(CheckBatchContents("SelectEntries", a.batch, a.shape));
  RASQ_RETURN_IF_ERROR(CheckPolicies(a));
  thread_local std::vector<int32_t> choosing;
  choosing.clear();
  for (int32_t i = 0; i < a.batch.num_segments; ++i) {
    if (a.batch.segments[i].begins == 0) {
      Recall(a, i);
    } else {
      choosing.push_back(i);
    }
  }
  const std::vector<int32_t>& work = choosing;  // of this thread, also inside the tasks
  pool.ParallelFor(static_cast<int64_t>(work.size()),
                   [&](int64_t i, int /*thread*/) { Choose(a, work[i]); });
  for (int32_t i = 0; i < a.batch.num_chunks; ++i) {
    if (HasBeginning(a.batch, a.batch.chunks[i])) Remember(a, a.batch.chunks[i]);
  }
  return absl::OkStatus();
}

}  // namespace rasq
