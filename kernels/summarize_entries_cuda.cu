#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/base/check_args.h"
#include "kernels/base/cuda_status.h"
#include "kernels/base/status.h"
#include "kernels/entry_rows_cuda.h"
#include "kernels/lost_entries.h"
#include "kernels/row_loops_cuda.h"
#include "kernels/stream_batch_cuda.h"
#include "kernels/summarize_entries.h"

namespace rasq {
namespace {

constexpr int kThreads = 256;
constexpr int kListThreads = 128;
constexpr int kMostWidth = kThreads;  // a thread has one number of a slot's key and value
constexpr int kTileRows = 128;        // lost rows whose weights are held at a time

__device__ bool HasSlots(const StreamBatch& batch, const StreamChunk& c) {
  return !IsPadding(c) && HasBeginning(batch, c);
}

// Counts what each segment of a chunk loses, puts the rows into the segments' places, orders those
// of each by position, sums their gates, and takes the mass through the segments.
// Grid: num_chunks. Block: kThreads. Traffic: the chunk's entry rows twice, and the positions of a
// segment's lost rows as often as there are lost rows in it.
__global__ void __launch_bounds__(kThreads) LoseKernel(LoseEntriesArgs a) {
  const StreamChunk c = a.batch.chunks[blockIdx.x];
  if (!HasSlots(a.batch, c)) return;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const auto num_rows = static_cast<int32_t>(a.shape.capacity + NumLeaving(c));
  int32_t* end = a.lost.end + c.first_segment;
  int32_t* found = a.found + c.first_staged;
  int32_t* lost = a.lost.row + c.first_staged;
  for (int32_t j = thread; j < c.num_segments; j += kThreads) end[j] = 0;
  __syncthreads();
  for (int32_t row = thread; row < num_rows; row += kThreads) {
    const int32_t segment = LosingSegment(a, c, row);
    if (segment >= 0) atomicAdd(&end[segment], 1);
  }
  __syncthreads();
  if (thread == 0) {
    int32_t begin = 0;  // of each segment's places, from where they are taken
    for (int32_t j = 0; j < c.num_segments; ++j) {
      const int32_t count = end[j];
      end[j] = begin;
      begin += count;
    }
  }
  __syncthreads();
  for (int32_t row = thread; row < num_rows; row += kThreads) {
    const int32_t segment = LosingSegment(a, c, row);
    if (segment >= 0) found[atomicAdd(&end[segment], 1)] = row;
  }
  __syncthreads();
  const int64_t* position = a.row_position + c.first_entry;
  const int32_t num_lost = end[c.num_segments - 1];
  for (int32_t i = thread; i < num_lost; i += kThreads) {
    const int32_t row = found[i], segment = LosingSegment(a, c, row);
    const int32_t begin = segment > 0 ? end[segment - 1] : 0;
    int32_t place = begin;
    for (int32_t k = begin; k < end[segment]; ++k) place += position[found[k]] < position[row];
    lost[place] = row;
  }
  __syncthreads();
  for (int32_t j = thread; j < c.num_segments; j += kThreads) {
    float sum = 0;
    for (int32_t i = j > 0 ? end[j - 1] : 0; i < end[j]; ++i) {
      sum += expf(a.row_log_gate[c.first_entry + lost[i]]);
    }
    a.lost.mass[c.first_segment + j] = sum;
  }
  __syncthreads();
  if (thread != 0) return;
  auto& state_mass = *reinterpret_cast<float*>(c.state + a.mass_offset);
  float mass = state_mass;
  for (int32_t segment = c.first_segment; segment < c.first_segment + c.num_segments; ++segment) {
    const float sum = a.lost.mass[segment];
    float keep = 1;
    if (sum > 0) {
      keep = mass > 0 ? a.decay : 0;
      mass = a.decay * mass + sum;
    }
    a.lost.keep[segment] = keep;
    a.lost.mass[segment] = mass;
  }
  state_mass = mass;
}

// The largest over the block, for all of its threads.
__device__ float BlockMost(float value) {
  __shared__ float warp_most[kThreads / 32];
  value = MaxLanes(value);
  __syncthreads();  // an earlier call's readers are done
  if (threadIdx.x % 32 == 0) warp_most[threadIdx.x / 32] = value;
  __syncthreads();
  float most = warp_most[0];
  for (int warp = 1; warp < kThreads / 32; ++warp) most = fmaxf(most, warp_most[warp]);
  return most;
}

// One slot of one chunk and kv head. All threads of the block call all of it.
struct Slot {
  const SummarizeEntriesArgs& a;
  const StreamChunk& c;
  const int kv_head;
  const int t;
  const int d;        // of this thread's numbers
  const bool inside;  // it has some

