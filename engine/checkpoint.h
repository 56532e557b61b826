// A model on disk, in Hugging Face's layout: config.json, model.safetensors (or shards named by
// model.safetensors.index.json), tokenizer.json; and beside them, if the model has a memory,
// rasq_config.json and rasq.safetensors.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/model_config.h"
#include "engine/safetensors.h"

namespace rasq {

class Checkpoint {
 public:
  // Reads the configs and maps the tensors; errors name the file and the fault.
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::string& directory);

  const std::string& directory() const { return directory_; }
  const ModelConfig& model() const { return model_; }
  const MemoryConfig& memory() const { return memory_; }  // capacity 0 if there is no adapter

  // A tensor of the decoder or the adapter as float32. kNotFound, or kInvalidArgument if its shape
  // is not `shape`; both name the tensor and its file.
  absl::StatusOr<std::vector<float>> Floats(absl::string_view name,
                                            absl::Span<const int64_t> shape) const;

  int64_t num_parameters() const { return num_parameters_; }
  // Of configs and weights (names, shapes and bytes): 32 hexadecimal digits.
  const std::string& fingerprint() const { return fingerprint_; }

 private:
  Checkpoint() = default;
  std::string directory_;
  ModelConfig model_;
  MemoryConfig memory_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, TensorView> tensors_;
  std::map<std::string, std::string> file_of_;  // tensor name -> file name
  int64_t num_parameters_ = 0;
  std::string fingerprint_;
};

}  // namespace rasq
