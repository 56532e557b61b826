#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/embed.h"
#include "kernels/row_tasks_cpu.h"
#include "kernels/vector_loops_cpu.h"

namespace rasq {

absl::Status ValidateEmbed(const EmbedArgs& a) {
  RASQ_RETURN_IF_ERROR(CheckRange("Embed", "rows", a.rows, 0));
  RASQ_RETURN_IF_ERROR(CheckRange("Embed", "hidden", a.hidden, 1));
  RASQ_RETURN_IF_ERROR(CheckRange("Embed", "vocab", a.vocab, 1, INT32_MAX));
  if (a.rows == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull("Embed", "table", a.table));
  RASQ_RETURN_IF_ERROR(CheckNotNull("Embed", "token_id", a.token_id));
  return CheckNotNull("Embed", "y", a.y);
}

absl::Status EmbedCpu(const EmbedArgs& a, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidateEmbed(a));
  for (int64_t t = 0; t < a.rows; ++t) {
    if (a.token_id[t] < -1 || a.token_id[t] >= a.vocab) {
      return absl::InvalidArgumentError(
          absl::StrCat("Embed: token_id[", t, "]=", a.token_id[t], " with vocab=", a.vocab));
    }
  }
  ForRowRanges(pool, a.rows, a.hidden * 4, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      if (a.token_id[t] < 0) continue;
      const int64_t from = a.token_id[t] * a.hidden;
      if (a.element == DType::kBfloat16) {
        Convert(static_cast<const bfloat16*>(a.table) + from, a.y + t * a.hidden, a.hidden);
      } else {
        std::copy_n(static_cast<const float*>(a.table) + from, a.hidden, a.y + t * a.hidden);
      }
    }
  });
  return absl::OkStatus();
}

}  // namespace rasq
