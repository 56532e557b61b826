// Replicas on GPUs of this machine, by NCCL. Where libtorch is without CUDA there are none.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "train/replicas.h"

namespace rasq::train {

absl::StatusOr<std::vector<std::unique_ptr<Replica>>> JoinByNccl(
    const std::vector<torch::Device>& devices);

}  // namespace rasq::train
