#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/elements_cpu.h"
#include "kernels/int8_vectors_cpu.h"
#include "kernels/matrix_product_cpu.h"
#include "kernels/retrieval_scores.h"
#include "kernels/stream_batch_cpu.h"
#include "kernels/vector_loops_cpu.h"

namespace rasq {
namespace {

// Entry rows of one task. A product of 64 queries by so many columns takes some 20 us.
constexpr int64_t kBlockColumns = 512;
// Queries are padded to a multiple of this, and columns too, so that few shapes of product exist.
constexpr int64_t kPad = 64;

int64_t RoundUp(int64_t value) { return (value + kPad - 1) / kPad * kPad; }

struct Scratch {
  std::vector<std::byte> queries;
  std::vector<std::byte> keys;
  std::vector<float> scores;  // [padded queries, padded columns]
};

class BlockScorer {
 public:
  BlockScorer(const RetrievalScoresArgs& a, int64_t segment_index)
      : a_(a),
        index_(segment_index),
        segment_(a.batch.segments[segment_index]),
        chunk_(a.batch.chunks[segment_.chunk]),
        type_(ProductType(a.element)),
        row_bytes_(a.index_dim * SizeOf(a.element)),
        product_row_bytes_(a.index_dim * SizeOf(type_)),
        key_row_bytes_(EntryRowBytes(a.entry_type, a.element, /*heads=*/1, a.index_dim)) {}

  // Entry rows [begin, begin + kBlockColumns) of the chunk, as far as there are so many.
  void Run(int64_t begin) {
    const int64_t end = std::min(begin + kBlockColumns, a_.shape.capacity + NumLeaving(chunk_));
    float* score = a_.score + index_ * a_.stride;
    float* key = a_.key + index_ * a_.stride;
    std::fill(score + begin, score + end, 0.0f);
    std::fill(key + begin, key + end, -std::numeric_limits<float>::infinity());
    const int64_t num_queries = std::min<int64_t>(segment_.start, a_.shape.segment_rows);
    int64_t last = end;  // dead entries at the block's end are not read: an empty buffer costs none
    while (last > begin && !IsAlive(last - 1)) --last;
    if (last == begin || num_queries == 0) return;

    thread_local Scratch scratch;
    GatherQueries(num_queries, scratch.queries);
    const int64_t columns = RoundUp(last - begin);
    const ProductShape shape{.type = type_,
                             .rows = RoundUp(num_queries),
                             .columns = columns,
                             .inner = a_.index_dim,
                             .layout = WeightLayout::kOuterInner};
    scratch.scores.resize(shape.rows * columns);
    RunProduct(shape, scratch.queries.data(), Keys(begin, last, columns, scratch.keys),
               scratch.scores.data());
    float* best = scratch.scores.data();
    for (int64_t i = 1; i < num_queries; ++i) MaxInto(best + i * columns, best, last - begin);
    for (int64_t i = begin; i < last; ++i) {
      if (!IsAlive(i)) continue;
      score[i] = a_.temperature * (best[i - begin] * KeyScale(i));
      key[i] = score[i] + a_.row_log_gate[chunk_.first_entry + i];
    }
  }

 private:
  bool IsAlive(int64_t i) const {
    const int64_t j = index_ - chunk_.first_segment;
    const int64_t row = chunk_.first_entry + i;
    return a_.born[row] <= j && j < a_.died[row];
  }

  void GatherQueries(int64_t num_queries, std::vector<std::byte>& queries) const {
    queries.assign(RoundUp(num_queries) * product_row_bytes_, std::byte{0});
    const std::byte* ring = chunk_.state + a_.query_ring_offset;
    const auto* own = static_cast<const std::byte*>(a_.query);
    ForTokenSpans(chunk_, segment_.start - num_queries, segment_.start, a_.shape.segment_rows,
                  [&](const TokenSpan& span) {
                    const std::byte* from = (span.in_ring ? ring : own) + span.row * row_bytes_;
                    ConvertElements(a_.element, from, type_,
                                    queries.data() + span.offset * product_row_bytes_,
                                    span.num_rows * a_.index_dim);
                  });
  }

  // Index key of an entry row: of a slot or staged.
  const std::byte* Key(int64_t i) const {
    const int64_t capacity = a_.shape.capacity;
    if (i < capacity) return chunk_.state + a_.entry_index_offset + i * key_row_bytes_;
    return static_cast<const std::byte*>(a_.staged_index) +
           (chunk_.first_staged + i - capacity) * key_row_bytes_;
  }
  float KeyScale(int64_t i) const {
    if (a_.entry_type == EntryType::kElement) return 1;
    return LoadScale(Key(i) + EntryScaleOffset(/*heads=*/1, a_.index_dim));
  }

