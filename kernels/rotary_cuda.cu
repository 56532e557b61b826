#include "kernels/base/check_args.h"
#include "kernels/base/cuda_status.h"
#include "kernels/base/status.h"
#include "kernels/rotary.h"
#include "kernels/row_loops_cuda.h"
#include "kernels/stream_batch_cuda.h"

namespace rasq {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

// A row of a rotation table and the position it stands for; out is null where there is no row to
// fill.
struct TableRow {
  int64_t position;
  float* out;
};

__device__ TableRow RowOfToken(const RotationTableArgs& a, int64_t row) {
  const StreamChunk& c = a.batch.chunks[ChunkOfRow(a.batch, row)];
  const int64_t i = row - c.first_row;
  if (IsPadding(c) || i < 0 || i >= c.num_rows) return {0, nullptr};
  return {c.first_position + i, a.row + row * a.head_dim};
}

__device__ TableRow RowOfStaged(const RotationTableArgs& a, int64_t staged) {
  const StreamChunk& c = a.batch.chunks[ChunkOfStaged(a.batch, staged)];
  const int64_t i = staged - c.first_staged;
  if (IsPadding(c) || i < 0 || i >= NumLeaving(c)) return {0, nullptr};
  return {c.leave_begin + i, a.staged + staged * a.head_dim};
}

// The segments' rows, for each its memory's and then its sinks'.
__device__ TableRow RowOfSegment(const RotationTableArgs& a, int64_t index) {
  const int64_t rows = int64_t{a.shape.sink_rows} + 1;
  const int64_t s = index / rows, i = index % rows;
  const StreamSegment& segment = a.batch.segments[s];
  if (IsPadding(a.batch.chunks[segment.chunk])) return {0, nullptr};
  const int64_t window_begin = segment.start - a.shape.window_rows;
  if (i == 0) return {window_begin - 1, a.memory + s * a.head_dim};
  const int64_t sink = i - 1;
  return {window_begin - a.shape.memory_span - a.shape.sink_rows + sink,
          a.sink + (s * a.shape.sink_rows + sink) * a.head_dim};
}

// Grid: table rows / kWarps. Block: a warp a row, a lane a frequency. Bound by the sines: some
// hundred instructions in double for each; the traffic is the table, written once.
__global__ void __launch_bounds__(kThreads)
    RotationTableKernel(RotationTableArgs a, int64_t num_rows) {
  const int64_t half = a.head_dim / 2;
  for (int64_t r = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32; r < num_rows;
       r += int64_t{gridDim.x} * kWarps) {
    const int64_t staged = r - a.batch.num_rows;
    const TableRow row = staged < 0 ? RowOfToken(a, r)
                         : staged < a.batch.num_staged
                             ? RowOfStaged(a, staged)
                             : RowOfSegment(a, staged - a.batch.num_staged);
    if (row.out == nullptr) continue;
    for (int64_t i = threadIdx.x % 32; i < half; i += 32) {
      double sine, cosine;
      sincos(static_cast<double>(row.position) * a.inv_freq[i], &sine, &cosine);
      row.out[i] = static_cast<float>(cosine);
      row.out[half + i] = static_cast<float>(sine);
    }
  }
}

// Where a head comes from and goes to. Values have no rotation; queries and keys may have a norm.
struct Head {
  const float* x;
  const float* bias;
  const float* norm;
  const float* rotation;
  __nv_bfloat16* y;
};

__device__ Head HeadOf(const RotaryArgs& a, int64_t t, int64_t head) {
  const int64_t dim = a.head_dim;
  const int64_t num_heads = a.num_heads, num_kv_heads = a.num_kv_heads;
  Head h{.x = a.qkv + (t * (num_heads + 2 * num_kv_heads) + head) * dim,
         .bias = a.bias == nullptr ? nullptr : a.bias + head * dim,
         .norm = nullptr,
         .rotation = a.rotation + t * dim,
         .y = nullptr};
  if (head < num_heads) {
    h.norm = a.q_norm;
    h.y = static_cast<__nv_bfloat16*>(a.q) + (t * num_heads + head) * dim;
  } else if (head < num_heads + num_kv_heads) {
    h.norm = a.k_norm;
    h.y = static_cast<__nv_bfloat16*>(a.k) + (t * num_kv_heads + head - num_heads) * dim;
  } else {
    h.rotation = nullptr;
    h.y = static_cast<__nv_bfloat16*>(a.v) +
          (t * num_kv_heads + head - num_heads - num_kv_heads) * dim;
  }
  return h;
}

__device__ float4 operator+(float4 x, float4 y) {
  return {x.x + y.x, x.y + y.y, x.z + y.z, x.w + y.w};
}
__device__ float4 Weigh(float4 x, float scale, float4 weight) {
  return {x.x * scale * weight.x, x.y * scale * weight.y, x.z * scale * weight.z,
          x.w * scale * weight.w};
}
__device__ float Dot(float4 x) { return fmaf(x.w, x.w, fmaf(x.z, x.z, fmaf(x.y, x.y, x.x * x.x))); }
// a c - b s, and a s + b c.
__device__ float TurnFirst(float a, float b, float c, float s) { return fmaf(-b, s, a * c); }
__device__ float TurnSecond(float a, float b, float c, float s) { return fmaf(a, s, b * c); }

// Head sizes that are multiples of 8, to 256. A group of `lanes` a head: a lane holds four elements
// of the first half and their mates in the second.
// Grid: (rows, heads * lanes / kThreads). Block: kThreads. Traffic: qkv, q, k and v once, the
// rotation once for each block of a row, mostly from L2.
__global__ void __launch_bounds__(kThreads) RotaryKernel(RotaryArgs a, int lanes) {
  const int64_t num_all = int64_t{a.num_heads} + 2 * int64_t{a.num_kv_heads};
  const int half = a.head_dim / 2;
  const int i = threadIdx.x % lanes * 4;
  const int64_t head = (int64_t{blockIdx.y} * kThreads + threadIdx.x) / lanes;
  const bool present = head < num_all && i < half;  // whole warps take part in the sum
  const bool normed = a.q_norm != nullptr || a.k_norm != nullptr;
  for (int64_t t = blockIdx.x; t < a.rows; t += gridDim.x) {
    Head h{};
    float4 x{}, y{};
    if (present) {
      h = HeadOf(a, t, head);
      x = LoadFour<true>(h.x, i, half);
      y = LoadFour<true>(h.x + half, i, half);
      if (h.bias != nullptr) {
        x = x + LoadFour<true>(h.bias, i, half);
        y = y + LoadFour<true>(h.bias + half, i, half);
      }
    }
    if (normed) {
      const float mean = SumLanes(Dot(x) + Dot(y), lanes) / static_cast<float>(a.head_dim);
      if (h.norm != nullptr) {
        const float scale = 1.0f / sqrtf(mean + a.epsilon);
        x = Weigh(x, scale, LoadFour<true>(h.norm, i, half));
        y = Weigh(y, scale, LoadFour<true>(h.norm + half, i, half));
      }
    }
    if (!present) continue;
    if (h.rotation != nullptr) {
      const float4 c = LoadFour<true>(h.rotation, i, half);
      const float4 s = LoadFour<true>(h.rotation + half, i, half);
      const float4 turned{TurnFirst(x.x, y.x, c.x, s.x), TurnFirst(x.y, y.y, c.y, s.y),
                          TurnFirst(x.z, y.z, c.z, s.z), TurnFirst(x.w, y.w, c.w, s.w)};
      y = {TurnSecond(x.x, y.x, c.x, s.x), TurnSecond(x.y, y.y, c.y, s.y),
           TurnSecond(x.z, y.z, c.z, s.z), TurnSecond(x.w, y.w, c.w, s.w)};
      x = turned;
    }
    StoreFour<true>(x, h.y, i, half);
    StoreFour<true>(y, h.y + half, i, half);
  }
}

// Any head size and alignment: a warp a head, one element and its mate at a time.
// Grid: (rows, heads / kWarps). Block: kThreads. Traffic: as above, qkv a second time from L1 if
// there are norms.
__global__ void __launch_bounds__(kThreads) RotaryAnyKernel(RotaryArgs a) {
  const int64_t num_all = int64_t{a.num_heads} + 2 * int64_t{a.num_kv_heads};
  const int64_t half = a.head_dim / 2;
  const int lane = threadIdx.x % 32;
  const int64_t head = int64_t{blockIdx.y} * kWarps + threadIdx.x / 32;
  if (head >= num_all) return;  // a whole warp
  for (int64_t t = blockIdx.x; t < a.rows; t += gridDim.x) {
    const Head h = HeadOf(a, t, head);
    const auto load = [&h](int64_t i) { return h.bias == nullptr ? h.x[i] : h.x[i] + h.bias[i]; };
    float scale = 1;
    if (h.norm != nullptr) {
      float sum = 0;
      for (int64_t i = lane; i < a.head_dim; i += 32) sum = fmaf(load(i), load(i), sum);
      scale = 1.0f / sqrtf(SumLanes(sum) / static_cast<float>(a.head_dim) + a.epsilon);
    }
    for (int64_t i = lane; i < half; i += 32) {
      float x = load(i), y = load(half + i);
      if (h.norm != nullptr) {
        x = x * scale * h.norm[i];
        y = y * scale * h.norm[half + i];
      }
      if (h.rotation != nullptr) {
        const float c = h.rotation[i], s = h.rotation[half + i];
        const float turned = TurnFirst(x, y, c, s);
        y = TurnSecond(x, y, c, s);
        x = turned;
      }
      h.y[i] = __float2bfloat16_rn(x);
      h.y[half + i] = __float2bfloat16_rn(y);
    }
  }
}

bool Vectors(const RotaryArgs& a) {
  return a.head_dim % 8 == 0 && a.head_dim <= 256 && IsAligned(a.qkv, 16) &&
         IsAligned(a.bias, 16) && IsAligned(a.q_norm, 16) && IsAligned(a.k_norm, 16) &&
         IsAligned(a.rotation, 16) && IsAligned(a.q, 8) && IsAligned(a.k, 8) && IsAligned(a.v, 8);
}

}  // namespace

