#include <algorithm>
#include <climits>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/replace_entries.h"
#include "kernels/stream_batch_cpu.h"

namespace rasq {
namespace {

// An occupied slot, and the entry row of who is in it.
struct Occupant {
  double priority;
  int64_t position;
  int32_t slot;
  int32_t row;
};

// Whether a falls out after b: the heap's front is who falls out first.
bool StaysLonger(const Occupant& a, const Occupant& b) {
  if (a.priority != b.priority) return a.priority > b.priority;
  return a.position < b.position;
}

template <typename T>
T* InState(const StreamChunk& c, int64_t offset) {
  return reinterpret_cast<T*>(c.state + offset);
}

// One chunk's walk. The table of entries and the chunk's entry rows as plain arrays.
class Walk {
 public:
  Walk(const ReplaceEntriesArgs& a, const StreamChunk& c)
      : a_(a),
        c_(c),
        position_(InState<int64_t>(c, a.position_offset)),
        priority_(InState<double>(c, a.priority_offset)),
        log_gate_(InState<float>(c, a.log_gate_offset)),
        token_(InState<int32_t>(c, a.token_offset)),
        born_(a.born + c.first_entry),
        died_(a.died + c.first_entry) {}

  // Returns how many entries fell out to make room.
  int32_t Run() {
    thread_local std::vector<Occupant> heap;
    thread_local std::vector<int32_t> empty;
    heap.clear();
    empty.clear();
    FillRows(heap, empty);
    std::make_heap(heap.begin(), heap.end(), StaysLonger);
    int32_t num_replaced = 0;
    int64_t next = 0;
    for (int32_t j = 0; j < c_.num_segments; ++j) {
      const StreamSegment& segment = a_.batch.segments[c_.first_segment + j];
      if (segment.begins == 0) continue;
      const int64_t left = segment.start - a_.shape.window_rows - c_.leave_begin;
      for (; next < std::min(left, NumLeaving(c_)); ++next) {
        num_replaced += Enter(next, j, heap, empty) ? 1 : 0;
      }
    }
    for (const Occupant& occupant : heap) {
      if (occupant.row >= a_.shape.capacity) Settle(occupant);
    }
    return num_replaced;
  }

 private:
  // The entry rows as they stand before the first segment.
  void FillRows(std::vector<Occupant>& heap, std::vector<int32_t>& empty) {
    const int32_t capacity = a_.shape.capacity;
    int64_t* row_position = a_.row_position + c_.first_entry;
    float* row_log_gate = a_.row_log_gate + c_.first_entry;
    int32_t* row_token = a_.row_token + c_.first_entry;
    for (int32_t slot = capacity - 1; slot >= 0; --slot) {
      const bool occupied = position_[slot] >= 0;
      born_[slot] = 0;
      died_[slot] = occupied ? INT32_MAX : 0;
      row_position[slot] = occupied ? position_[slot] : -1;
      row_log_gate[slot] = log_gate_[slot];
      row_token[slot] = token_[slot];
      if (occupied) {
        heap.push_back({priority_[slot], position_[slot], slot, slot});
      } else {
        empty.push_back(slot);  // the lowest slot ends at the back, where it is taken first
      }
    }
    for (int64_t i = 0; i < NumLeaving(c_); ++i) {
      const int64_t staged = c_.first_staged + i;
      born_[capacity + i] = 0;
      died_[capacity + i] = 0;
      row_position[capacity + i] = c_.leave_begin + i;
      row_log_gate[capacity + i] = a_.staged_log_gate[staged];
      row_token[capacity + i] = a_.staged_token[staged];
      a_.slot[staged] = -1;
    }
  }

  // The i-th leaving token becomes a candidate as segment j begins. Whether another fell out.
  bool Enter(int64_t i, int32_t j, std::vector<Occupant>& heap, std::vector<int32_t>& empty) {
    const int64_t position = c_.leave_begin + i;
    if (position < a_.shape.sink_rows || a_.shape.capacity == 0) return false;
    const int32_t row = a_.shape.capacity + static_cast<int32_t>(i);
    Occupant entrant{.priority = a_.staged_priority[c_.first_staged + i],
                     .position = position,
                     .slot = -1,
                     .row = row};
    if (std::isnan(entrant.priority)) entrant.priority = -INFINITY;
    const bool replaces = empty.empty();
    if (replaces) {
      // The newest of all stays only if it is better: an equal, older one keeps its slot.
      if (!StaysLonger(entrant, heap.front())) return false;
      std::pop_heap(heap.begin(), heap.end(), StaysLonger);
      entrant.slot = heap.back().slot;
      died_[heap.back().row] = j;
      heap.pop_back();
    } else {
      entrant.slot = empty.back();
      empty.pop_back();
    }
    born_[row] = j;
    died_[row] = INT32_MAX;
    heap.push_back(entrant);
    std::push_heap(heap.begin(), heap.end(), StaysLonger);
    return replaces;
  }

