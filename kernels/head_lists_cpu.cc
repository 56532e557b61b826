#include "absl/strings/str_cat.h"
#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/head_lists.h"
#include "kernels/stream_batch_cpu.h"

namespace rasq {

absl::Status ValidateHeadStore(absl::string_view op, const HeadStore& s, const HeadLists& lists) {
  RASQ_RETURN_IF_ERROR(ValidateBatch(op, s.batch));
  RASQ_RETURN_IF_ERROR(ValidateShape(op, s.shape));
  RASQ_RETURN_IF_ERROR(CheckRange(op, "capacity", s.shape.capacity, 1));
  RASQ_RETURN_IF_ERROR(CheckRange(op, "num_kv_heads", s.num_kv_heads, 1, 65535));
  RASQ_RETURN_IF_ERROR(CheckRange(op, "head_dim", s.head_dim, 1, 65536));
  RASQ_RETURN_IF_ERROR(CheckRange(op, "ring_k_offset", s.ring_k_offset, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(op, "ring_v_offset", s.ring_v_offset, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(op, "store_k_offset", s.store_k_offset, 0));
  RASQ_RETURN_IF_ERROR(CheckRange(op, "store_v_offset", s.store_v_offset, 0));
  if (s.batch.num_chunks == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull(op, "count", lists.count));
  RASQ_RETURN_IF_ERROR(CheckNotNull(op, "row", lists.row));
  return CheckNotNull(op, "bias", lists.bias);
}

absl::Status CheckHeadStore(absl::string_view op, const HeadStore& s) {
  RASQ_RETURN_IF_ERROR(CheckBatchContents(op, s.batch, s.shape));
  for (int32_t i = 0; i < s.batch.num_chunks; ++i) {
    const StreamChunk& c = s.batch.chunks[i];
    const auto bad = [&](absl::string_view field, int64_t value) {
      return absl::InvalidArgumentError(absl::StrCat(op, ": chunk ", i, ": ", field, "=", value));
    };
    if (c.num_segments != 1) return bad("num_segments", c.num_segments);
    if (c.leave_end > c.first_position) return bad("leave_end", c.leave_end);
  }
  return absl::OkStatus();
}

}  // namespace rasq
