// `rasq-train init`: makes any decoder of the Llama family servable with a memory, without
// training: an adapter calibrated on some text (calibration.h), beside the decoder's own files.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model_config.h"
#include "train/torch.h"

namespace rasq::train {

// Shapes of a new memory; 0 and empty: as the decoder's own shape suggests.
struct AdapterShape {
  int32_t segment = 64, window = 448, sinks = 4;  // tokens
  int32_t capacity = 4096, budget = 512;          // entries
  int32_t index_dim = 0;       // 0: 128, or all kv heads' width where that is less
  int32_t compressed_dim = 0;  // 0: half a head
  // Empty: every fourth from layer max(1, layers / 8) on. Layers below the first read no memory,
  // so it should be low; but the input of the lowest knows little beyond its own token, and all
  // layers decide by it what is kept.
  std::vector<int32_t> retrieval_layers;
};

// The rasq_config.json of such a memory, and what the engine reads in it. kInvalidArgument names
// the field.
struct AdapterConfig {
  std::string json;
  MemoryConfig memory;
};
absl::StatusOr<AdapterConfig> MakeAdapterConfig(const AdapterShape& shape,
                                                const ModelConfig& model);

struct InitOptions {
  std::string model;   // directory of a checkpoint without rasq_config.json
  std::string output;  // directory; may be the same
  std::string data;    // directory of texts (data/training_data.h)
  AdapterShape shape;
  int64_t calibration_tokens = 16384;  // at least; rounded up to whole streams
  torch::Device device = torch::kCPU;
  int threads = 1;  // that tokenise
};

// Copies the decoder's files (weights as hard links where the file system has them) and writes the
// adapter. The same options give the same bytes. kFailedPrecondition if there is an adapter.
absl::Status InitAdapter(const InitOptions& options);

}  // namespace rasq::train
