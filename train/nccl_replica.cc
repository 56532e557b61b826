#include "train/nccl_replica.h"

#ifdef RASQ_TRAIN_CUDA
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <nccl.h>
#endif

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"

namespace rasq::train {

#ifdef RASQ_TRAIN_CUDA
namespace {

absl::Status NcclStatus(ncclResult_t result, absl::string_view what) {
  if (result == ncclSuccess) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(what, ": ", ncclGetErrorString(result)));
}

class NcclReplica : public Replica {
 public:
  NcclReplica(ncclComm_t communicator, torch::Device device)
      : communicator_(communicator), device_(device) {}
  ~NcclReplica() override { ncclCommDestroy(communicator_); }

  void Average(Tensor& tensor) override {
    const c10::cuda::CUDAGuard guard(device_);
    RASQ_CHECK(tensor.is_contiguous() && tensor.scalar_type() == torch::kFloat32);
    const absl::Status status = NcclStatus(
        ncclAllReduce(tensor.data_ptr(), tensor.data_ptr(), tensor.numel(), ncclFloat, ncclAvg,
                      communicator_, c10::cuda::getCurrentCUDAStream(device_.index())),
        "ncclAllReduce");
    TORCH_CHECK(status.ok(), status.ToString());
  }

 private:
  const ncclComm_t communicator_;
  const torch::Device device_;
};

}  // namespace

absl::StatusOr<std::vector<std::unique_ptr<Replica>>> JoinByNccl(
    const std::vector<torch::Device>& devices) {
  std::vector<int> numbers;
  for (const torch::Device& device : devices) numbers.push_back(device.index());
  std::vector<ncclComm_t> communicators(devices.size());
  RASQ_RETURN_IF_ERROR(NcclStatus(
      ncclCommInitAll(communicators.data(), static_cast<int>(numbers.size()), numbers.data()),
      "ncclCommInitAll"));
  std::vector<std::unique_ptr<Replica>> replicas;
  for (size_t i = 0; i < devices.size(); ++i) {
    replicas.push_back(std::make_unique<NcclReplica>(communicators[i], devices[i]));
  }
  return replicas;
}

#else

absl::StatusOr<std::vector<std::unique_ptr<Replica>>> JoinByNccl(
    const std::vector<torch::Device>& /*devices*/) {
  return absl::UnimplementedError("device: this build has no CUDA");
}

#endif

}  // namespace rasq::train
