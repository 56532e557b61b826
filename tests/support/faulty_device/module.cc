// A device that breaks when a test says so: the processor's operations under the name of a GPU's,
// until the file $RASQ_FAULT_FILE exists; from then on every step fails as on a lost GPU. Built as
// librasq_cuda.so in a folder of its own, for LD_LIBRARY_PATH.
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "kernels/cpu_ops.h"

namespace rasq {
namespace {

class FaultyOps : public CpuOps {
 public:
  using CpuOps::CpuOps;

  std::string device() const override { return "cuda:0"; }
  absl::Status Embed(const EmbedArgs& args) override {
    const char* file = std::getenv("RASQ_FAULT_FILE");
    if (file != nullptr && access(file, F_OK) == 0) {
      return absl::UnavailableError("cuda:0: an uncorrectable ECC error was encountered");
    }
    return CpuOps::Embed(args);
  }
};

}  // namespace

extern "C" Ops* rasq_open_ops(int version, int device_index, const OpsOptions& /*options*/,
                              std::string& error) {
  if (version != kOpsVersion || device_index != 0) {
    error = "no such device";
    return nullptr;
  }
  return new FaultyOps(/*num_threads=*/1, DType::kFloat32);
}

}  // namespace rasq
