#include "train/project_heads.h"

#include <vector>

#ifdef RASQ_TRAIN_CUDA
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "train/cuda/norm_rotate.h"
#endif

namespace rasq::train {
namespace {

#ifdef RASQ_TRAIN_CUDA
__nv_bfloat16* Elements(const Tensor& tensor) {
  return reinterpret_cast<__nv_bfloat16*>(tensor.data_ptr<at::BFloat16>());
}

class NormRotateOnGpu : public torch::autograd::Function<NormRotateOnGpu> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context,
                                                const Tensor& qkv, const Tensor& query_norm,
                                                const Tensor& key_norm, const Tensor& cos,
                                                const Tensor& sin, const Tensor& query_bias,
                                                int64_t heads, double epsilon) {
    const c10::cuda::CUDAGuard guard(qkv.device());
    const int64_t streams = qkv.size(0), tokens = qkv.size(1), head_dim = qkv.size(3);
    const int64_t kv_heads = (qkv.size(2) - heads) / 2, bias_dims = query_bias.size(1);
    Tensor query = torch::empty({streams, tokens, heads, head_dim + bias_dims}, qkv.options());
    Tensor key = torch::empty({streams, tokens, kv_heads, head_dim}, qkv.options());
    Tensor plain_key = torch::empty_like(key), value = torch::empty_like(key);
    const cuda::NormRotateShape shape{.rows = streams * tokens,
                                      .tokens = tokens,
                                      .heads = static_cast<int32_t>(heads),
                                      .kv_heads = static_cast<int32_t>(kv_heads),
                                      .head_dim = static_cast<int32_t>(head_dim),
                                      .query_width = static_cast<int32_t>(head_dim + bias_dims),
                                      .epsilon = static_cast<float>(epsilon)};
    C10_CUDA_CHECK(cuda::NormRotateForward(
        shape, Inputs(qkv, query_norm, key_norm, cos, sin),
        {Elements(query), Elements(key), Elements(plain_key), Elements(value)},
        c10::cuda::getCurrentCUDAStream()));
    query.narrow(3, head_dim, bias_dims).copy_(query_bias);
    context->save_for_backward({qkv, query_norm, key_norm, cos, sin});
    context->saved_data["heads"] = heads;
    context->saved_data["bias_dims"] = bias_dims;
    context->saved_data["epsilon"] = epsilon;
    return {query, key, plain_key, value};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &qkv = saved[0], &query_norm = saved[1], &key_norm = saved[2];
    const c10::cuda::CUDAGuard guard(qkv.device());
    const int64_t heads = context->saved_data["heads"].toInt();
    const int64_t bias_dims = context->saved_data["bias_dims"].toInt();
    const int64_t head_dim = qkv.size(3);
    for (Tensor& gradient : gradients) gradient = gradient.contiguous();
    const cuda::NormRotateShape shape{
        .rows = qkv.size(0) * qkv.size(1),
        .tokens = qkv.size(1),
        .heads = static_cast<int32_t>(heads),
        .kv_heads = static_cast<int32_t>((qkv.size(2) - heads) / 2),
        .head_dim = static_cast<int32_t>(head_dim),
        .query_width = static_cast<int32_t>(head_dim + bias_dims),
        .epsilon = static_cast<float>(context->saved_data["epsilon"].toDouble())};
    Tensor qkv_gradient = torch::empty_like(qkv);
    Tensor query_norm_gradient = torch::zeros_like(query_norm);
    Tensor key_norm_gradient = torch::zeros_like(key_norm);
    C10_CUDA_CHECK(cuda::NormRotateBackward(
        shape, Inputs(qkv, query_norm, key_norm, saved[3], saved[4]),
        {Elements(gradients[0]), Elements(gradients[1]), Elements(gradients[2]),
         Elements(gradients[3])},
        Elements(qkv_gradient), query_norm_gradient.data_ptr<float>(),
        key_norm_gradient.data_ptr<float>(), c10::cuda::getCurrentCUDAStream()));
    Tensor bias_gradient;
    if (bias_dims > 0) {
      bias_gradient = gradients[0]
                          .narrow(3, head_dim, bias_dims)
                          .to(torch::kFloat32)
                          .sum(at::IntArrayRef({0, 1}));
    }
    return {qkv_gradient, query_norm_gradient, key_norm_gradient, Tensor(),
            Tensor(),     bias_gradient,       Tensor(),          Tensor()};
  }

