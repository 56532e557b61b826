// Attention of a segment's part of many rows (append): the heads that share a kv head form one
// matrix of queries, and products go through oneDNN. Private to kernels/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/base/thread_pool.h"
#include "kernels/stream_attention.h"

namespace rasq {

// Keys and values that a batch's larger segments read from rings and from the batch, laid out by
// chunk and kv head as [positions, head_dim] in the type of products: rings unwound once for all
// segments of a chunk.
class ChunkKeys {
 public:
  // Rows behind the last position of each chunk that are zero, since products read whole blocks.
  static constexpr int64_t kPadRows = 64;

  void Gather(const StreamAttentionArgs& a, ThreadPool& pool);

  // Rows of the token at `position` and those after it.
  const std::byte* Keys(int64_t chunk, int64_t kv_head, int64_t position) const;
  const std::byte* Values(int64_t chunk, int64_t kv_head, int64_t position) const;

 private:
  struct Place {
    int64_t begin = 0;      // the first position
    int64_t num_rows = 0;   // positions; 0: not gathered
    int64_t first_row = 0;  // in the buffers, of the first kv head
  };
  int64_t RowOf(int64_t chunk, int64_t kv_head, int64_t position) const;

  int64_t row_bytes_ = 0;
  std::vector<Place> places_;  // by chunk
  std::vector<std::byte> keys_;
  std::vector<std::byte> values_;
};

// One segment and kv head of validated arguments.
void AttendTile(const StreamAttentionArgs& a, int64_t segment, int64_t kv_head,
                const ChunkKeys& keys);

}  // namespace rasq
