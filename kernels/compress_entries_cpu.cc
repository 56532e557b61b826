#include <cstring>
#include <vector>

#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/compress_entries.h"
#include "kernels/elements_cpu.h"
#include "kernels/int8_vectors_cpu.h"
#include "kernels/matrix_product_cpu.h"
#include "kernels/row_tasks_cpu.h"
#include "kernels/stream_batch_cpu.h"
#include "kernels/vector_loops_cpu.h"

namespace rasq {
namespace {

// Leaving tokens that one product takes; shorter runs are padded, so that a token's bits do not
// depend on how many leave.
constexpr int64_t kTileTokens = 64;

// Finds a leaving token's key or value: from the ring or the batch's own.
const std::byte* TokenRow(const StreamChunk& c, int64_t position, int64_t ring_rows,
                          int64_t ring_offset, const void* own, int64_t row_bytes) {
  if (position < c.first_position) {
    return c.state + ring_offset + position % ring_rows * row_bytes;
  }
  return static_cast<const std::byte*>(own) +
         (position - c.first_position + c.first_row) * row_bytes;
}

// Leaving tokens [first, first + num_tokens) of a chunk, one kv head, keys or values.
struct Tile {
  const StreamChunk* chunk;
  int64_t first;
  int64_t num_tokens;
  int64_t head;
  bool is_key;
};

struct Scratch {
  std::vector<float> head;
  std::vector<std::byte> x;
  std::vector<float> y;
};

void CompressTile(const CompressEntriesArgs& a, const Tile& tile, const std::byte* down,
                  Scratch& scratch) {
  const int64_t dim = a.head_dim;
  const DType type = ProductType(a.element);
  const int64_t element_bytes = SizeOf(a.element);
  const int64_t row_bytes = a.num_kv_heads * dim * element_bytes;
  const StreamChunk& c = *tile.chunk;
  scratch.head.resize(dim);
  scratch.x.assign(kTileTokens * dim * SizeOf(type), std::byte{0});
  scratch.y.resize(kTileTokens * a.compressed_dim);
  for (int64_t i = 0; i < tile.num_tokens; ++i) {
    const std::byte* row = TokenRow(c, c.leave_begin + tile.first + i, a.shape.ring_rows,
                                    tile.is_key ? a.ring_k_offset : a.ring_v_offset,
                                    tile.is_key ? a.k : a.v, row_bytes) +
                           tile.head * dim * element_bytes;
    std::byte* x = scratch.x.data() + i * dim * SizeOf(type);
    if (tile.is_key) {
      LoadElements(a.element, row, scratch.head.data(), dim);
      const float* rotation = a.rotation + (c.first_staged + tile.first + i) * dim;
      RotateBack(scratch.head.data(), rotation, scratch.head.data(), dim);
      StoreElements(type, scratch.head.data(), x, dim);
    } else {
      ConvertElements(a.element, row, type, x, dim);
    }
  }
  const ProductShape shape{.type = type,
                           .rows = kTileTokens,
                           .columns = a.compressed_dim,
                           .inner = dim,
                           .layout = WeightLayout::kOuterInner};
  RunProduct(shape, scratch.x.data(), down + tile.head * a.compressed_dim * dim * SizeOf(type),
             scratch.y.data());
  auto* staged = static_cast<std::byte*>(tile.is_key ? a.staged_k : a.staged_v);
  const int64_t width = a.compressed_dim;
  const int64_t entry_bytes = EntryRowBytes(a.entry_type, a.element, a.num_kv_heads, width);
  for (int64_t i = 0; i < tile.num_tokens; ++i) {
    const float* y = scratch.y.data() + i * width;
    std::byte* row = staged + (c.first_staged + tile.first + i) * entry_bytes;
    if (a.entry_type == EntryType::kInt8) {
      StoreInt8(y, width, row + tile.head * width,
                row + EntryScaleOffset(a.num_kv_heads, width) +
                    tile.head * static_cast<int64_t>(sizeof(float)));
    } else {
      StoreElements(a.element, y, row + tile.head * width * element_bytes, width);
    }
  }
}

template <typename T>
void KeepSink(const KeepSinksArgs& a, const StreamChunk& c, int64_t position) {
  const int64_t row_bytes = int64_t{a.num_kv_heads} * a.head_dim * SizeOf(a.element);
  const auto* k = reinterpret_cast<const T*>(
      TokenRow(c, position, a.shape.ring_rows, a.ring_k_offset, a.k, row_bytes));
  const std::byte* v = TokenRow(c, position, a.shape.ring_rows, a.ring_v_offset, a.v, row_bytes);
  const float* rotation =
      a.rotation + (c.first_staged + position - c.leave_begin) * int64_t{a.head_dim};
  auto* sink_k = reinterpret_cast<T*>(c.state + a.sink_k_offset + position * row_bytes);
  std::vector<float> head(a.head_dim);
  for (int64_t h = 0; h < a.num_kv_heads; ++h) {
    LoadElements(a.element, k + h * a.head_dim, head.data(), a.head_dim);
    RotateBack(head.data(), rotation, sink_k + h * a.head_dim, a.head_dim);
  }
  std::memcpy(c.state + a.sink_v_offset + position * row_bytes, v, row_bytes);
}

}  // namespace

absl::Status ValidateKeepSinks(const KeepSinksArgs& a) {
  RASQ_RETURN_IF_ERROR(ValidateBatch("KeepSinks", a.batch));
  RASQ_RETURN_IF_ERROR(ValidateShape("KeepSinks", a.shape));
  RASQ_RETURN_IF_ERROR(CheckRange("KeepSinks", "num_kv_heads", a.num_kv_heads, 1));
  RASQ_RETURN_IF_ERROR(CheckRange("KeepSinks", "head_dim", a.head_dim, 2));
  if (a.head_dim % 2 != 0) return BadArgument("KeepSinks", "head_dim", a.head_dim);
  if (a.batch.num_staged == 0 || a.shape.sink_rows == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull("KeepSinks", "rotation", a.rotation));
  RASQ_RETURN_IF_ERROR(CheckNotNull("KeepSinks", "k", a.k));
  return CheckNotNull("KeepSinks", "v", a.v);
}

absl::Status KeepSinksCpu(const KeepSinksArgs& a, ThreadPool& /*pool*/) {
  RASQ_RETURN_IF_ERROR(ValidateKeepSinks(a));
  if (a.batch.num_staged == 0 || a.shape.sink_rows == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckBatchContents("KeepSinks", a.batch, a.shape));
  // A few tokens once in a stream's life: not worth the pool.
  for (int32_t i = 0; i < a.batch.num_chunks; ++i) {
    const StreamChunk& c = a.batch.chunks[i];
    const int64_t end = std::min<int64_t>(c.leave_end, a.shape.sink_rows);
    for (int64_t position = c.leave_begin; position < end; ++position) {
      if (a.element == DType::kBfloat16) {
        KeepSink<bfloat16>(a, c, position);
      } else {
        KeepSink<float>(a, c, position);
      }
    }
  }
  return absl::OkStatus();
}

absl::Status ValidateCompressEntries(const CompressEntriesArgs& a) {
  RASQ_RETURN_IF_ERROR(ValidateBatch("CompressEntries", a.batch));
  RASQ_RETURN_IF_ERROR(ValidateShape("CompressEntries", a.shape));
  RASQ_RETURN_IF_ERROR(CheckRange("CompressEntries", "num_kv_heads", a.num_kv_heads, 1));
  RASQ_RETURN_IF_ERROR(CheckRange("CompressEntries", "head_dim", a.head_dim, 2));
  if (a.head_dim % 2 != 0) return BadArgument("CompressEntries", "head_dim", a.head_dim);
  RASQ_RETURN_IF_ERROR(
      CheckRange("CompressEntries", "compressed_dim", a.compressed_dim, 1, a.head_dim));
  if (a.batch.num_staged == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull("CompressEntries", "rotation", a.rotation));
  RASQ_RETURN_IF_ERROR(CheckNotNull("CompressEntries", "k", a.k));
  RASQ_RETURN_IF_ERROR(CheckNotNull("CompressEntries", "v", a.v));
  RASQ_RETURN_IF_ERROR(CheckNotNull("CompressEntries", "key_down", a.key_down));
  RASQ_RETURN_IF_ERROR(CheckNotNull("CompressEntries", "value_down", a.value_down));
  RASQ_RETURN_IF_ERROR(CheckNotNull("CompressEntries", "staged_k", a.staged_k));
  return CheckNotNull("CompressEntries", "staged_v", a.staged_v);
}

absl::Status CompressEntriesCpu(const CompressEntriesArgs& a, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidateCompressEntries(a));
  if (a.batch.num_staged == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckBatchContents("CompressEntries", a.batch, a.shape));
  thread_local std::vector<Tile> tiles;
  thread_local std::vector<std::byte> weights;
  tiles.clear();
  for (int32_t i = 0; i < a.batch.num_chunks; ++i) {
    const StreamChunk& c = a.batch.chunks[i];
    for (int64_t first = 0; first < NumLeaving(c); first += kTileTokens) {
      const int64_t num_tokens = std::min(kTileTokens, NumLeaving(c) - first);
      for (int64_t head = 0; head < a.num_kv_heads; ++head) {
        tiles.push_back({&c, first, num_tokens, head, /*is_key=*/true});
        tiles.push_back({&c, first, num_tokens, head, /*is_key=*/false});
      }
    }
  }
  const DType type = ProductType(a.element);
  const int64_t size = int64_t{a.num_kv_heads} * a.compressed_dim * a.head_dim;
  weights.resize(2 * size * SizeOf(type));
  std::byte* key_down = weights.data();
  std::byte* value_down = key_down + size * SizeOf(type);
  ConvertElements(a.element, a.key_down, type, key_down, size);
  ConvertElements(a.element, a.value_down, type, value_down, size);
  const std::vector<Tile>& work = tiles;  // of this thread, also inside the tasks
  ForRowRanges(pool, work.size(), kTileTokens * a.head_dim * 4, [&](int64_t begin, int64_t end) {
    thread_local Scratch scratch;
    for (int64_t i = begin; i < end; ++i) {
      CompressTile(a, work[i], work[i].is_key ? key_down : value_down, scratch);
    }
  });
  return absl::OkStatus();
}

}  // namespace rasq
