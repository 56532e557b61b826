#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/elements_cpu.h"
#include "kernels/entry_rows_cpu.h"
#include "kernels/lost_entries.h"
#include "kernels/stream_batch_cpu.h"
#include "kernels/summarize_entries.h"
#include "kernels/vector_loops_cpu.h"

namespace rasq {
namespace {

struct LostRow {
  int32_t segment;  // of the chunk
  int64_t position;
  int32_t row;
};

void LoseOfChunk(const LoseEntriesArgs& a, const StreamChunk& c) {
  thread_local std::vector<LostRow> lost;
  lost.clear();
  const auto num_rows = static_cast<int32_t>(a.shape.capacity + NumLeaving(c));
  for (int32_t row = 0; row < num_rows; ++row) {
    const int32_t segment = LosingSegment(a, c, row);
    if (segment >= 0) lost.push_back({segment, a.row_position[c.first_entry + row], row});
  }
  std::sort(lost.begin(), lost.end(), [](const LostRow& x, const LostRow& y) {
    return std::tie(x.segment, x.position) < std::tie(y.segment, y.position);
  });
  auto& mass = *reinterpret_cast<float*>(c.state + a.mass_offset);
  size_t next = 0;
  for (int32_t j = 0; j < c.num_segments; ++j) {
    float sum = 0;
    for (; next < lost.size() && lost[next].segment == j; ++next) {
      a.lost.row[c.first_staged + next] = lost[next].row;
      sum += std::exp(a.row_log_gate[c.first_entry + lost[next].row]);
    }
    const int32_t segment = c.first_segment + j;
    a.lost.end[segment] = static_cast<int32_t>(next);
    a.lost.keep[segment] = 1;
    if (sum > 0) {
      a.lost.keep[segment] = mass > 0 ? a.decay : 0;
      mass = a.decay * mass + sum;
    }
    a.lost.mass[segment] = mass;
  }
}

struct Scratch {
  std::vector<float> keys, values;  // [lost, compressed_dim]
  std::vector<float> log_gates;     // [lost]
  std::vector<float> weights;       // [lost]
  std::vector<float> mean;          // [compressed_dim]
};

// The slots of one chunk and kv head.
class Slots {
 public:
  Slots(const SummarizeEntriesArgs& a, const StreamChunk& c, int64_t kv_head, Scratch& scratch)
      : a_(a),
        c_(c),
        s_(scratch),
        kv_head_(kv_head),
        width_(a.compressed_dim),
        row_bytes_(EntryRowBytes(a.entry_type, a.element, a.num_kv_heads, a.compressed_dim)) {}

  void Run() {
    int64_t begin = 0;
    for (int32_t j = 0; j < c_.num_segments; ++j) {
      const int64_t segment = c_.first_segment + j, end = a_.lost.end[segment];
      if (a_.lost.keep[segment] < 1) Update(begin, end, a_.lost.keep[segment]);
      begin = end;
      const int64_t first = FirstSummaryRow(a_.batch, a_.num_summaries, segment);
      Store(static_cast<std::byte*>(a_.staged_k), static_cast<std::byte*>(a_.staged_v), first);
    }
    Store(c_.state + a_.entry_k_offset, c_.state + a_.entry_v_offset, a_.shape.capacity);
  }

 private:
  // Where a slot's numbers stand in the state.
  float* Slot(int64_t offset, int64_t t) const {
    return reinterpret_cast<float*>(c_.state + offset) + (kv_head_ * a_.num_summaries + t) * width_;
  }

  void Update(int64_t begin, int64_t end, float keep) {
    const int64_t count = end - begin;
    s_.keys.resize(count * width_);
    s_.values.resize(count * width_);
    s_.log_gates.resize(count);
    s_.weights.resize(count);
    for (int64_t i = 0; i < count; ++i) {
      const int32_t row = a_.lost.row[c_.first_staged + begin + i];
      LoadRow(a_, c_, row, kv_head_, /*key=*/true, DType::kFloat32, &s_.keys[i * width_]);
      LoadRow(a_, c_, row, kv_head_, /*key=*/false, DType::kFloat32, &s_.values[i * width_]);
      s_.log_gates[i] = a_.row_log_gate[c_.first_entry + row];
    }
    const float scale = 1.0f / std::sqrt(static_cast<float>(width_));
    for (int64_t t = 0; t < a_.num_summaries; ++t) {
      const float* query = a_.query + (kv_head_ * a_.num_summaries + t) * width_;
      float* weights = s_.weights.data();
      DotRows(s_.keys.data(), width_, count, query, width_, weights);
      const float most = MaxLogit(weights, scale, s_.log_gates.data(), count);
      const float sum = ExpLogits(weights, scale, s_.log_gates.data(), most, weights, count);
      Scale(weights, 1.0f / sum, weights, count);
      Move(s_.keys, keep, Slot(a_.summary_k_offset, t));
      Move(s_.values, keep, Slot(a_.summary_v_offset, t));
    }
  }

