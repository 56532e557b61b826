#include "train/gated_silu.h"

#include <vector>

#ifdef RASQ_TRAIN_CUDA
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "train/cuda/gated_silu.h"
#endif

namespace rasq::train {

#ifdef RASQ_TRAIN_CUDA
namespace {

constexpr int64_t kVector = 8;

__nv_bfloat16* Elements(const Tensor& tensor) {
  return reinterpret_cast<__nv_bfloat16*>(tensor.data_ptr<at::BFloat16>());
}

class GatedSiluOnGpu : public torch::autograd::Function<GatedSiluOnGpu> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& gate_up) {
    const c10::cuda::CUDAGuard guard(gate_up.device());
    const int64_t width = gate_up.size(-1) / 2;
    std::vector<int64_t> sizes = gate_up.sizes().vec();
    sizes.back() = width;
    Tensor out = torch::empty(sizes, gate_up.options());
    C10_CUDA_CHECK(cuda::GatedSiluForward(out.numel() / width, width, Elements(gate_up),
                                          Elements(out), c10::cuda::getCurrentCUDAStream()));
    context->save_for_backward({gate_up});
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const Tensor gate_up = context->get_saved_variables()[0];
    const c10::cuda::CUDAGuard guard(gate_up.device());
    const Tensor given = gradients[0].contiguous();
    const int64_t width = given.size(-1);
    Tensor gradient = torch::empty_like(gate_up);
    C10_CUDA_CHECK(cuda::GatedSiluBackward(given.numel() / width, width, Elements(gate_up),
                                           Elements(given), Elements(gradient),
                                           c10::cuda::getCurrentCUDAStream()));
    return {gradient};
  }
};

}  // namespace
#endif

Tensor GatedSilu(const Tensor& gate_up) {
  const int64_t width = gate_up.size(-1) / 2;
#ifdef RASQ_TRAIN_CUDA
  if (gate_up.is_cuda() && gate_up.scalar_type() == torch::kBFloat16 && width % kVector == 0) {
    return GatedSiluOnGpu::apply(gate_up.contiguous());
  }
#endif
  return torch::silu(gate_up.narrow(-1, 0, width)) * gate_up.narrow(-1, width, width);
}

}  // namespace rasq::train
