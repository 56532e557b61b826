#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/elements_cpu.h"
#include "kernels/head_lists_cpu.h"
#include "kernels/pyramid_entries.h"
#include "kernels/vector_loops_cpu.h"

namespace rasq {
namespace {

// One kv head of a chunk.
class PyramidHead {
 public:
  PyramidHead(const PyramidEntriesArgs& a, const StreamChunk& chunk, int64_t kv_head)
      : a_(a),
        chunk_(chunk),
        head_(kv_head),
        rows_(a.store, chunk, kv_head),
        order_(reinterpret_cast<int32_t*>(chunk.state + a.order_offset) + kv_head * a.rows),
        count_(reinterpret_cast<int32_t*>(chunk.state + a.count_offset) + kv_head) {
    if (chunk.leave_begin > 0) return;
    std::iota(order_, order_ + a.rows, 0);
    *count_ = 0;
  }

  bool HasRoom(int64_t budget) const {
    const int64_t all = *count_ + Leaving();
    return (budget < 0 ? all : std::min(all, budget)) <= a_.rows;
  }

  void Run(int64_t segment, int64_t budget) {
    const int64_t all = *count_ + Leaving();
    std::vector<bool> stays(all, true);
    if (budget >= 0 && all > budget) stays = Choose(budget);
    Keep(stays);
    List(segment);
  }

 private:
  int64_t Leaving() const { return chunk_.leave_end - chunk_.leave_begin; }
  const std::byte* Key(int64_t candidate) const {
    if (candidate >= *count_) {
      return rows_.InRing(/*key=*/true, chunk_.leave_begin + candidate - *count_);
    }
    return rows_.Stored(/*key=*/true, head_ * a_.rows + order_[candidate]);
  }

  std::vector<float> Weights() const {
    const int64_t dim = a_.store.head_dim, group = a_.num_heads / a_.store.num_kv_heads;
    const int64_t bytes = dim * SizeOf(a_.store.element);
    const int64_t queries = std::min<int64_t>(a_.num_queries, chunk_.first_position);
    std::vector<float> q(queries * group * dim), lse(queries * group), key(dim);
    const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
    for (int64_t i = 0; i < queries; ++i) {
      const int64_t row = (chunk_.first_position - queries + i) % a_.num_queries;
      for (int64_t g = 0; g < group; ++g) {
        const int64_t at = row * a_.num_heads + head_ * group + g;
        float* to = &q[(i * group + g) * dim];
        LoadElements(a_.store.element, chunk_.state + a_.query_offset + at * bytes, to, dim);
        Scale(to, scale, to, dim);
        lse[i * group + g] = reinterpret_cast<const float*>(chunk_.state + a_.lse_offset)[at];
      }
    }
    std::vector<float> weight(*count_ + Leaving());
    for (size_t j = 0; j < weight.size(); ++j) {
      LoadElements(a_.store.element, Key(static_cast<int64_t>(j)), key.data(), dim);
      float sum = 0;
      for (int64_t i = 0; i < queries * group; ++i) {
        sum += std::exp(Dot(&q[i * dim], key.data(), dim) - lse[i]);
      }
      weight[j] = sum / static_cast<float>(group);
    }
    return weight;
  }

  std::vector<bool> Choose(int64_t budget) const {
    const std::vector<float> weight = Weights();
    const auto all = static_cast<int64_t>(weight.size());
    const int64_t half = a_.pool_rows / 2;
    std::vector<float> pooled(all);
    for (int64_t j = 0; j < all; ++j) {
      const auto from = weight.begin() + std::max<int64_t>(0, j - half);
      const auto to = weight.begin() + std::min(all, j + half + 1);
      pooled[j] = *std::max_element(from, to);
    }
    std::vector<int64_t> order(all);
    std::iota(order.begin(), order.end(), int64_t{0});
    const auto before = [&](int64_t i, int64_t j) {
      if (pooled[i] != pooled[j]) return pooled[i] > pooled[j];
      return weight[i] != weight[j] ? weight[i] > weight[j] : i > j;
    };
    std::nth_element(order.begin(), order.begin() + budget, order.end(), before);
    std::vector<bool> stays(all);
    for (int64_t i = 0; i < budget; ++i) stays[order[i]] = true;
    return stays;
  }

