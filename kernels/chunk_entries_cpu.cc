#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/chunk_entries.h"
#include "kernels/elements_cpu.h"
#include "kernels/head_lists_cpu.h"
#include "kernels/stream_batch_cpu.h"
#include "kernels/vector_loops_cpu.h"

namespace rasq {
namespace {

template <typename T>
T* InState(const StreamChunk& chunk, int64_t offset, int64_t element) {
  return reinterpret_cast<T*>(chunk.state + offset) + element;
}

// One kv head of a stream.
class ChunkHead {
 public:
  ChunkHead(const ChunkEntriesArgs& a, const StreamChunk& chunk, int64_t kv_head)
      : a_(a),
        chunk_(chunk),
        dim_(a.store.head_dim),
        first_(kv_head * a.chunks),
        rows_(a.store, chunk, kv_head),
        number_(InState<int32_t>(chunk, a.table.number, first_)),
        key_sum_(InState<float>(chunk, a.table.key_sum, first_ * dim_)),
        used_(InState<float>(chunk, a.table.used, first_)),
        read_count_(InState<int32_t>(chunk, a.table.read_count, kv_head)),
        read_chunk_(InState<int32_t>(chunk, a.table.read_chunk, kv_head * a.read_chunks)),
        read_weight_(InState<float>(chunk, a.table.read_weight, kv_head * a.read_chunks)),
        query_sum_(InState<float>(chunk, a.table.query_sum, kv_head * dim_)),
        query_count_(InState<int32_t>(chunk, a.table.query_count, kv_head)) {}

  void KeepLeaving() {
    std::vector<float> key(dim_);
    for (int64_t p = chunk_.leave_begin; p < chunk_.leave_end; ++p) {
      const int64_t slot = SlotOf(p / kChunkRows);
      rows_.Keep(p, RowOf(slot, p % kChunkRows));
      LoadElements(a_.store.element, rows_.InRing(/*key=*/true, p), key.data(), dim_);
      Add(key_sum_ + slot * dim_, key.data(), key_sum_ + slot * dim_, dim_);
    }
  }

  void Choose() {
    std::vector<int32_t> slots;
    std::vector<float> score(a_.chunks);
    slots.reserve(a_.chunks);
    const float scale = 1.0f / (static_cast<float>(std::max(*query_count_, 1)) *
                                std::sqrt(static_cast<float>(dim_)));
    for (int32_t s = 0; s < a_.chunks; ++s) {
      if (number_[s] == 0) continue;
      slots.push_back(s);
      score[s] = Dot(query_sum_, key_sum_ + s * dim_, dim_) * scale /
                 static_cast<float>(TokensOf(number_[s] - 1));
    }
    const auto count = std::min<int64_t>(a_.read_chunks, static_cast<int64_t>(slots.size()));
    const auto read = slots.begin() + count;
    std::partial_sort(slots.begin(), read, slots.end(), [&](int32_t i, int32_t j) {
      return score[i] != score[j] ? score[i] > score[j] : number_[i] > number_[j];
    });
    float sum = 0;
    for (auto s = slots.begin(); s < read; ++s) sum += std::exp(score[*s] - score[slots[0]]);
    const float most = count > 0 ? score[slots[0]] : 0;
    std::sort(slots.begin(), read, [&](int32_t i, int32_t j) { return number_[i] < number_[j]; });
    for (int64_t i = 0; i < count; ++i) {
      read_chunk_[i] = slots[i];
      read_weight_[i] = std::exp(score[slots[i]] - most) / sum;
      used_[slots[i]] += read_weight_[i];
    }
    *read_count_ = static_cast<int32_t>(count);
  }

  void List(int64_t list) const {
    const int64_t stride = a_.store.shape.max_selected;
    int32_t* row = a_.lists.row + list * stride;
    float* bias = a_.lists.bias + list * stride;
    for (int32_t i = 0; i < *read_count_; ++i) {
      const int32_t slot = read_chunk_[i];
      const int64_t tokens = TokensOf(number_[slot] - 1);
      for (int32_t j = 0; j < kChunkRows; ++j) {
        *row++ = static_cast<int32_t>(RowOf(slot, j));
        *bias++ = j < tokens ? 0 : -std::numeric_limits<float>::infinity();
      }
      a_.fused_weight[list * (stride / kChunkRows) + i] = read_weight_[i];
    }
    a_.lists.count[list] = *read_count_ * kChunkRows;
  }

 private:
  int64_t RowOf(int64_t slot, int64_t token) const { return (first_ + slot) * kChunkRows + token; }
  int64_t TokensOf(int64_t number) const {
    return std::min<int64_t>(kChunkRows, chunk_.leave_end - number * kChunkRows);
  }

  // The slot of a chunk; a new one takes an empty slot, or that of another.
  int64_t SlotOf(int64_t number) {
    int64_t found = 0;
    for (int64_t s = 0; s < a_.chunks; ++s) {
      if (number_[s] == number + 1) return s;
      // Empty slots have been used least, and are oldest.
      const bool less =
          used_[s] != used_[found] ? used_[s] < used_[found] : number_[s] < number_[found];
      if (number_[found] != 0 && (number_[s] == 0 || less)) found = s;
    }
    number_[found] = static_cast<int32_t>(number + 1);
    used_[found] = 0;
    std::fill_n(key_sum_ + found * dim_, dim_, 0.0f);
    return found;
  }

