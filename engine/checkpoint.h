// A model on disk, in Hugging Face's layout: config.json, model.safetensors (or shards named by
// model.safetensors.index.json), tokenizer.json; and beside them, if the model has a memory,
// rasq_config.json and rasq.safetensors. Or only the configs, and weights that are made up.
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
#include "engine/dummy_weights.h"
#include "engine/model_config.h"
#include "engine/safetensors.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/types.h"

namespace rasq {

class Checkpoint {
 public:
  // Reads the configs and maps the tensors; errors name the file and the fault. With kDummy no
  // tensor need be there, and none is looked at: all are made up (dummy_weights.h).
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(
      const std::string& directory, LoadFormat format = LoadFormat::kCheckpoint);

  const std::string& directory() const { return directory_; }
  const ModelConfig& model() const { return model_; }
  const MemoryConfig& memory() const { return memory_; }  // capacity 0 if there is no adapter
  bool is_dummy() const { return format_ == LoadFormat::kDummy; }

  // The tokenizer beside the configs; of a dummy without one, Tokenizer::OfBytes.
  absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer() const;

  // A tensor of the decoder or the adapter as float32. kNotFound, or kInvalidArgument if its shape
  // is not `shape`; both name the tensor and its file.
  absl::StatusOr<std::vector<float>> Floats(absl::string_view name,
                                            absl::Span<const int64_t> shape) const;

  int64_t num_parameters() const { return num_parameters_; }
  // Of configs and weights (names, shapes and, but for a dummy, bytes): 32 hexadecimal digits.
  const std::string& fingerprint() const { return fingerprint_; }

 private:
  Checkpoint() = default;
  LoadFormat format_ = LoadFormat::kCheckpoint;
  std::string directory_;
  ModelConfig model_;
  MemoryConfig memory_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, TensorView> tensors_;
  std::map<std::string, std::string> file_of_;  // tensor name -> file name
  TensorShapes dummy_shapes_;                   // of a dummy: what the configs ask for
  int64_t num_parameters_ = 0;
  std::string fingerprint_;
};

}  // namespace rasq
