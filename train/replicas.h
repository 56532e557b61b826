// Data parallelism: every device trains a replica on streams of its own, on a thread of its own,
// and gradients are averaged between backward and step.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "train/torch.h"

namespace rasq::train {

// One replica's end of the group. Every member calls the same methods in the same order.
class Replica {
 public:
  virtual ~Replica() = default;
  // Makes the tensor the mean of all members'. In the order of the members where that matters.
  virtual void Average(Tensor& tensor) = 0;
};

// "cpu", "cuda" (the first GPU), "cuda:1", "cuda:all", or several with commas between them. On the
// processor a device may be named more than once. kInvalidArgument names the device.
absl::StatusOr<std::vector<torch::Device>> ParseDevices(const std::string& devices);

// One for each device: NCCL between GPUs, memory between replicas on the processor.
absl::StatusOr<std::vector<std::unique_ptr<Replica>>> JoinReplicas(
    const std::vector<torch::Device>& devices);

}  // namespace rasq::train
