// CUDA's results as statuses. Only files of the CUDA backend include this.
#pragma once

#include <cuda_runtime_api.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace rasq {

// kResourceExhausted if memory is short; else kUnavailable: a fault of the device outlives the call
// that meets it, and the process that owns the device has to end.
inline absl::Status CudaStatus(cudaError_t error, absl::string_view what) {
  if (error == cudaSuccess) return absl::OkStatus();
  const std::string message = absl::StrCat(what, ": ", cudaGetErrorString(error));
  if (error == cudaErrorMemoryAllocation) return absl::ResourceExhaustedError(message);
  return absl::UnavailableError(message);
}

// Of the launch that was just made.
inline absl::Status LaunchStatus(absl::string_view what) {
  return CudaStatus(cudaGetLastError(), what);
}

// Lets a kernel have more than the 48 KB of dynamic shared memory that are every kernel's. Holds
// for the current device, so it precedes each launch.
template <typename Kernel>
absl::Status AllowShared(Kernel* kernel, int bytes) {
  return CudaStatus(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                         cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
                    "cudaFuncSetAttribute");
}

}  // namespace rasq
