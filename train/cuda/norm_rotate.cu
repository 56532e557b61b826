#include "train/cuda/norm_rotate.h"

namespace rasq::train::cuda {
namespace {

constexpr int kWarps = 8;      // of a block
constexpr int kBlocks = 2048;  // at most: each keeps a sum of the norms' gradients

// Lane i of a warp holds the pairs (i, i + head_dim / 2), (i + 32, i + 32 + head_dim / 2), ...:
// those that are rotated together.
template <int kPairs>
struct Vector {
  float low[kPairs], high[kPairs];

  static __device__ Vector Load(const __nv_bfloat16* row, int lane) {
    Vector v;
    for (int p = 0; p < kPairs; ++p) {
      v.low[p] = __bfloat162float(row[lane + 32 * p]);
      v.high[p] = __bfloat162float(row[lane + 32 * p + 32 * kPairs]);
    }
    return v;
  }
  static __device__ Vector LoadFloats(const float* row, int lane) {
    Vector v;
    for (int p = 0; p < kPairs; ++p) {
      v.low[p] = row[lane + 32 * p];
      v.high[p] = row[lane + 32 * p + 32 * kPairs];
    }
    return v;
  }
  __device__ void Store(__nv_bfloat16* row, int lane) const {
    for (int p = 0; p < kPairs; ++p) {
      row[lane + 32 * p] = __float2bfloat16(low[p]);
      row[lane + 32 * p + 32 * kPairs] = __float2bfloat16(high[p]);
    }
  }
};

__device__ float WarpSum(float value) {
  for (int lane = 16; lane > 0; lane /= 2) value += __shfl_xor_sync(~0u, value, lane);
  return value;
}

template <int kPairs>
__device__ float Dot(const Vector<kPairs>& a, const Vector<kPairs>& b) {
  float sum = 0;
  for (int p = 0; p < kPairs; ++p) sum += a.low[p] * b.low[p] + a.high[p] * b.high[p];
  return WarpSum(sum);
}

// By the angle, or back by it.
template <int kPairs>
__device__ Vector<kPairs> Turn(const Vector<kPairs>& x, const float* cos, const float* sin,
                               int lane, float direction) {
  Vector<kPairs> y;
  for (int p = 0; p < kPairs; ++p) {
    const float c = cos[lane + 32 * p], s = direction * sin[lane + 32 * p];
    y.low[p] = x.low[p] * c - x.high[p] * s;
    y.high[p] = x.high[p] * c + x.low[p] * s;
  }
  return y;
}

// A warp takes heads of rows in turn.
template <int kPairs>
__global__ void __launch_bounds__(32 * kWarps)
    ForwardKernel(NormRotateShape shape, NormRotateTensors in, NormRotateOutputs out) {
  const int lane = threadIdx.x % 32;
  const int all_heads = shape.heads + 2 * shape.kv_heads;
  const int64_t warps = int64_t{gridDim.x} * kWarps;
  for (int64_t i = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32; i < shape.rows * all_heads;
       i += warps) {
    const int64_t row = i / all_heads;
    const int head = static_cast<int>(i % all_heads);
    const Vector<kPairs> x = Vector<kPairs>::Load(in.qkv + i * shape.head_dim, lane);
    const bool is_query = head < shape.heads;
    const int64_t kv_row = row * shape.kv_heads + (head - shape.heads) % shape.kv_heads;
    if (head >= shape.heads + shape.kv_heads) {
      x.Store(out.value + kv_row * shape.head_dim, lane);
      continue;
    }
    const Vector<kPairs> w =
        Vector<kPairs>::LoadFloats(is_query ? in.query_norm : in.key_norm, lane);
    const float scale = rsqrtf(Dot(x, x) / shape.head_dim + shape.epsilon);
    Vector<kPairs> y;
    for (int p = 0; p < kPairs; ++p) {
      y.low[p] = x.low[p] * scale * w.low[p];
      y.high[p] = x.high[p] * scale * w.high[p];
    }
    const int64_t angle = row % shape.tokens * (shape.head_dim / 2);
    const Vector<kPairs> turned = Turn(y, in.cos + angle, in.sin + angle, lane, 1);
    if (is_query) {
      turned.Store(out.query + (row * shape.heads + head) * shape.query_width, lane);
    } else {
      turned.Store(out.key + kv_row * shape.head_dim, lane);
      y.Store(out.plain_key + kv_row * shape.head_dim, lane);
    }
  }
}

template <int kPairs>
__device__ void AddToNorms(const Vector<kPairs>& sum, float* shared, float* gradient, int lane) {
  for (int p = 0; p < kPairs; ++p) {
    atomicAdd(&shared[lane + 32 * p], sum.low[p]);
    atomicAdd(&shared[lane + 32 * p + 32 * kPairs], sum.high[p]);
  }
  __syncthreads();
  for (int j = threadIdx.x; j < 64 * kPairs; j += blockDim.x) {
    atomicAdd(&gradient[j], shared[j]);
    shared[j] = 0;
  }
  __syncthreads();
}

template <int kPairs>
__global__ void __launch_bounds__(32 * kWarps)
    BackwardKernel(NormRotateShape shape, NormRotateTensors in, NormRotateGradients out,
                   __nv_bfloat16* qkv_gradient, float* query_norm_gradient,
                   float* key_norm_gradient) {
  __shared__ float shared[64 * kPairs];
  for (int j = threadIdx.x; j < 64 * kPairs; j += blockDim.x) shared[j] = 0;
  __syncthreads();
  const int lane = threadIdx.x % 32;
  const int all_heads = shape.heads + 2 * shape.kv_heads;
  const int64_t warps = int64_t{gridDim.x} * kWarps;
  Vector<kPairs> query_sum = {}, key_sum = {};
  for (int64_t i = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32; i < shape.rows * all_heads;
       i += warps) {
    const int64_t row = i / all_heads;
    const int head = static_cast<int>(i % all_heads);
    const bool is_query = head < shape.heads;
    const int64_t kv_row = row * shape.kv_heads + (head - shape.heads) % shape.kv_heads;
    if (head >= shape.heads + shape.kv_heads) {
      Vector<kPairs>::Load(out.value + kv_row * shape.head_dim, lane)
          .Store(qkv_gradient + i * shape.head_dim, lane);
      continue;
    }
    const int64_t angle = row % shape.tokens * (shape.head_dim / 2);
    Vector<kPairs> dy = Turn(
        Vector<kPairs>::Load(is_query ? out.query + (row * shape.heads + head) * shape.query_width
                                      : out.key + kv_row * shape.head_dim,
                             lane),
        in.cos + angle, in.sin + angle, lane, -1);
    if (!is_query) {
      const auto plain = Vector<kPairs>::Load(out.plain_key + kv_row * shape.head_dim, lane);
      for (int p = 0; p < kPairs; ++p) {
        dy.low[p] += plain.low[p];
        dy.high[p] += plain.high[p];
      }
    }
    const Vector<kPairs> x = Vector<kPairs>::Load(in.qkv + i * shape.head_dim, lane);
    const Vector<kPairs> w =
        Vector<kPairs>::LoadFloats(is_query ? in.query_norm : in.key_norm, lane);
    const float scale = rsqrtf(Dot(x, x) / shape.head_dim + shape.epsilon);
    Vector<kPairs>& sum = is_query ? query_sum : key_sum;
    Vector<kPairs> scaled;  // gradient of the normalised vector
    for (int p = 0; p < kPairs; ++p) {
      sum.low[p] += dy.low[p] * x.low[p] * scale;
      sum.high[p] += dy.high[p] * x.high[p] * scale;
      scaled.low[p] = dy.low[p] * w.low[p];
      scaled.high[p] = dy.high[p] * w.high[p];
    }
    const float along = Dot(x, scaled) * scale * scale * scale / shape.head_dim;
    Vector<kPairs> dx;
    for (int p = 0; p < kPairs; ++p) {
      dx.low[p] = scaled.low[p] * scale - x.low[p] * along;
      dx.high[p] = scaled.high[p] * scale - x.high[p] * along;
    }
    dx.Store(qkv_gradient + i * shape.head_dim, lane);
  }
  AddToNorms(query_sum, shared, query_norm_gradient, lane);
  AddToNorms(key_sum, shared, key_norm_gradient, lane);
}

int Blocks(const NormRotateShape& shape) {
  const int64_t wanted = (shape.rows * (shape.heads + 2 * shape.kv_heads) + kWarps - 1) / kWarps;
  return static_cast<int>(wanted < kBlocks ? wanted : kBlocks);
}

}  // namespace

cudaError_t NormRotateForward(const NormRotateShape& shape, const NormRotateTensors& tensors,
                              const NormRotateOutputs& outputs, cudaStream_t stream) {
  if (shape.rows == 0) return cudaSuccess;
  const auto kernel = shape.head_dim == 64 ? ForwardKernel<1> : ForwardKernel<2>;
  kernel<<<Blocks(shape), 32 * kWarps, 0, stream>>>(shape, tensors, outputs);
  return cudaGetLastError();
}

cudaError_t NormRotateBackward(const NormRotateShape& shape, const NormRotateTensors& tensors,
                               const NormRotateGradients& gradients, __nv_bfloat16* qkv_gradient,
                               float* query_norm_gradient, float* key_norm_gradient,
                               cudaStream_t stream) {
  if (shape.rows == 0) return cudaSuccess;
  const auto kernel = shape.head_dim == 64 ? BackwardKernel<1> : BackwardKernel<2>;
  kernel<<<Blocks(shape), 32 * kWarps, 0, stream>>>(shape, tensors, gradients, qkv_gradient,
                                                    query_norm_gradient, key_norm_gradient);
  return cudaGetLastError();
}

}  // namespace rasq::train::cuda