  // Index keys of entry rows [begin, last), without their scales: where they lie if nothing needs
  // to be changed, else copied and padded.
  const std::byte* Keys(int64_t begin, int64_t last, int64_t columns,
                        std::vector<std::byte>& copy) const {
    const int64_t capacity = a_.shape.capacity;
    const bool is_int8 = a_.entry_type == EntryType::kInt8;
    if (!is_int8 && type_ == a_.element && columns == last - begin && last <= capacity) {
      return Key(begin);
    }
    copy.assign(columns * product_row_bytes_, std::byte{0});
    if (is_int8) {
      for (int64_t i = begin; i < last; ++i) {
        LoadInt8(Key(i), /*scale=*/1, type_, type_, copy.data() + (i - begin) * product_row_bytes_,
                 a_.index_dim);
      }
      return copy.data();
    }
    const int64_t split = std::clamp(capacity, begin, last);
    ConvertElements(a_.element, Key(begin), type_, copy.data(), (split - begin) * a_.index_dim);
    if (split < last) {
      ConvertElements(a_.element, Key(split), type_,
                      copy.data() + (split - begin) * product_row_bytes_,
                      (last - split) * a_.index_dim);
    }
    return copy.data();
  }

  const RetrievalScoresArgs& a_;
  const int64_t index_;
  const StreamSegment& segment_;
  const StreamChunk& chunk_;
  const DType type_;
  const int64_t row_bytes_;
  const int64_t product_row_bytes_;
  const int64_t key_row_bytes_;
};

struct Block {
  int64_t segment;
  int64_t begin;
};

}  // namespace

absl::Status ValidateRetrievalScores(const RetrievalScoresArgs& a) {
  RASQ_RETURN_IF_ERROR(ValidateBatch("RetrievalScores", a.batch));
  RASQ_RETURN_IF_ERROR(ValidateShape("RetrievalScores", a.shape));
  RASQ_RETURN_IF_ERROR(CheckRange("RetrievalScores", "index_dim", a.index_dim, 1, 65536));
  if (!std::isfinite(a.temperature)) {
    return BadArgument("RetrievalScores", "temperature", a.temperature);
  }
  RASQ_RETURN_IF_ERROR(CheckRange("RetrievalScores", "query_ring_offset", a.query_ring_offset, 0));
  RASQ_RETURN_IF_ERROR(
      CheckRange("RetrievalScores", "entry_index_offset", a.entry_index_offset, 0));
  RASQ_RETURN_IF_ERROR(CheckRange("RetrievalScores", "stride", a.stride, a.shape.capacity));
  if (a.batch.num_chunks == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull("RetrievalScores", "query", a.query));
  if (a.batch.num_staged > 0) {
    RASQ_RETURN_IF_ERROR(CheckNotNull("RetrievalScores", "staged_index", a.staged_index));
  }
  RASQ_RETURN_IF_ERROR(CheckNotNull("RetrievalScores", "born", a.born));
  RASQ_RETURN_IF_ERROR(CheckNotNull("RetrievalScores", "died", a.died));
  RASQ_RETURN_IF_ERROR(CheckNotNull("RetrievalScores", "row_log_gate", a.row_log_gate));
  RASQ_RETURN_IF_ERROR(CheckNotNull("RetrievalScores", "score", a.score));
  return CheckNotNull("RetrievalScores", "key", a.key);
}

absl::Status RetrievalScoresCpu(const RetrievalScoresArgs& a, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidateRetrievalScores(a));
  RASQ_RETURN_IF_ERROR(CheckBatchContents("RetrievalScores", a.batch, a.shape));
  thread_local std::vector<Block> blocks;
  blocks.clear();
  for (int32_t i = 0; i < a.batch.num_segments; ++i) {
    if (a.batch.segments[i].begins == 0) continue;
    const StreamChunk& c = a.batch.chunks[a.batch.segments[i].chunk];
    const int64_t num_entries = a.shape.capacity + NumLeaving(c);
    if (num_entries > a.stride) {
      return absl::InvalidArgumentError(
          absl::StrCat("RetrievalScores: stride=", a.stride, " with entries=", num_entries));
    }
    for (int64_t begin = 0; begin < num_entries; begin += kBlockColumns) {
      blocks.push_back({i, begin});
    }
  }
  const std::vector<Block>& work = blocks;  // of this thread, also inside the tasks
  pool.ParallelFor(static_cast<int64_t>(work.size()), [&](int64_t i, int /*thread*/) {
    BlockScorer(a, work[i].segment).Run(work[i].begin);
  });
  return absl::OkStatus();
}

}  // namespace rasq
