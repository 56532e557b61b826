// The gate of a feed-forward layer.
#pragma once

#include "train/torch.h"

namespace rasq::train {

// gate_up [..., 2 width]: silu of the first half times the second, [..., width]. On CUDA in
// bfloat16 one kernel of ours each way, else plain operations.
Tensor GatedSilu(const Tensor& gate_up);

}  // namespace rasq::train