  __device__ float* Master(int64_t offset) const {
    return reinterpret_cast<float*>(c.state + offset) +
           (int64_t{kv_head} * a.num_summaries + t) * a.compressed_dim + d;
  }

  // Number `i` of the head's vector of a lost row.
  __device__ float Load(int32_t row, int64_t entries_offset, const void* staged, int i) const {
    const bool in_state = row < a.shape.capacity;
    const std::byte* rows =
        in_state ? c.state + entries_offset : static_cast<const std::byte*>(staged);
    const int64_t at = in_state ? row : int64_t{c.first_staged} + row - a.shape.capacity;
    const int64_t width = a.compressed_dim;
    if (a.entry_type == EntryType::kElement) {
      return __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(
          rows)[(at * a.num_kv_heads + kv_head) * width + i]);
    }
    rows += at * Int8RowBytes(a.num_kv_heads, width);
    const float scale =
        reinterpret_cast<const float*>(rows + EntryScaleOffset(a.num_kv_heads, width))[kv_head];
    const auto q = static_cast<float>(reinterpret_cast<const int8_t*>(rows)[kv_head * width + i]);
    return __bfloat162float(__float2bfloat16_rn(q * scale));
  }
  __device__ float Key(int32_t row, int i) const {
    return Load(row, a.entry_k_offset, a.staged_k, i);
  }
  __device__ float Value(int32_t row, int i) const {
    return Load(row, a.entry_v_offset, a.staged_v, i);
  }

  // The numbers of the block as the head's vector of a row.
  __device__ void Store(float x, void* rows, int64_t row) const {
    const int64_t width = a.compressed_dim;
    if (a.entry_type == EntryType::kElement) {
      auto* to = static_cast<__nv_bfloat16*>(rows) + (row * a.num_kv_heads + kv_head) * width;
      if (inside) to[d] = __float2bfloat16_rn(x);
      return;
    }
    std::byte* to = static_cast<std::byte*>(rows) + row * Int8RowBytes(a.num_kv_heads, width);
    const Int8Scale scale = Int8Scale::Of(BlockMost(inside ? fabsf(x) : 0.0f));
    if (inside) reinterpret_cast<int8_t*>(to)[kv_head * width + d] = scale.Round(x);
    if (threadIdx.x == 0) {
      reinterpret_cast<float*>(to + EntryScaleOffset(a.num_kv_heads, width))[kv_head] = scale.scale;
    }
  }
};

// This thread's numbers of the means of `count` lost rows, by a running softmax over tiles of them.
// `logit`: [kTileRows] in shared memory.
__device__ float2 MeansOf(const Slot& slot, const int32_t* lost, int32_t count, const float* query,
                          float* logit) {
  const SummarizeEntriesArgs& a = slot.a;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const float scale = 1.0f / sqrtf(static_cast<float>(a.compressed_dim));
  float most = -INFINITY, sum = 0;
  float2 means = {0, 0};
  for (int32_t first = 0; first < count; first += kTileRows) {
    const int32_t num_rows = min(kTileRows, count - first);
    __syncthreads();  // the tile before has been read, and the query is there
    for (int32_t i = warp; i < num_rows; i += kThreads / 32) {
      const int32_t row = lost[first + i];
      float dot = 0;
      for (int at = lane; at < a.compressed_dim; at += 32) dot += query[at] * slot.Key(row, at);
      dot = SumLanes(dot);
      if (lane == 0) logit[i] = dot * scale + a.row_log_gate[slot.c.first_entry + row];
    }
    __syncthreads();
    const float before = most;
    for (int32_t i = 0; i < num_rows; ++i) most = fmaxf(most, logit[i]);
    if (most == -INFINITY) continue;  // no gate so far that is not closed
    const float shrink = expf(before - most);
    sum *= shrink;
    means.x *= shrink;
    means.y *= shrink;
    for (int32_t i = 0; i < num_rows; ++i) {
      const float weight = expf(logit[i] - most);
      sum += weight;
      if (!slot.inside) continue;
      means.x += weight * slot.Key(lost[first + i], slot.d);
      means.y += weight * slot.Value(lost[first + i], slot.d);
    }
  }
  return {means.x / sum, means.y / sum};
}

// Takes a slot through its chunk's segments.
// Grid: num_kv_heads * num_summaries, num_chunks. Block: kThreads, a number of the vectors each.
// Traffic: the head's part of the lost rows twice, and the slot's rows.
__global__ void __launch_bounds__(kThreads) SummarizeKernel(SummarizeEntriesArgs a) {
  __shared__ float query[kMostWidth];
  __shared__ float logit[kTileRows];
  const StreamChunk c = a.batch.chunks[blockIdx.y];
  if (!HasSlots(a.batch, c)) return;
  const int t = static_cast<int>(blockIdx.x) % a.num_summaries;
  const int kv_head = static_cast<int>(blockIdx.x) / a.num_summaries;
  const auto d = static_cast<int>(threadIdx.x);
  const Slot slot{a, c, kv_head, t, d, /*inside=*/d < a.compressed_dim};
  float key = 0, value = 0;
  if (slot.inside) {
    query[d] = a.query[static_cast<int64_t>(blockIdx.x) * a.compressed_dim + d];
    key = *slot.Master(a.summary_k_offset);
    value = *slot.Master(a.summary_v_offset);
  }
  int32_t begin = 0;
  for (int32_t segment = c.first_segment; segment < c.first_segment + c.num_segments; ++segment) {
    const int32_t end = a.lost.end[segment];
    const float keep = a.lost.keep[segment];
    if (keep < 1) {
      const float2 means =
          MeansOf(slot, a.lost.row + c.first_staged + begin, end - begin, query, logit);
      key = keep * key + (1 - keep) * means.x;
      value = keep * value + (1 - keep) * means.y;
    }
    begin = end;
    const int64_t row = FirstSummaryRow(a.batch, a.num_summaries, segment) + t;
    slot.Store(key, a.staged_k, row);
    slot.Store(value, a.staged_v, row);
  }
  slot.Store(key, c.state + a.entry_k_offset, a.shape.capacity + t);
  slot.Store(value, c.state + a.entry_v_offset, a.shape.capacity + t);
  if (!slot.inside) return;
  *slot.Master(a.summary_k_offset) = key;
  *slot.Master(a.summary_v_offset) = value;
}

// Grid: num_segments. Block: kListThreads. Traffic: one selection a segment, in and out.
__global__ void __launch_bounds__(kListThreads) ListKernel(ListSummariesArgs a) {
  const int64_t index = blockIdx.x;
  const StreamChunk c = a.batch.chunks[a.batch.segments[index].chunk];
  if (IsPadding(c)) return;
  const int32_t capacity = a.shape.capacity, r = a.num_summaries;
  const int64_t from = index * a.shape.max_selected, to = index * (a.shape.max_selected + r);
  const int32_t count = min(max(a.selected.count[index], 0), a.shape.max_selected);
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < count; i += kListThreads) {
    const int32_t row = a.selected.row[from + i];
    a.read.row[to + i] = row < capacity ? row : row + r;
    a.read.score[to + i] = a.selected.score[from + i];
    a.read.log_gate[to + i] = a.selected.log_gate[from + i];
  }
  const bool staged = HasBeginning(a.batch, c);
  const float mass =
      staged ? a.mass[index] : *reinterpret_cast<const float*>(c.state + a.mass_offset);
  for (int32_t t = static_cast<int32_t>(threadIdx.x); t < r; t += kListThreads) {
    const int64_t row = staged
                            ? capacity + r - c.first_staged + t + FirstSummaryRow(a.batch, r, index)
                            : int64_t{capacity} + t;
    a.read.row[to + count + t] = static_cast<int32_t>(row);
    a.read.score[to + count + t] = 0;
    a.read.log_gate[to + count + t] = mass > 0 ? logf(mass) : -INFINITY;
  }
  if (threadIdx.x == 0) a.read.count[index] = count + r;
}

}  // namespace

