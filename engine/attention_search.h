// The search of a generation of strategy attention_rag: which sentences of the session's history
// its answer reads. Source: Fang, Sun, Shi and Gu 2025, "AttentionRAG", arXiv:2503.10720.
//
//   1. The hint, if the session has a prompt for it: the first line that the model says to it.
//   2. Each chunk of the history stands before the question and the hint, and the model draws one
//      token, the anchor, greedily. If it says "none", or nothing, as the end of the text does, the
//      chunk is dropped.
//   3. Else the model reads the anchor, and a token t of the chunk scores
//        A[t] = sum over layers of mean over heads of softmax(q_anchor K^T / sqrt(head_dim))[t].
//   4. Of each chunk the sentences that hold one of its top_tokens tokens are kept, in order.
// A chunk's end ends a sentence. If all chunks are dropped that one is kept, whole, whose dropped
// anchor was least likely. BOS is no text: one that begins a chunk is not scored.
//
// It holds no device memory and runs no step: it says what its probes read next, each a stream of
// its own, and hears what came of it. Chunks depend on nothing but the hint, so that probes work on
// several at once. The engine's thread's own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/input_queue.h"
#include "engine/search_prompts.h"
#include "engine/state_layout.h"
#include "engine/step.h"
#include "engine/token_history.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/types.h"

namespace rasq {

// At once, of a generation: enough for the rows of a large step, and so few that the logits of
// their anchors take little room.
inline constexpr int32_t kMostProbes = 8;

// A stream that reads a prompt of the search.
struct Probe {
  enum class Task : int8_t { kNone, kHint, kAnchor, kScore };

  std::byte* state = nullptr;
  bool fresh = false;  // `state` holds what stood there before, and must be reset
  Task task = Task::kNone;
  StreamCursor cursor;
  InputQueue queue;
  std::vector<float> key_weights;  // of the step in which it scores
  size_t chunk = 0;                // which one it reads
  int64_t chunk_begin = 0;         // where its first token that is text stands

  // Whether a token is drawn when all of `queue` is read.
  bool draws() const { return task == Task::kHint || task == Task::kAnchor; }
};

// A part of a chunk.
struct KeptSentence {
  int64_t begin = 0, end = 0;  // tokens of the chunk
  double score = 0;            // the highest of its tokens'
};
// The sentences of a chunk that hold one of the `top` tokens of highest score, between equals the
// earlier. `scores` are of the chunk's last tokens; those before have none.
std::vector<KeptSentence> KeptSentences(absl::Span<const int32_t> chunk,
                                        absl::Span<const double> scores, int32_t top,
                                        const std::vector<bool>& ends_sentence);
// Whether an anchor or a hint of this text says nothing: there is nothing but spaces, or it begins
// with "none", in any case, where spaces and punctuation do not count.
bool SaysNone(absl::string_view text);

class AttentionSearch {
 public:
  // Pointers are borrowed.
  struct Setup {
    const SearchPrompts* prompts;
    const Tokenizer* tokenizer;
    const std::vector<bool>* ends_sentence;  // see SentenceEnds
    const StateLayout* layout;               // of the probes: holds prompts->MaxTokens
    int32_t top_tokens;
    int32_t num_layers;
    int64_t hidden;
    std::vector<int32_t> eos;
    std::vector<int32_t> question;
    std::vector<Passage> chunks;  // at least one
  };
  // A probe for each of `states`, of which there is one at least.
  AttentionSearch(Setup setup, absl::Span<std::byte* const> states);

  // Constant in number and place; those without a task have nothing to read.
  std::vector<Probe>& probes() { return probes_; }
  const StateLayout& layout() const { return *setup_.layout; }
  // Parts of the probes' input (InputQueue::Parts), probe after probe, of about so many tokens.
  std::vector<int32_t> Parts(int64_t rows) const;
  // After a step in which the probe read all its input. REQUIRES: it drew a token if it draws.
  void Advance(Probe& probe, const StepOutcome& outcome);

  bool done() const;
  int64_t num_tokens() const;  // of all chunks
  // What is kept, in order; scores are A[t] per layer, of a sentence's best token. Past
  // `most_tokens` the sentences of lowest score are left out. REQUIRES: done.
  std::vector<Passage> Found(int64_t most_tokens) const;

 private:
  struct Sentence {
    size_t chunk;
    KeptSentence kept;
  };

  // The chunk's tokens but a BOS that begins it: its prompt has its own.
  absl::Span<const int32_t> TextOf(const Passage& chunk) const;
  void Start(Probe& probe, Probe::Task task, SearchPrompts::Prompt prompt);
  void AddToHint(Probe& probe, int32_t token);
  void StartChunks();
  void NextChunk(Probe& probe);
  void Drop(const Probe& probe, double logprob);
  void Keep(const Probe& probe);
  std::vector<Sentence> Fitting(int64_t most_tokens) const;

  const Setup setup_;
  std::vector<Probe> probes_;
  std::vector<int32_t> hint_;
  size_t next_chunk_ = 0;
  std::vector<std::vector<KeptSentence>> kept_;  // [chunks]
  bool any_kept_ = false;
  // The dropped chunk whose anchor was least likely.
  size_t doubted_ = 0;
  std::optional<double> doubted_logprob_;
};

}  // namespace rasq