absl::Status RotationTableCuda(const RotationTableArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateRotationTable(a));
  if (a.batch.num_chunks == 0) return absl::OkStatus();
  const int64_t num_rows = int64_t{a.batch.num_rows} + a.batch.num_staged +
                           a.batch.num_segments * (int64_t{a.shape.sink_rows} + 1);
  RotationTableKernel<<<GridX((num_rows - 1) / kWarps + 1), kThreads, 0, stream>>>(a, num_rows);
  return LaunchStatus("RotationTable");
}

absl::Status RotaryCuda(const RotaryArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateRotary(a));
  RASQ_RETURN_IF_ERROR(RequireBfloat16("Rotary", a.element));
  if (a.rows == 0) return absl::OkStatus();
  // With as many key and value heads, grids of kWarps heads a block stay below their limit.
  RASQ_RETURN_IF_ERROR(CheckRange("Rotary", "num_heads", a.num_heads, 1, 65535));
  const int64_t num_all = int64_t{a.num_heads} + 2 * int64_t{a.num_kv_heads};
  if (Vectors(a)) {
    int lanes = 1;
    while (lanes * 8 < a.head_dim) lanes *= 2;
    const dim3 grid(GridX(a.rows), static_cast<unsigned>((num_all * lanes - 1) / kThreads + 1));
    RotaryKernel<<<grid, kThreads, 0, stream>>>(a, lanes);
  } else {
    const dim3 grid(GridX(a.rows), static_cast<unsigned>((num_all - 1) / kWarps + 1));
    RotaryAnyKernel<<<grid, kThreads, 0, stream>>>(a);
  }
  return LaunchStatus("Rotary");
}

}  // namespace rasq
