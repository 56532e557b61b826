#include "kernels/attend_cuda.h"
#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/row_loops_cuda.h"
#include "kernels/stream_attention.h"

namespace rasq {
namespace {

absl::Status CheckWidths(const StreamAttentionArgs& a) {
  constexpr char kOp[] = "StreamAttention";
  RASQ_RETURN_IF_ERROR(RequireBfloat16(kOp, a.element));
  // Rows, and the halves of a head that rotation pairs, are read in pieces of 16 bytes.
  if (a.head_dim % 16 != 0 || a.head_dim > 128) return BadArgument(kOp, "head_dim", a.head_dim);
  if (a.reads_memory && a.compressed_dim % 8 != 0) {
    return BadArgument(kOp, "compressed_dim", a.compressed_dim);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status StreamAttentionCuda(const StreamAttentionArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateStreamAttention(a));
  RASQ_RETURN_IF_ERROR(CheckWidths(a));
  if (a.batch.num_segments == 0) return absl::OkStatus();
  const int group = a.num_heads / a.num_kv_heads;
  if (group <= kFewQueries) {
    RASQ_RETURN_IF_ERROR(AttendFewCuda(a, stream));
    // With a row a segment there is no larger part.
    if (a.batch.num_rows == a.batch.num_segments) return absl::OkStatus();
  }
  return AttendTileCuda(a, stream);
}

}  // namespace rasq