  // A staged token that lived through the batch takes its slot.
  void Settle(const Occupant& occupant) {
    const int64_t staged = c_.first_staged + occupant.row - a_.shape.capacity;
    position_[occupant.slot] = occupant.position;
    priority_[occupant.slot] = occupant.priority;
    log_gate_[occupant.slot] = a_.staged_log_gate[staged];
    token_[occupant.slot] = a_.staged_token[staged];
    a_.slot[staged] = occupant.slot;
  }

  const ReplaceEntriesArgs& a_;
  const StreamChunk& c_;
  int64_t* position_;
  double* priority_;
  float* log_gate_;
  int32_t* token_;
  int32_t* born_;
  int32_t* died_;
};

// Tokens leave because a segment begins: none may leave later than the last that does.
absl::Status CheckLeaving(const StreamBatch& batch, const StreamShape& shape) {
  for (int32_t i = 0; i < batch.num_chunks; ++i) {
    const StreamChunk& c = batch.chunks[i];
    if (NumLeaving(c) == 0) continue;
    const StreamSegment& last = batch.segments[c.first_segment + c.num_segments - 1];
    if (last.begins == 0 || c.leave_end > last.start - shape.window_rows) {
      return absl::InvalidArgumentError(
          absl::StrCat("ReplaceEntries: chunk ", i, ": leave_end=", c.leave_end));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateReplaceEntries(const ReplaceEntriesArgs& a) {
  RASQ_RETURN_IF_ERROR(ValidateBatch("ReplaceEntries", a.batch));
  RASQ_RETURN_IF_ERROR(ValidateShape("ReplaceEntries", a.shape));
  RASQ_RETURN_IF_ERROR(CheckRange("ReplaceEntries", "position_offset", a.position_offset, 0));
  RASQ_RETURN_IF_ERROR(CheckRange("ReplaceEntries", "priority_offset", a.priority_offset, 0));
  RASQ_RETURN_IF_ERROR(CheckRange("ReplaceEntries", "log_gate_offset", a.log_gate_offset, 0));
  RASQ_RETURN_IF_ERROR(CheckRange("ReplaceEntries", "token_offset", a.token_offset, 0));
  if (a.batch.num_chunks == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull("ReplaceEntries", "num_replaced", a.num_replaced));
  RASQ_RETURN_IF_ERROR(CheckNotNull("ReplaceEntries", "born", a.born));
  RASQ_RETURN_IF_ERROR(CheckNotNull("ReplaceEntries", "died", a.died));
  RASQ_RETURN_IF_ERROR(CheckNotNull("ReplaceEntries", "row_position", a.row_position));
  RASQ_RETURN_IF_ERROR(CheckNotNull("ReplaceEntries", "row_log_gate", a.row_log_gate));
  RASQ_RETURN_IF_ERROR(CheckNotNull("ReplaceEntries", "row_token", a.row_token));
  if (a.batch.num_staged == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull("ReplaceEntries", "staged_priority", a.staged_priority));
  RASQ_RETURN_IF_ERROR(CheckNotNull("ReplaceEntries", "staged_log_gate", a.staged_log_gate));
  RASQ_RETURN_IF_ERROR(CheckNotNull("ReplaceEntries", "staged_token", a.staged_token));
  return CheckNotNull("ReplaceEntries", "slot", a.slot);
}

absl::Status ReplaceEntriesCpu(const ReplaceEntriesArgs& a, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidateReplaceEntries(a));
  RASQ_RETURN_IF_ERROR(CheckBatchContents("ReplaceEntries", a.batch, a.shape));
  RASQ_RETURN_IF_ERROR(CheckLeaving(a.batch, a.shape));
  const bool any = std::any_of(a.batch.chunks, a.batch.chunks + a.batch.num_chunks,
                               [&](const StreamChunk& c) { return HasBeginning(a.batch, c); });
  if (!any) {
    std::fill_n(a.num_replaced, a.batch.num_chunks, 0);
    return absl::OkStatus();
  }
  pool.ParallelFor(a.batch.num_chunks, [&](int64_t i, int /*thread*/) {
    const StreamChunk& c = a.batch.chunks[i];
    a.num_replaced[i] = HasBeginning(a.batch, c) ? Walk(a, c).Run() : 0;
  });
  return absl::OkStatus();
}

}  // namespace rasq
