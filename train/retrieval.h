// The retriever of the parallel form: what every segment of every stream reads, and how likely it
// was to. Source: algorithm.md sections 2, 3 and 7.
//
// Scores are computed twice. Without gradient for every segment and token, which decides what is
// selected; with gradient only where one can flow: for the selected entries, and for all entries of
// the few segments that a loss looks into.
#pragma once

#include <cstdint>
#include <optional>

#include "train/torch.h"

namespace rasq::train {

// The segments that losses look into: those in which an answer begins. How they explore is given as
// noise, so that it can be repeated; the other segments read what is best.
struct RetrievalProbe {
  Tensor stream;    // int64 [rows]; undefined: none
  Tensor segment;   // int64 [rows]
  Tensor evidence;  // bool [rows, tokens]: what the segment should read; may be undefined

  // Standard Gumbel noise, which makes entries a sample without replacement from the softmax of
  // z / temperature (Plackett-Luce; Kool et al. 2019, arXiv:1903.06059), and the factor of the
  // budget one from the head's. Undefined: the best.
  double temperature = 1;
  Tensor entry_noise;   // float [retrieval layers, rows, tokens]
  Tensor budget_noise;  // float [retrieval layers, rows, factors]
  // What was drawn before, to be read again whatever the noise: Retrieval's fields of these names,
  // stacked over the layers.
  Tensor drawn;          // int64 [retrieval layers, rows, budget]
  Tensor budget_choice;  // int64 [retrieval layers, rows]

  bool empty() const { return !stream.defined() || stream.size(0) == 0; }
  bool explores() const { return entry_noise.defined() || drawn.defined(); }
};

struct RetrievalShape {
  int64_t segment, window, sinks;  // tokens
  int64_t budget;                  // the most entries that a segment reads
  int64_t span;                    // positions that the memory takes, before which sinks stand
};

// A head that chooses each segment's budget (kernels/budget_head.h).
struct BudgetHead {
  Tensor weight;  // [factors, index_dim]; undefined: every segment may read the most
  Tensor bias;    // [factors]
  Tensor tokens;  // int64 [factors]: the budgets to choose among, at most the shape's
};

// Of one retrieval layer.
struct RetrieverInput {
  int64_t layer;       // 0 is the first retrieval layer
  Tensor query, key;   // [streams, tokens, index_dim], unit rows
  Tensor temperature;  // tau: float [1]
  Tensor log_gate;     // float [streams, tokens]
  Tensor alive;        // bool [streams, segments, tokens]: AliveEntries
  BudgetHead budget_head;
};

// What the segments read at one retrieval layer, and the layers above it up to the next. Entries
// are in the order of their positions; those that are none come last.
struct Retrieval {
  Tensor position;  // int64 [streams, segments, budget]
  Tensor valid;     // bool, the same shape
  Tensor score;     // float, the same shape: s
  Tensor log_gate;  // float, the same shape
  Tensor age;       // float, the same shape: selected entries that are newer
  Tensor budget;    // int64 [streams, segments]: what each might have read

  // Of the probe's rows; undefined without one.
  Tensor alive;  // bool [rows, tokens]: still in the buffer
  Tensor past;   // bool [rows, tokens]: alive, or lost
  Tensor z;      // float [rows, tokens]: s + log g
  // Of the probe's rows if they explore.
  Tensor drawn;            // int64 [rows, budget], in the order of drawing; -1: nothing
  Tensor budget_choice;    // int64 [rows]: of the head's factors; undefined without a head
  Tensor log_probability;  // float [rows]: of drawing these, and of choosing that budget
};

inline constexpr float kDead = -30000;

// Tokens that have left each segment's window, but for sinks: bool [segments, tokens].
Tensor Candidates(int64_t tokens, const RetrievalShape& shape, const torch::Device& device);

// Entries that are still in the buffer when each segment begins: [streams, segments, tokens]. Of
// those that have left the window, all, or the `capacity` (> 0) best-gated ones.
Tensor AliveEntries(const Tensor& log_gate, int64_t capacity, const RetrievalShape& shape);

Retrieval Retrieve(const RetrieverInput& input, const RetrievalShape& shape,
                   const RetrievalProbe& probe);

// Exact log probability of drawing entries in that order without replacement from the softmax of
// z / temperature (Plackett-Luce): [rows]. drawn: [rows, budget], -1 from where none was drawn.
Tensor PlackettLuceLogProbability(const Tensor& z, const Tensor& drawn, double temperature);

}  // namespace rasq::train
