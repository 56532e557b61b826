// Learning from the decoder itself, read in full: what its attention looks for in the past teaches
// the retriever, and its next-token distribution teaches how to read through memory. For decoders
// that were not trained for a memory, on text in which no evidence is marked. Source: algorithm.md
// section 7; the retriever's part is DeepSeek-V3.2's warm-up of its indexer.
#pragma once

#include <cstdint>
#include <vector>

#include "train/batch.h"
#include "train/cross_entropy.h"
#include "train/decoder.h"
#include "train/retrieval.h"
#include "train/torch.h"

namespace rasq::train {

// The first segment of a stream that has a past to look into.
int64_t FirstTaughtSegment(const MemoryConfig& memory);

// `rows` segments of each stream, drawn from those with a past (all, if they are fewer), as the
// probe of a forward pass. REQUIRES: streams longer than FirstTaughtSegment segments.
RetrievalProbe DrawSegments(const Tensor& tokens, const MemoryConfig& memory, int64_t rows,
                            uint64_t seed);

struct Lesson {
  Tensor hidden;  // [streams, tokens, hidden], after the last norm
  // [retrieval layers] of float [rows, tokens]: of the attention that the probe's segments pay to
  // what has left their window at that layer, the share of each token, over all heads and queries.
  std::vector<Tensor> attention;
};

// Without gradient.
Lesson Teach(const Decoder& decoder, const Tensor& tokens, const RetrievalProbe& probe,
             torch::ScalarType compute);

// KL(attention || softmax(z)), mean over the probe's rows, with gradient.
Tensor RetrievalDivergence(const Retrieval& retrieval, const Tensor& attention);

// The share of the attention that falls on what was read, mean over the probe's rows.
Tensor AttentionRead(const Retrieval& retrieval, const RetrievalProbe& probe,
                     const Tensor& attention);

// As CrossEntropy, but `mean` is that of KL(teacher's distribution || ours). Both hidden: [rows,
// width] in the compute type; `taught` carries no gradient, nor does the head as the teacher's.
TokenLosses Divergence(const Tensor& hidden, const Tensor& taught, const Tensor& head,
                       const Tensor& target, const Tensor& weight);

}  // namespace rasq::train
