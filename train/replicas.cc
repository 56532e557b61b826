#include "train/replicas.h"

#include <algorithm>
#include <barrier>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kernels/base/status.h"
#include "train/nccl_replica.h"

namespace rasq::train {
namespace {

class OnlyReplica : public Replica {
 public:
  void Average(Tensor& /*tensor*/) override {}
};

// Replicas on the processor: each leaves its tensor where all can see it.
struct Meeting {
  explicit Meeting(size_t members) : tensors(members), barrier(static_cast<ptrdiff_t>(members)) {}
  std::vector<Tensor> tensors;
  std::barrier<> barrier;
};

class MemoryReplica : public Replica {
 public:
  MemoryReplica(std::shared_ptr<Meeting> meeting, size_t rank)
      : meeting_(std::move(meeting)), rank_(rank) {}

  void Average(Tensor& tensor) override {
    meeting_->tensors[rank_] = tensor;
    meeting_->barrier.arrive_and_wait();
    Tensor sum = meeting_->tensors.front().clone();
    for (size_t i = 1; i < meeting_->tensors.size(); ++i) sum.add_(meeting_->tensors[i]);
    meeting_->barrier.arrive_and_wait();
    tensor.copy_(sum / static_cast<double>(meeting_->tensors.size()));
  }

 private:
  const std::shared_ptr<Meeting> meeting_;
  const size_t rank_;
};

}  // namespace

absl::StatusOr<std::vector<torch::Device>> ParseDevices(const std::string& devices) {
  const int64_t num_gpus = static_cast<int64_t>(torch::cuda::device_count());
  std::vector<torch::Device> result;
  for (absl::string_view name : absl::StrSplit(devices, ',')) {
    int64_t number = 0;
    if (name == "cpu") {
      result.emplace_back(torch::kCPU);
    } else if (name == "cuda:all" && num_gpus > 0) {
      for (int64_t i = 0; i < num_gpus; ++i) {
        result.emplace_back(torch::kCUDA, static_cast<torch::DeviceIndex>(i));
      }
    } else if ((name == "cuda" ||
                (absl::ConsumePrefix(&name, "cuda:") && absl::SimpleAtoi(name, &number))) &&
               number >= 0 && number < num_gpus) {
      result.emplace_back(torch::kCUDA, static_cast<torch::DeviceIndex>(number));
    } else {
      return absl::InvalidArgumentError(absl::StrCat("device=\"", devices, "\": \"", name,
                                                     "\" is not there (", num_gpus,
                                                     " GPUs); cpu, cuda:N or cuda:all"));
    }
  }
  return result;
}

absl::StatusOr<std::vector<std::unique_ptr<Replica>>> JoinReplicas(
    const std::vector<torch::Device>& devices) {
  std::vector<std::unique_ptr<Replica>> replicas;
  if (devices.size() == 1) {
    replicas.push_back(std::make_unique<OnlyReplica>());
    return replicas;
  }
  const auto on_gpu = [](const torch::Device& device) { return device.is_cuda(); };
  if (std::all_of(devices.begin(), devices.end(), on_gpu)) return JoinByNccl(devices);
  if (std::any_of(devices.begin(), devices.end(), on_gpu)) {
    return absl::InvalidArgumentError("device: GPUs and the processor do not train together");
  }
  const auto meeting = std::make_shared<Meeting>(devices.size());
  for (size_t i = 0; i < devices.size(); ++i) {
    replicas.push_back(std::make_unique<MemoryReplica>(meeting, i));
  }
  return replicas;
}

}  // namespace rasq::train
