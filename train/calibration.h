// An adapter for a decoder that never saw one, from what its own attention does on some text.
// Source: algorithm.md section 8. Nothing is trained; the same text gives the same adapter.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/model_config.h"
#include "train/decoder.h"
#include "train/torch.h"

namespace rasq::train {

// What the adapter keeps of a layer, as shares of 1 on the calibration text.
struct LayerFit {
  int64_t layer;
  double keys, values;     // of their squares in the compressed width
  double logits = 0;       // of the attention logits' squares in the index; retrieval layers
  double temperature = 0;  // tau; retrieval layers
};

struct Calibration {
  Parameters tensors;  // all of rasq.safetensors, float32 on the processor
  std::vector<LayerFit> layers;
};

// Streams of this many tokens: half of their tokens leave the window while queries are left, and
// half are seen for as long as they stay in it.
int64_t CalibrationStreamTokens(const MemoryConfig& memory);

// tokens: int64 [streams, CalibrationStreamTokens], on the decoder's device. The decoder is run
// plain, in float32; of `memory` only the shapes count.
Calibration Calibrate(const Decoder& decoder, const MemoryConfig& memory, const Tensor& tokens);

}  // namespace rasq::train
