#include <cmath>

#include "absl/strings/str_cat.h"
#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/rms_norm.h"
#include "kernels/row_tasks_cpu.h"
#include "kernels/vector_loops_cpu.h"

namespace rasq {

absl::Status ValidateRmsNorm(const RmsNormArgs& a) {
  RASQ_RETURN_IF_ERROR(CheckRange("RmsNorm", "rows", a.rows, 0));
  RASQ_RETURN_IF_ERROR(CheckRange("RmsNorm", "hidden", a.hidden, 1, 65536));
  RASQ_RETURN_IF_ERROR(CheckRange("RmsNorm", "x_stride", a.x_stride, a.hidden));
  if (!(a.epsilon > 0)) return BadArgument("RmsNorm", "epsilon", a.epsilon);
  if (a.rows == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull("RmsNorm", "x", a.x));
  RASQ_RETURN_IF_ERROR(CheckNotNull("RmsNorm", "weight", a.weight));
  return CheckNotNull("RmsNorm", "y", a.y);
}

absl::Status RmsNormCpu(const RmsNormArgs& a, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidateRmsNorm(a));
  for (int64_t t = 0; a.row != nullptr && t < a.rows; ++t) {
    if (a.row[t] < 0) {
      return absl::InvalidArgumentError(absl::StrCat("RmsNorm: row[", t, "]=", a.row[t]));
    }
  }
  ForRowRanges(pool, a.rows, a.hidden * 4, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const float* x = a.x + (a.row == nullptr ? t : a.row[t]) * a.x_stride;
      const float mean = Dot(x, x, a.hidden) / static_cast<float>(a.hidden);
      const float scale = 1.0f / std::sqrt(mean + a.epsilon);
      if (a.element == DType::kBfloat16) {
        ScaleByWeight(x, scale, a.weight, static_cast<bfloat16*>(a.y) + t * a.hidden, a.hidden);
      } else {
        ScaleByWeight(x, scale, a.weight, static_cast<float*>(a.y) + t * a.hidden, a.hidden);
      }
    }
  });
  return absl::OkStatus();
}

}  // namespace rasq