 private:
  static cuda::NormRotateTensors Inputs(const Tensor& qkv, const Tensor& query_norm,
                                        const Tensor& key_norm, const Tensor& cos,
                                        const Tensor& sin) {
    return {Elements(qkv), query_norm.data_ptr<float>(), key_norm.data_ptr<float>(),
            cos.data_ptr<float>(), sin.data_ptr<float>()};
  }
};
#endif

}  // namespace

Angles AnglesAt(const Tensor& position, const Tensor& inv_freq) {
  const Tensor angle = position.to(torch::kFloat64).unsqueeze(-1) * inv_freq;
  return {angle.cos().to(torch::kFloat32), angle.sin().to(torch::kFloat32)};
}

Tensor Rotate(const Tensor& x, const Angles& angles) {
  const int64_t half = x.size(-1) / 2;
  const torch::ScalarType type = x.scalar_type();
  const Tensor cos = angles.cos.unsqueeze(-2).to(type), sin = angles.sin.unsqueeze(-2).to(type);
  const Tensor low = x.narrow(-1, 0, half), high = x.narrow(-1, half, half);
  return torch::cat({low * cos - high * sin, high * cos + low * sin}, -1);
}

Tensor RmsNorm(const Tensor& x, const Tensor& weight, double epsilon) {
  const torch::ScalarType type = x.scalar_type();
#if RASQ_TORCH_AT_LEAST(2, 8)
  if (x.is_cuda()) return at::rms_norm(x, {x.size(-1)}, weight.to(type), epsilon);
#endif
  const Tensor wide = x.to(torch::kFloat32);
  const Tensor scale = (wide.square().mean(-1, true) + epsilon).rsqrt();
  return (wide * scale * weight).to(type);
}

Heads NormAndRotate(const Tensor& qkv, const Tensor& query_norm, const Tensor& key_norm,
                    const Angles& angles, const Tensor& query_bias, const HeadShape& shape) {
#ifdef RASQ_TRAIN_CUDA
  if (qkv.is_cuda() && qkv.scalar_type() == torch::kBFloat16 && query_norm.defined() &&
      (shape.head_dim == 64 || shape.head_dim == 128)) {
    const Tensor bias =
        query_bias.defined() ? query_bias : torch::empty({shape.heads, 0}, query_norm.options());
    const auto results =
        NormRotateOnGpu::apply(qkv.contiguous(), query_norm, key_norm, angles.cos.contiguous(),
                               angles.sin.contiguous(), bias, shape.heads, shape.epsilon);
    return {results[0], results[1], results[2], results[3]};
  }
#endif
  Heads heads;
  heads.query = qkv.narrow(2, 0, shape.heads);
  heads.plain_key = qkv.narrow(2, shape.heads, shape.kv_heads);
  heads.value = qkv.narrow(2, shape.heads + shape.kv_heads, shape.kv_heads);
  if (query_norm.defined()) {
    heads.query = RmsNorm(heads.query, query_norm, shape.epsilon);
    heads.plain_key = RmsNorm(heads.plain_key, key_norm, shape.epsilon);
  }
  heads.query = Rotate(heads.query, angles);
  heads.key = Rotate(heads.plain_key, angles);
  heads.value = heads.value.contiguous();
  if (query_bias.defined()) {
    std::vector<int64_t> sizes = heads.query.sizes().vec();
    sizes.back() = query_bias.size(1);
    heads.query = torch::cat({heads.query, query_bias.to(qkv.scalar_type()).expand(sizes)}, -1);
  }
  return heads;
}

}  // namespace rasq::train
