// libtorch, as this folder sees it: the header that is precompiled, and what differs between the
// versions that the trainer builds with (Debian's 1.13, without CUDA, and 2.11).
#pragma once

#include <torch/torch.h>
#include <torch/version.h>

#define RASQ_TORCH_AT_LEAST(major, minor) \
  (TORCH_VERSION_MAJOR > (major) ||       \
   (TORCH_VERSION_MAJOR == (major) && TORCH_VERSION_MINOR >= (minor)))

namespace rasq::train {

using torch::Tensor;
// Slices of a dimension: libtorch's own short names clash with the standard's.
namespace index = torch::indexing;

}  // namespace rasq::train