  // The slot's key or value on to the weighted mean of rows.
  void Move(const std::vector<float>& rows, float keep, float* slot) {
    s_.mean.assign(width_, 0.0f);
    AddRows(rows.data(), width_, static_cast<int64_t>(s_.weights.size()), s_.weights.data(), width_,
            s_.mean.data());
    for (int64_t d = 0; d < width_; ++d) slot[d] = keep * slot[d] + (1 - keep) * s_.mean[d];
  }

  // The slots as they are now, as rows of keys and values from row `first` on.
  void Store(std::byte* keys, std::byte* values, int64_t first) const {
    for (int64_t t = 0; t < a_.num_summaries; ++t) {
      const int64_t at = (first + t) * row_bytes_;
      StoreVector(Slot(a_.summary_k_offset, t), keys + at);
      StoreVector(Slot(a_.summary_v_offset, t), values + at);
    }
  }

  // This head's vector of a row.
  void StoreVector(const float* x, std::byte* row) const {
    if (a_.entry_type == EntryType::kInt8) {
      StoreInt8(x, width_, row + kv_head_ * width_,
                row + EntryScaleOffset(a_.num_kv_heads, width_) +
                    kv_head_ * static_cast<int64_t>(sizeof(float)));
    } else {
      StoreElements(a_.element, x, row + kv_head_ * width_ * SizeOf(a_.element), width_);
    }
  }

  const SummarizeEntriesArgs& a_;
  const StreamChunk& c_;
  Scratch& s_;
  const int64_t kv_head_;
  const int64_t width_;
  const int64_t row_bytes_;
};

// Lost rows must lie inside the buffer and the staging rows.
absl::Status CheckLost(const SummarizeEntriesArgs& a) {
  for (int32_t i = 0; i < a.batch.num_chunks; ++i) {
    const StreamChunk& c = a.batch.chunks[i];
    if (!HasBeginning(a.batch, c)) continue;
    int32_t end = 0;
    for (int32_t s = c.first_segment; s < c.first_segment + c.num_segments; ++s) {
      if (a.lost.end[s] < end || a.lost.end[s] > NumLeaving(c)) {
        return absl::InvalidArgumentError(
            absl::StrCat("SummarizeEntries: segment ", s, ": lost.end=", a.lost.end[s]));
      }
      end = a.lost.end[s];
    }
    for (int32_t at = c.first_staged; at < c.first_staged + end; ++at) {
      const int32_t row = a.lost.row[at];
      if (row < 0 || row >= a.shape.capacity + NumLeaving(c)) {
        return absl::InvalidArgumentError(
            absl::StrCat("SummarizeEntries: lost.row[", at, "]=", row));
      }
    }
  }
  return absl::OkStatus();
}

void List(const ListSummariesArgs& a, int64_t index) {
  const StreamChunk& c = a.batch.chunks[a.batch.segments[index].chunk];
  const int32_t capacity = a.shape.capacity, r = a.num_summaries;
  const int64_t from = index * a.shape.max_selected, to = index * (a.shape.max_selected + r);
  const int32_t count = a.selected.count[index];
  for (int32_t i = 0; i < count; ++i) {
    const int32_t row = a.selected.row[from + i];
    a.read.row[to + i] = row < capacity ? row : row + r;
  }
  std::copy_n(a.selected.score + from, count, a.read.score + to);
  std::copy_n(a.selected.log_gate + from, count, a.read.log_gate + to);
  const bool staged = HasBeginning(a.batch, c);
  const float mass =
      staged ? a.mass[index] : *reinterpret_cast<const float*>(c.state + a.mass_offset);
  for (int32_t t = 0; t < r; ++t) {
    const int64_t row = staged
                            ? capacity + r - c.first_staged + t + FirstSummaryRow(a.batch, r, index)
                            : capacity + t;
    a.read.row[to + count + t] = static_cast<int32_t>(row);
    a.read.score[to + count + t] = 0;
    a.read.log_gate[to + count + t] =
        mass > 0 ? std::log(mass) : -std::numeric_limits<float>::infinity();
  }
  a.read.count[index] = count + r;
}

absl::Status CheckCounts(const ListSummariesArgs& a) {
  for (int32_t i = 0; i < a.batch.num_segments; ++i) {
    const int32_t count = a.selected.count[i];
    if (count >= 0 && count <= a.shape.max_selected) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("ListSummaries: selected.count[", i, "]=", count));
  }
  return absl::OkStatus();
}

absl::Status ValidateLost(absl::string_view op, const StreamBatch& batch, const LostEntries& lost) {
  RASQ_RETURN_IF_ERROR(CheckNotNull(op, "lost.end", lost.end));
  RASQ_RETURN_IF_ERROR(CheckNotNull(op, "lost.keep", lost.keep));
  RASQ_RETURN_IF_ERROR(CheckNotNull(op, "lost.mass", lost.mass));
  return batch.num_staged > 0 ? CheckNotNull(op, "lost.row", lost.row) : absl::OkStatus();
}

}  // namespace

