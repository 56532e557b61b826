// What every segment attends to, side by side: sinks, selected entries, window and the segment
// itself. One copy of each vector forward and one addition backward; as a chain of slices and
// concatenations it was a quarter of a training step.
#pragma once

#include <cstdint>

#include "train/retrieval.h"
#include "train/torch.h"

namespace rasq::train {

struct JoinedParts {
  Tensor token;        // [streams, tokens, kv_heads, head_dim]: those of window and segment
  Tensor sink;         // [streams, segments, sinks, kv_heads, head_dim]
  Tensor entry;        // [streams, segments, budget or 0, kv_heads, head_dim]
  Tensor entry_bias;   // [streams, segments, budget or 0, bias_dims]; undefined: zeros
  Tensor dead_sink;    // bool [segments, sinks]; undefined with dead_window: no marks
  Tensor dead_window;  // bool [segments, window + segment]
};

// [streams, segments, sinks + entries + window + segment, kv_heads, head_dim + bias_dims]. Column
// head_dim + dead_dim of the dead is kDead. What lies before the stream is zero.
Tensor JoinKeys(const JoinedParts& parts, const RetrievalShape& shape, int64_t bias_dims,
                int64_t dead_dim);

}  // namespace rasq::train
