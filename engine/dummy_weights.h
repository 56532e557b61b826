// Weights that no training made, of the shapes that a config asks for: a model to measure speed and
// memory with where its checkpoint is not at hand. What it says means nothing.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/model_config.h"

namespace rasq {

// The tensors that a checkpoint with these configs holds: name and shape.
using TensorShapes = std::map<std::string, std::vector<int64_t>>;
TensorShapes MakeTensorShapes(const ModelConfig& model, const MemoryConfig& memory);

// Of a tensor's random values, which are a function of its name.
uint64_t DummySeed(absl::string_view name);
// The range of values that are multiplied with `in` others and summed: large enough that a product
// keeps its input's scale, small enough that no depth of layers overflows.
float DummyScale(int64_t in);

// Ones for a norm's weight; else uniform in [-DummyScale, DummyScale) of the last dimension. The
// rows of a matrix that is wider than high are independent.
std::vector<float> DummyFloats(absl::string_view name, absl::Span<const int64_t> shape);

}  // namespace rasq
