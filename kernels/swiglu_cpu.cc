#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/row_tasks_cpu.h"
#include "kernels/swiglu.h"
#include "kernels/vector_loops_cpu.h"

namespace rasq {

absl::Status ValidateSwiglu(const SwigluArgs& a) {
  RASQ_RETURN_IF_ERROR(CheckRange("Swiglu", "rows", a.rows, 0));
  RASQ_RETURN_IF_ERROR(CheckRange("Swiglu", "width", a.width, 1));
  if (a.rows == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull("Swiglu", "gate_up", a.gate_up));
  return CheckNotNull("Swiglu", "y", a.y);
}

absl::Status SwigluCpu(const SwigluArgs& a, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidateSwiglu(a));
  ForRowRanges(pool, a.rows, a.width * 8, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const float* gate = a.gate_up + t * 2 * a.width;
      const float* up = gate + a.width;
      if (a.element == DType::kBfloat16) {
        SiluTimes(gate, up, static_cast<bfloat16*>(a.y) + t * a.width, a.width);
      } else {
        SiluTimes(gate, up, static_cast<float*>(a.y) + t * a.width, a.width);
      }
    }
  });
  return absl::OkStatus();
}

}  // namespace rasq