absl::Status ValidateLoseEntries(const LoseEntriesArgs& a) {
  constexpr char kOp[] = "LoseEntries";
  RASQ_RETURN_IF_ERROR(ValidateBatch(kOp, a.batch));
  RASQ_RETURN_IF_ERROR(ValidateShape(kOp, a.shape));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "capacity", a.shape.capacity, 1));
  if (!(a.decay >= 0 && a.decay < 1)) return BadArgument(kOp, "decay", a.decay);
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "mass_offset", a.mass_offset, 0));
  if (a.batch.num_chunks == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "died", a.died));
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "row_position", a.row_position));
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "row_log_gate", a.row_log_gate));
  if (a.batch.num_staged > 0) RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "found", a.found));
  return ValidateLost(kOp, a.batch, a.lost);
}

absl::Status LoseEntriesCpu(const LoseEntriesArgs& a, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidateLoseEntries(a));
  RASQ_RETURN_IF_ERROR(CheckBatchContents("LoseEntries", a.batch, a.shape));
  pool.ParallelFor(a.batch.num_chunks, [&](int64_t i, int /*thread*/) {
    if (HasBeginning(a.batch, a.batch.chunks[i])) LoseOfChunk(a, a.batch.chunks[i]);
  });
  return absl::OkStatus();
}

absl::Status ValidateSummarizeEntries(const SummarizeEntriesArgs& a) {
  constexpr char kOp[] = "SummarizeEntries";
  RASQ_RETURN_IF_ERROR(ValidateBatch(kOp, a.batch));
  RASQ_RETURN_IF_ERROR(ValidateShape(kOp, a.shape));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "capacity", a.shape.capacity, 1));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "num_kv_heads", a.num_kv_heads, 1));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "compressed_dim", a.compressed_dim, 1));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "num_summaries", a.num_summaries, 1));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "summary_k_offset", a.summary_k_offset, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "summary_v_offset", a.summary_v_offset, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "entry_k_offset", a.entry_k_offset, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "entry_v_offset", a.entry_v_offset, 0));
  if (a.batch.num_chunks == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "query", a.query));
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "row_log_gate", a.row_log_gate));
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "staged_k", a.staged_k));
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "staged_v", a.staged_v));
  return ValidateLost(kOp, a.batch, a.lost);
}

absl::Status SummarizeEntriesCpu(const SummarizeEntriesArgs& a, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidateSummarizeEntries(a));
  RASQ_RETURN_IF_ERROR(CheckBatchContents("SummarizeEntries", a.batch, a.shape));
  RASQ_RETURN_IF_ERROR(CheckLost(a));
  const int64_t num_tasks = int64_t{a.batch.num_chunks} * a.num_kv_heads;
  pool.ParallelFor(num_tasks, [&](int64_t task, int /*thread*/) {
    thread_local Scratch scratch;
    const StreamChunk& c = a.batch.chunks[task / a.num_kv_heads];
    if (HasBeginning(a.batch, c)) Slots(a, c, task % a.num_kv_heads, scratch).Run();
  });
  return absl::OkStatus();
}

absl::Status ValidateListSummaries(const ListSummariesArgs& a) {
  constexpr char kOp[] = "ListSummaries";
  RASQ_RETURN_IF_ERROR(ValidateBatch(kOp, a.batch));
  RASQ_RETURN_IF_ERROR(ValidateShape(kOp, a.shape));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "max_selected", a.shape.max_selected, 1));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "num_summaries", a.num_summaries, 1));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "mass_offset", a.mass_offset, 0));
  if (a.batch.num_chunks == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "selected.count", a.selected.count));
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "selected.row", a.selected.row));
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "selected.score", a.selected.score));
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "selected.log_gate", a.selected.log_gate));
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "read.count", a.read.count));
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "read.row", a.read.row));
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "read.score", a.read.score));
  return CheckNotNull(kOp, "read.log_gate", a.read.log_gate);
}

absl::Status ListSummariesCpu(const ListSummariesArgs& a, ThreadPool& /*pool*/) {
  RASQ_RETURN_IF_ERROR(ValidateListSummaries(a));
  RASQ_RETURN_IF_ERROR(CheckBatchContents("ListSummaries", a.batch, a.shape));
  RASQ_RETURN_IF_ERROR(CheckCounts(a));
  const bool any = std::any_of(a.batch.chunks, a.batch.chunks + a.batch.num_chunks,
                               [&](const StreamChunk& c) { return HasBeginning(a.batch, c); });
  if (any) RASQ_RETURN_IF_ERROR(CheckNotNull("ListSummaries", "mass", a.mass));
  for (int64_t i = 0; i < a.batch.num_segments; ++i) List(a, i);
  return absl::OkStatus();
}

}  // namespace rasq
