// A decoder small enough to differentiate by hand and to train in a test, and streams for it.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "train/data/stream_layout.h"
#include "train/decoder.h"

namespace rasq::train::testing {

inline constexpr int32_t kVocab = 24;
inline constexpr int32_t kSegment = 4;

inline ModelConfig TinyModel() {
  ModelConfig model;
  model.architecture = "Qwen3ForCausalLM";
  model.qk_norm = true;
  model.vocab = kVocab;
  model.hidden = 16;
  model.intermediate = 24;
  model.num_layers = 3;
  model.num_heads = 4;
  model.num_kv_heads = 2;
  model.head_dim = 8;
  model.rms_norm_epsilon = 1e-5f;
  for (int i = 0; i < model.head_dim / 2; ++i) model.inv_freq.push_back(1 / (1.0 + 3 * i));
  model.max_positions = 64;
  model.tie_embeddings = true;
  return model;
}

inline MemoryConfig TinyMemory(int32_t budget) {
  return {.segment = kSegment,
          .window = 8,
          .sinks = 2,
          .capacity = 16,
          .budget = budget,
          .max_budget = budget,
          .retrieval_layers = {1, 2},
          .index_dim = 8,
          .compressed_dim = 4};
}

// A pair of tokens early in the stream; its first token again at the end, and what followed it is
// the answer. Number i is always the same.
inline TrainingStream RecallStream(int64_t number, int64_t tokens) {
  std::mt19937_64 random(number);
  const auto draw = [&](int32_t from, int32_t to) {
    return from + static_cast<int32_t>(random() % static_cast<uint64_t>(to - from));
  };
  TrainingStream stream;
  for (int64_t i = 0; i < tokens; ++i) stream.tokens.push_back(draw(16, kVocab));
  stream.weights.assign(tokens, 0.1f);
  const int32_t fact = draw(2, 8), key = draw(0, 8), value = draw(8, 16);
  // The question is the first token of a segment, and predicts the answer.
  const auto question = static_cast<int32_t>(tokens - kSegment);
  stream.tokens[fact] = stream.tokens[question] = stream.tokens[question - 1] = key;
  stream.tokens[fact + 1] = stream.tokens[question + 1] = value;
  stream.weights[question + 1] = 10;
  stream.evidence.push_back({question / kSegment, {fact, fact + 1}});
  stream.answers.push_back({question + 1, question + 2, 0});
  return stream;
}

}  // namespace rasq::train::testing
