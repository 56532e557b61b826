// Which kv heads RazorAttention leaves whole: those whose queries look back at repeats of what they
// read, found by a random prompt that is read several times over.
// Source: Tang et al. 2024, arXiv:2407.15891, section 3.2.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model.h"
#include "engine/types.h"
#include "kernels/ops.h"

namespace rasq {

// The prompt is read this many times in all.
inline constexpr int32_t kRazorRepeats = 4;

// Means over the repeats' tokens of the scores of repeat_scores.h, [layers, num_heads].
struct HeadScores {
  std::vector<double> echo;
  std::vector<double> induction;
};

// Of all layers' kv heads, each with the highest score of its query heads: the given share with the
// highest induction scores, and of echo scores, rounded, and at least one each; of equal ones the
// first. By layer, kv heads as bits.
std::vector<uint64_t> ChooseRetrievalHeads(const HeadScores& scores, const ModelConfig& model,
                                           const BaselineOptions& options);

// Runs the prompt through the model, in a state that it allocates for this. Its tokens are drawn
// without repetition and always the same; it is shorter than asked for if the vocabulary has not so
// many, or the decoder was not trained for so many positions. A BOS token stands before it if the
// model has one. kFailedPrecondition if the model has more kv heads than fit in the bits.
absl::StatusOr<HeadScores> ScoreHeads(Model& model, Ops& ops, const BaselineOptions& options);

}  // namespace rasq