  // Rows of what stays come first, in the old order, then those that are free.
  void Keep(const std::vector<bool>& stays) {
    std::vector<int32_t> used, free(order_ + *count_, order_ + a_.rows);
    used.reserve(a_.rows);
    for (int32_t j = 0; j < *count_; ++j) (stays[j] ? used : free).push_back(order_[j]);
    size_t taken = 0;
    for (int64_t i = 0; i < Leaving(); ++i) {
      if (!stays[*count_ + i]) continue;
      used.push_back(free[taken++]);
      rows_.Keep(chunk_.leave_begin + i, head_ * a_.rows + used.back());
    }
    *count_ = static_cast<int32_t>(used.size());
    std::copy(free.begin() + static_cast<int64_t>(taken), free.end(),
              std::copy(used.begin(), used.end(), order_));
  }

  void List(int64_t segment) const {
    const int64_t list = segment * a_.store.num_kv_heads + head_;
    int32_t* row = a_.lists.row + list * a_.store.shape.max_selected;
    for (int32_t j = 0; j < *count_; ++j) {
      row[j] = static_cast<int32_t>(head_ * a_.rows + order_[j]);
    }
    std::fill_n(a_.lists.bias + list * a_.store.shape.max_selected, *count_, 0.0f);
    a_.lists.count[list] = *count_;
  }

  const PyramidEntriesArgs& a_;
  const StreamChunk& chunk_;
  const int64_t head_;
  const HeadRows rows_;
  int32_t* const order_;
  int32_t* const count_;
};

}  // namespace

absl::Status ValidatePyramidEntries(const PyramidEntriesArgs& a) {
  constexpr char kOp[] = "PyramidEntries";
  RASQ_RETURN_IF_ERROR(ValidateHeadStore(kOp, a.store, a.lists));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "num_heads", a.num_heads, 1));
  if (a.num_heads % a.store.num_kv_heads != 0) return BadArgument(kOp, "num_heads", a.num_heads);
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "rows", a.rows, 0, a.store.shape.max_selected));
  const int64_t rows = int64_t{a.store.num_kv_heads} * a.rows;
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "capacity", a.store.shape.capacity, rows));
  const int64_t window = a.store.shape.window_rows;
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "num_queries", a.num_queries, 1, window));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "pool_rows", a.pool_rows, 1, 1 << 20));
  if (a.pool_rows % 2 == 0) return BadArgument(kOp, "pool_rows", a.pool_rows);
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "query_offset", a.query_offset, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "lse_offset", a.lse_offset, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "order_offset", a.order_offset, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "count_offset", a.count_offset, 0));
  if (a.store.batch.num_chunks == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "budget", a.budget));
  RASQ_RETURN_IF_ERROR(CheckNotNull(kOp, "weight", a.weight));
  return CheckNotNull(kOp, "scratch", a.scratch);
}

absl::Status PyramidEntriesCpu(const PyramidEntriesArgs& a, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidatePyramidEntries(a));
  RASQ_RETURN_IF_ERROR(CheckHeadStore("PyramidEntries", a.store));
  const int64_t heads = a.store.num_kv_heads;
  for (int32_t i = 0; i < a.store.batch.num_chunks; ++i) {
    for (int64_t h = 0; h < heads; ++h) {
      if (PyramidHead(a, a.store.batch.chunks[i], h).HasRoom(a.budget[i])) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("PyramidEntries: chunk ", i, ": more than rows=", a.rows, " would stay"));
    }
  }
  pool.ParallelFor(a.store.batch.num_segments * heads, [&](int64_t task, int /*thread*/) {
    const int64_t segment = task / heads;
    const int32_t chunk = a.store.batch.segments[segment].chunk;
    PyramidHead(a, a.store.batch.chunks[chunk], task % heads).Run(segment, a.budget[chunk]);
  });
  return absl::OkStatus();
}

}  // namespace rasq
