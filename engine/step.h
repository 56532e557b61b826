// What a step is asked to do for each stream, and what comes of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "engine/state_layout.h"
#include "kernels/index_tokens.h"
#include "kernels/sample.h"
#include "kernels/select_entries.h"

namespace rasq {

// One token of a stream's input.
struct InputToken {
  int32_t id = 0;                                    // -1: `embedding` stands in place of a token
  bool starts_segment = false;                       // closes the segment before it, however short
  bool pinned = false;                               // its entry never leaves the buffer
  std::shared_ptr<const float> embedding = nullptr;  // [hidden], in host memory
};

// How far a stream has come. What it read lies in its state.
struct StreamCursor {
  int64_t position = 0;       // tokens in the state
  int64_t segment_start = 0;  // position of the open segment's first token

  int32_t open_tokens() const { return static_cast<int32_t>(position - segment_start); }
};

// How many of `tokens`, from the first, belong to the segment that is open at `cursor` or, if it is
// full or closed by the first token, to the next one. 0 only if there are no tokens.
int32_t SegmentPart(const StreamCursor& cursor, int32_t segment_rows, const InputToken* tokens,
                    int64_t num_tokens);
// Whether the first of `tokens` begins a segment.
bool BeginsSegment(const StreamCursor& cursor, int32_t segment_rows, const InputToken& token);

// One stream's share of a step. Each stream stands in a step at most once.
struct StreamStep {
  const StateLayout* layout = nullptr;
  std::byte* state = nullptr;
  StreamCursor* cursor = nullptr;  // brought to the end of `tokens` if the step succeeds
  std::vector<InputToken> tokens;  // >= 1
  // The prompt of a generation has been read: strategy pyramid, as published, now chooses what it
  // keeps of all before `tokens`.
  bool prompt_ends = false;
  WritePolicy write = {};
  ReadPolicy read = {};
  std::optional<SamplePolicy> sample;  // draw a token after the last one
  // Tokens whose log-probabilities are wanted, each by the logits behind its row: [tokens], -1:
  // none; or empty.
  std::vector<int32_t> targets;
  std::vector<float>* logits = nullptr;  // [tokens, vocab]: filled if set. For tests
  // [positions up to the last token's own]: filled if set. What the last token gives to each in
  // attention, the mean over the heads, summed over the layers. The stream is of a layout that
  // keeps all and that Model::ServeKeyWeights knows; `tokens` are of one segment.
  std::vector<float>* key_weights = nullptr;
};

struct StepOutcome {
  int32_t token = -1;  // drawn; -1 if none was asked for
  float logprob = 0;
  std::vector<float> target_logprobs;  // of StreamStep::targets; 0 where there is none
  std::vector<int32_t> alternatives;   // by falling log-probability
  std::vector<float> alternative_logprobs;
  std::vector<int32_t> retrieved;  // entries read, of each retrieval (segment begun x layer)
  std::vector<int32_t> budget;     // of each of these: how many might have been
  int32_t num_replaced = 0;        // entries that fell out of the buffer
};

}  // namespace rasq