  const ChunkEntriesArgs& a_;
  const StreamChunk& chunk_;
  const int64_t dim_;
  const int64_t first_;  // of the head's chunks in the store
  const HeadRows rows_;
  int32_t* const number_;
  float* const key_sum_;
  float* const used_;
  int32_t* const read_count_;
  int32_t* const read_chunk_;
  float* const read_weight_;
  const float* const query_sum_;
  const int32_t* const query_count_;
};

absl::Status ValidateTable(absl::string_view op, const ChunkTable& t) {
  RASQ_RETURN_IF_ERROR(CheckRange(op, "number", t.number, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(op, "key_sum", t.key_sum, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(op, "used", t.used, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(op, "read_count", t.read_count, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(op, "read_chunk", t.read_chunk, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(op, "read_weight", t.read_weight, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(op, "query_sum", t.query_sum, 0));
  return CheckRange(op, "query_count", t.query_count, 0);
}

}  // namespace

absl::Status ValidateChunkEntries(const ChunkEntriesArgs& a) {
  constexpr char kOp[] = "ChunkEntries";
  RASQ_RETURN_IF_ERROR(ValidateHeadStore(kOp, a.store, a.lists));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "chunks", a.chunks, 1, 1 << 20));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "read_chunks", a.read_chunks, 1, kMaxReadChunks));
  const int64_t rows = int64_t{a.store.num_kv_heads} * a.chunks * kChunkRows;
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "capacity", a.store.shape.capacity, rows));
  const int64_t longest = int64_t{a.read_chunks} * kChunkRows;
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "max_selected", a.store.shape.max_selected, longest));
  if (a.store.shape.max_selected % kChunkRows != 0) {
    return BadArgument(kOp, "max_selected", a.store.shape.max_selected);
  }
  RASQ_RETURN_IF_ERROR(ValidateTable(kOp, a.table));
  if (a.store.batch.num_chunks == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "score", a.score));
  return CheckNotNull(kOp, "fused_weight", a.fused_weight);
}

absl::Status ChunkEntriesCpu(const ChunkEntriesArgs& a, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidateChunkEntries(a));
  RASQ_RETURN_IF_ERROR(CheckHeadStore("ChunkEntries", a.store));
  const int64_t heads = a.store.num_kv_heads;
  pool.ParallelFor(a.store.batch.num_segments * heads, [&](int64_t task, int /*thread*/) {
    const StreamSegment& segment = a.store.batch.segments[task / heads];
    ChunkHead head(a, a.store.batch.chunks[segment.chunk], task % heads);
    head.KeepLeaving();
    if (segment.begins != 0) head.Choose();
    head.List(task);
  });
  return absl::OkStatus();
}

absl::Status ValidateChunkQueries(const ChunkQueriesArgs& a) {
  constexpr char kOp[] = "ChunkQueries";
  RASQ_RETURN_IF_ERROR(ValidateBatch(kOp, a.batch));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "num_kv_heads", a.num_kv_heads, 1, 65535));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "num_heads", a.num_heads, 1));
  if (a.num_heads % a.num_kv_heads != 0) return BadArgument(kOp, "num_heads", a.num_heads);
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "head_dim", a.head_dim, 1));
  RASQ_RETURN_IF_ERROR(ValidateTable(kOp, a.table));
  if (a.batch.num_chunks == 0) return absl::OkStatus();
  return CheckNotNull(kOp, "q", a.q);
}

absl::Status ChunkQueriesCpu(const ChunkQueriesArgs& a, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidateChunkQueries(a));
  RASQ_RETURN_IF_ERROR(CheckBatchContents("ChunkQueries", a.batch));
  const int64_t dim = a.head_dim, group = a.num_heads / a.num_kv_heads;
  pool.ParallelFor(int64_t{a.batch.num_segments} * a.num_kv_heads, [&](int64_t task, int /*t*/) {
    const StreamSegment& segment = a.batch.segments[task / a.num_kv_heads];
    const StreamChunk& chunk = a.batch.chunks[segment.chunk];
    const int64_t head = task % a.num_kv_heads;
    auto* sum = InState<float>(chunk, a.table.query_sum, head * dim);
    auto* count = InState<int32_t>(chunk, a.table.query_count, head);
    if (segment.begins != 0) {
      std::fill_n(sum, dim, 0.0f);
      *count = 0;
    }
    std::vector<float> query(dim), mean(dim);
    for (int64_t row = segment.first_row; row < segment.first_row + segment.num_rows; ++row) {
      std::fill(mean.begin(), mean.end(), 0.0f);
      for (int64_t g = 0; g < group; ++g) {
        const int64_t at = row * a.num_heads + head * group + g;
        LoadElements(a.element, static_cast<const std::byte*>(a.q) + at * dim * SizeOf(a.element),
                     query.data(), dim);
        Add(mean.data(), query.data(), mean.data(), dim);
      }
      Scale(mean.data(), 1.0f / static_cast<float>(group), mean.data(), dim);
      Add(sum, mean.data(), sum, dim);
    }
    *count += segment.num_rows;
  });
  return absl::OkStatus();
}

}  // namespace rasq