absl::Status LoseEntriesCuda(const LoseEntriesArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateLoseEntries(a));
  if (a.batch.num_chunks == 0) return absl::OkStatus();
  LoseKernel<<<GridX(a.batch.num_chunks), kThreads, 0, stream>>>(a);
  return LaunchStatus("LoseEntries");
}

absl::Status SummarizeEntriesCuda(const SummarizeEntriesArgs& a, Stream stream) {
  constexpr char kOp[] = "SummarizeEntries";
  RASQ_RETURN_IF_ERROR(ValidateSummarizeEntries(a));
  RASQ_RETURN_IF_ERROR(RequireBfloat16(kOp, a.element));
  RASQ_RETURN_IF_ERROR(CheckRange(kOp, "compressed_dim", a.compressed_dim, 1, kMostWidth));
  if (a.batch.num_chunks == 0) return absl::OkStatus();
  const dim3 grid(a.num_kv_heads * a.num_summaries, a.batch.num_chunks);
  SummarizeKernel<<<grid, kThreads, 0, stream>>>(a);
  return LaunchStatus(kOp);
}

absl::Status ListSummariesCuda(const ListSummariesArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateListSummaries(a));
  if (a.batch.num_segments == 0) return absl::OkStatus();
  ListKernel<<<GridX(a.batch.num_segments), kListThreads, 0, stream>>>(a);
  return LaunchStatus("ListSummaries");
}

}  // namespace rasq
