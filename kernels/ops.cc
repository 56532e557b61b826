#include "kernels/ops.h"

#include <dlfcn.h>
#include <unistd.h>

#include <climits>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "kernels/base/status.h"
#include "kernels/cpu_ops.h"

namespace rasq {
namespace {

constexpr char kCudaModule[] = "librasq_cuda.so";

// The folder of the running program, with a slash; empty if the system does not tell.
std::string ProgramFolder() {
  char path[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof(path));
  if (length <= 0 || length >= static_cast<ssize_t>(sizeof(path))) return "";
  const std::string program(path, length);
  return program.substr(0, program.rfind('/') + 1);
}

// The module's factory. The module stays loaded to the process's end, since what it started (a
// driver's threads) may not be unloaded.
absl::StatusOr<OpenOpsModule> LoadModule(const char* name) {
  std::vector<std::string> places = {name};  // last: the library path
  if (const std::string folder = ProgramFolder(); !folder.empty()) {
    places = {absl::StrCat(folder, name), absl::StrCat(folder, "../lib/", name), name};
  }
  std::vector<std::string> tried;
  for (const std::string& place : places) {
    void* module = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (module == nullptr) {
      const char* error = dlerror();
      tried.push_back(error == nullptr ? place : error);
      continue;
    }
    void* symbol = dlsym(module, kOpenOpsModuleName);
    if (symbol != nullptr) return reinterpret_cast<OpenOpsModule>(symbol);
    tried.push_back(absl::StrCat(place, ": no ", kOpenOpsModuleName));
  }
  return absl::UnavailableError(absl::StrCat("OpenOps: tried ", absl::StrJoin(tried, "; ")));
}

absl::StatusOr<std::unique_ptr<Ops>> OpenCuda(int index, const OpsOptions& options) {
  RASQ_ASSIGN_OR_RETURN(const OpenOpsModule open, LoadModule(kCudaModule));
  std::string error;
  std::unique_ptr<Ops> ops(open(kOpsVersion, index, options, error));
  if (ops == nullptr) {
    return absl::UnavailableError(absl::StrCat("OpenOps: device=cuda:", index, ": ", error));
  }
  return ops;
}

}  // namespace

absl::Status Ops::BeginRecording() { return absl::UnimplementedError("BeginRecording"); }
absl::StatusOr<std::unique_ptr<Recording>> Ops::EndRecording() {
  return absl::UnimplementedError("EndRecording");
}
absl::Status Ops::Replay(const Recording& /*recording*/) {
  return absl::UnimplementedError("Replay");
}

absl::StatusOr<std::unique_ptr<Ops>> OpenOps(const OpsOptions& options) {
  const std::string& device = options.device;
  if (options.dtype != "auto" && options.dtype != "float32" && options.dtype != "bfloat16") {
    return absl::InvalidArgumentError(absl::StrCat("OpsOptions: dtype=", options.dtype));
  }
  if (device == "cpu") return MakeCpuOps(options);
  if (device == "auto") {
    absl::StatusOr<std::unique_ptr<Ops>> cuda = OpenCuda(/*index=*/0, options);
    return cuda.ok() ? std::move(cuda) : MakeCpuOps(options);
  }
  if (device == "cuda") return OpenCuda(/*index=*/0, options);
  absl::string_view number = device;
  int index = 0;
  if (absl::ConsumePrefix(&number, "cuda:") && absl::SimpleAtoi(number, &index) && index >= 0) {
    return OpenCuda(index, options);
  }
  return absl::InvalidArgumentError(absl::StrCat("OpsOptions: device=", device));
}

}  // namespace rasq
