// Writes safetensors files, which engine/safetensors.h reads.
#pragma once

#include <map>
#include <string>

#include "absl/status/status.h"
#include "train/torch.h"

namespace rasq::train {

// Tensors of float32, bfloat16, int32 or int64, from any device, in the order of their names. The
// file appears whole or not at all. kUnavailable names the path.
absl::Status WriteSafetensors(const std::string& path,
                              const std::map<std::string, Tensor>& tensors);

// The bytes of a text file, likewise.
absl::Status WriteTextFile(const std::string& path, const std::string& text);

}  // namespace rasq::train
