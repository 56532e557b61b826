#include <cmath>
#include <vector>

#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/rotary.h"
#include "kernels/row_tasks_cpu.h"
#include "kernels/stream_batch_cpu.h"
#include "kernels/vector_loops_cpu.h"

namespace rasq {
namespace {

// A row of a rotation table and the position it stands for.
struct TableRow {
  int64_t position;
  float* out;
};

void AppendRows(int64_t first_position, int64_t num_rows, float* out, int64_t head_dim,
                std::vector<TableRow>& rows) {
  for (int64_t i = 0; i < num_rows; ++i) {
    rows.push_back({first_position + i, out + i * head_dim});
  }
}

// One head between its projection and attention. `scratch` has head_dim floats.
template <typename T>
void RotateHead(const RotaryArgs& a, const float* x, const float* bias, const float* norm,
                const float* rotation, float* scratch, T* y) {
  if (bias != nullptr) {
    Add(x, bias, scratch, a.head_dim);
    x = scratch;
  }
  if (norm != nullptr) {
    const float mean = Dot(x, x, a.head_dim) / static_cast<float>(a.head_dim);
    ScaleByWeight(x, 1.0f / std::sqrt(mean + a.epsilon), norm, scratch, a.head_dim);
    x = scratch;
  }
  Rotate(x, rotation, y, a.head_dim);
}

template <typename T>
void RotateRow(const RotaryArgs& a, int64_t t, float* scratch) {
  const int64_t dim = a.head_dim;
  const int64_t q_width = a.num_heads * dim;
  const int64_t kv_width = a.num_kv_heads * dim;
  const float* qkv = a.qkv + t * (q_width + 2 * kv_width);
  const float* rotation = a.rotation + t * dim;
  const auto bias_at = [&](int64_t i) { return a.bias == nullptr ? nullptr : a.bias + i; };
  T* q = static_cast<T*>(a.q) + t * q_width;
  for (int64_t i = 0; i < q_width; i += dim) {
    RotateHead(a, qkv + i, bias_at(i), a.q_norm, rotation, scratch, q + i);
  }
  T* k = static_cast<T*>(a.k) + t * kv_width;
  for (int64_t i = 0; i < kv_width; i += dim) {
    const int64_t from = q_width + i;
    RotateHead(a, qkv + from, bias_at(from), a.k_norm, rotation, scratch, k + i);
  }
  const int64_t v_begin = q_width + kv_width;
  T* v = static_cast<T*>(a.v) + t * kv_width;
  for (int64_t i = 0; i < kv_width; i += dim) {
    const float* x = qkv + v_begin + i;
    if (a.bias != nullptr) {
      Add(x, a.bias + v_begin + i, scratch, dim);
      x = scratch;
    }
    Scale(x, 1.0f, v + i, dim);
  }
}

}  // namespace

absl::Status ValidateRotationTable(const RotationTableArgs& a) {
  RASQ_RETURN_IF_ERROR(ValidateBatch("RotationTable", a.batch));
  RASQ_RETURN_IF_ERROR(ValidateShape("RotationTable", a.shape));
  RASQ_RETURN_IF_ERROR(CheckRange("RotationTable", "head_dim", a.head_dim, 2));
  if (a.head_dim % 2 != 0) return BadArgument("RotationTable", "head_dim", a.head_dim);
  if (a.batch.num_chunks == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull("RotationTable", "inv_freq", a.inv_freq));
  RASQ_RETURN_IF_ERROR(CheckNotNull("RotationTable", "row", a.row));
  RASQ_RETURN_IF_ERROR(CheckNotNull("RotationTable", "memory", a.memory));
  if (a.shape.sink_rows > 0) RASQ_RETURN_IF_ERROR(CheckNotNull("RotationTable", "sink", a.sink));
  if (a.batch.num_staged == 0) return absl::OkStatus();
  return CheckNotNull("RotationTable", "staged", a.staged);
}

absl::Status RotationTableCpu(const RotationTableArgs& a, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidateRotationTable(a));
  RASQ_RETURN_IF_ERROR(CheckBatchContents("RotationTable", a.batch, a.shape));
  const int64_t dim = a.head_dim;
  thread_local std::vector<TableRow> rows;
  rows.clear();
  for (int32_t i = 0; i < a.batch.num_chunks; ++i) {
    const StreamChunk& c = a.batch.chunks[i];
    AppendRows(c.first_position, c.num_rows, a.row + c.first_row * dim, dim, rows);
    AppendRows(c.leave_begin, NumLeaving(c), a.staged + c.first_staged * dim, dim, rows);
  }
  for (int64_t i = 0; i < a.batch.num_segments; ++i) {
    const int64_t memory = a.batch.segments[i].start - a.shape.window_rows - 1;
    const int64_t first_sink = memory + 1 - a.shape.memory_span - a.shape.sink_rows;
    AppendRows(memory, 1, a.memory + i * dim, dim, rows);
    AppendRows(first_sink, a.shape.sink_rows, a.sink + i * a.shape.sink_rows * dim, dim, rows);
  }
  const int64_t half = dim / 2;
  const std::vector<TableRow>& table = rows;  // of this thread, also inside the tasks
  // A sine and cosine of a double are some 30 ns.
  ForRowRanges(pool, table.size(), half * 64, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t i = 0; i < half; ++i) {
        const double angle = static_cast<double>(table[r].position) * a.inv_freq[i];
        table[r].out[i] = static_cast<float>(std::cos(angle));
        table[r].out[half + i] = static_cast<float>(std::sin(angle));
      }
    }
  });
  return absl::OkStatus();
}

absl::Status ValidateRotary(const RotaryArgs& a) {
  RASQ_RETURN_IF_ERROR(CheckRange("Rotary", "rows", a.rows, 0));
  RASQ_RETURN_IF_ERROR(CheckRange("Rotary", "num_kv_heads", a.num_kv_heads, 1));
  RASQ_RETURN_IF_ERROR(CheckRange("Rotary", "num_heads", a.num_heads, 1));
  if (a.num_heads % a.num_kv_heads != 0) return BadArgument("Rotary", "num_heads", a.num_heads);
  RASQ_RETURN_IF_ERROR(CheckRange("Rotary", "head_dim", a.head_dim, 2));
  if (a.head_dim % 2 != 0) return BadArgument("Rotary", "head_dim", a.head_dim);
  if (!(a.epsilon > 0)) return BadArgument("Rotary", "epsilon", a.epsilon);
  if (a.rows == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull("Rotary", "qkv", a.qkv));
  RASQ_RETURN_IF_ERROR(CheckNotNull("Rotary", "rotation", a.rotation));
  RASQ_RETURN_IF_ERROR(CheckNotNull("Rotary", "q", a.q));
  RASQ_RETURN_IF_ERROR(CheckNotNull("Rotary", "k", a.k));
  return CheckNotNull("Rotary", "v", a.v);
}

absl::Status RotaryCpu(const RotaryArgs& a, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidateRotary(a));
  const int64_t width = (a.num_heads + 2 * a.num_kv_heads) * int64_t{a.head_dim};
  ForRowRanges(pool, a.rows, width * 4, [&](int64_t begin, int64_t end) {
    thread_local std::vector<float> scratch;
    scratch.resize(a.head_dim);
    for (int64_t t = begin; t < end; ++t) {
      if (a.element == DType::kBfloat16) {
        RotateRow<bfloat16>(a, t, scratch.data());
      } else {
        RotateRow<float>(a, t, scratch.data());
      }
    }
  });
  return absl::OkStatus();
}

}  // namespace rasq
