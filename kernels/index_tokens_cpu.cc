#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/index_tokens.h"
#include "kernels/int8_vectors_cpu.h"
#include "kernels/random.h"
#include "kernels/row_tasks_cpu.h"
#include "kernels/stream_batch_cpu.h"
#include "kernels/vector_loops_cpu.h"

namespace rasq {
namespace {

// Into a row of `type`.
void StoreUnit(EntryType type, DType element, const float* x, std::byte* row, int64_t n) {
  const float length = std::sqrt(Dot(x, x, n));
  const float scale = length > 0 ? 1.0f / length : 0.0f;
  if (type == EntryType::kInt8) {
    thread_local std::vector<float> unit;
    unit.resize(n);
    Scale(x, scale, unit.data(), n);
    StoreInt8(unit.data(), n, row, row + EntryScaleOffset(/*heads=*/1, n));
  } else if (element == DType::kBfloat16) {
    Scale(x, scale, reinterpret_cast<bfloat16*>(row), n);
  } else {
    Scale(x, scale, reinterpret_cast<float*>(row), n);
  }
}

void IndexRow(const IndexTokensArgs& a, int64_t row) {
  const int64_t dim = a.index_dim;
  const float* projected = a.projected + row * a.projected_stride;
  auto* query = static_cast<std::byte*>(a.query) + row * dim * SizeOf(a.element);
  auto* key = static_cast<std::byte*>(a.key) +
              row * EntryRowBytes(a.entry_type, a.element, /*heads=*/1, dim);
  StoreUnit(EntryType::kElement, a.element, projected, query, dim);
  StoreUnit(a.entry_type, a.element, projected + dim, key, dim);
}

// log sigmoid(x), without overflow for any x. A NaN counts as a closed gate: priorities are
// compared later, and need an order.
float LogSigmoid(float x) {
  if (std::isnan(x)) return -std::numeric_limits<float>::infinity();
  return std::min(x, 0.0f) - std::log1p(std::exp(-std::abs(x)));
}

void RankRow(const IndexTokensArgs& a, const WritePolicy& policy, int64_t row, int64_t position) {
  const float gate = a.projected[row * a.projected_stride + 2 * a.index_dim] + a.gate_bias;
  const float log_gate = LogSigmoid(gate);
  double priority = double{log_gate} + static_cast<double>(position) * policy.log_growth;
  if (policy.by_age) {
    priority = static_cast<double>(position);
  } else if (policy.noise != 0) {
    const double u = UniformAt(policy.seed, static_cast<uint64_t>(position));
    priority -= policy.noise * std::log(-std::log(u));
  }
  a.log_gate[row] = log_gate;
  a.priority[row] = a.pinned[row] != 0 ? std::numeric_limits<double>::infinity() : priority;
}

}  // namespace

absl::Status ValidateIndexTokens(const IndexTokensArgs& a) {
  RASQ_RETURN_IF_ERROR(ValidateBatch("IndexTokens", a.batch));
  RASQ_RETURN_IF_ERROR(CheckRange("IndexTokens", "index_dim", a.index_dim, 1, 65536));
  RASQ_RETURN_IF_ERROR(CheckRange("IndexTokens", "projected_stride", a.projected_stride,
                                  2 * int64_t{a.index_dim} + (a.has_gate ? 1 : 0)));
  if (a.batch.num_chunks == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull("IndexTokens", "projected", a.projected));
  RASQ_RETURN_IF_ERROR(CheckNotNull("IndexTokens", "query", a.query));
  RASQ_RETURN_IF_ERROR(CheckNotNull("IndexTokens", "key", a.key));
  if (!a.has_gate) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull("IndexTokens", "pinned", a.pinned));
  RASQ_RETURN_IF_ERROR(CheckNotNull("IndexTokens", "policy", a.policy));
  RASQ_RETURN_IF_ERROR(CheckNotNull("IndexTokens", "log_gate", a.log_gate));
  return CheckNotNull("IndexTokens", "priority", a.priority);
}

absl::Status IndexTokensCpu(const IndexTokensArgs& a, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidateIndexTokens(a));
  RASQ_RETURN_IF_ERROR(CheckBatchContents("IndexTokens", a.batch));
  for (int32_t i = 0; i < a.batch.num_chunks && a.has_gate; ++i) {
    const WritePolicy& policy = a.policy[i];
    if (!std::isfinite(policy.noise) || policy.noise < 0) {
      return BadArgument("IndexTokens", absl::StrCat("policy[", i, "].noise"), policy.noise);
    }
    if (!std::isfinite(policy.log_growth)) {
      return BadArgument("IndexTokens", absl::StrCat("policy[", i, "].log_growth"),
                         policy.log_growth);
    }
  }
  for (int32_t i = 0; i < a.batch.num_chunks; ++i) {
    const StreamChunk& c = a.batch.chunks[i];
    ForRowRanges(pool, c.num_rows, a.index_dim * 16, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        IndexRow(a, c.first_row + t);
        if (a.has_gate) RankRow(a, a.policy[i], c.first_row + t, c.first_position + t);
      }
    });
  }
  return absl::OkStatus();
}

}  // namespace rasq
