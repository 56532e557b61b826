// Training streams as tensors.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "train/data/stream_layout.h"
#include "train/torch.h"

namespace rasq::train {

struct Batch {
  Tensor tokens;  // int64 [streams, tokens]
  Tensor target;  // int64 [streams, tokens]: the next token; the last one's is 0
  Tensor weight;  // float [streams, tokens]: of the loss of predicting it; the last one's is 0
  // Answers, those of all streams: rows of the retriever's probe.
  Tensor stream;    // int64 [rows]
  Tensor segment;   // int64 [rows]: in which its first token is predicted
  Tensor evidence;  // bool [rows, tokens]
  Tensor answer;    // int64 [streams, tokens]: the row whose answer is predicted here, or -1
  std::vector<int32_t> task;  // [rows]

  int64_t num_rows() const { return static_cast<int64_t>(task.size()); }
};

// All streams have the same number of tokens.
Batch MakeBatch(absl::Span<const TrainingStream> streams, const torch::Device& device);

// Mean over each row's answer tokens of what `values` [streams, tokens] has there: [rows].
Tensor MeanOverAnswers(const Batch& batch, const Tensor& values);

}  // namespace rasq::train
