// One generation, from its prompt to its last token: what goes out as text, where it stops, what
// the sampler must know, and what becomes context if it is committed.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "engine/attention_search.h"
#include "engine/engine.h"
#include "engine/input_queue.h"
#include "engine/model.h"
#include "engine/session_record.h"
#include "engine/slot_pool.h"
#include "engine/step.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/types.h"

namespace rasq {

// The output side of a generation: tokens in, text out. Text waits while it could still become a
// stop string, and tokens wait for their text.
class OutputText {
 public:
  OutputText(const Tokenizer* tokenizer, const StopOptions* stop, std::vector<int32_t> eos);

  // Adds a drawn token. After it says stop, no more may be added.
  void Push(GeneratedToken token);
  bool stopped() const { return stopped_; }
  // At the end: what was waiting can come out, however unfinished.
  void Finish();
  // What may go to the client now, and has not gone yet.
  GenerateChunk Take();
  // Tokens of the text as it went out: those wholly in it, then those of a part that was left over.
  std::vector<int32_t> ContextTokens() const;

  // A token that would end the generation must not be drawn before min_new_tokens.
  std::vector<int32_t> StopTokens() const;
  int32_t num_tokens() const { return num_tokens_; }

 private:
  struct Drawn {
    GeneratedToken token;
    int64_t end;  // length of the text after it
  };
  bool IsStopToken(int32_t id) const;
  void FindStopString(int64_t old_length);

  const Tokenizer* const tokenizer_;
  const StopOptions* const stop_;
  const std::vector<int32_t> eos_;
  Detokenizer detokenizer_;
  std::string text_;  // all of it
  std::vector<Drawn> drawn_;
  int64_t text_end_ = 0;    // text up to here may go out
  int64_t text_taken_ = 0;  // and up to here it has
  size_t tokens_taken_ = 0;
  int32_t num_tokens_ = 0;
  bool stopped_ = false;
  bool finished_ = false;
};

// Owned by the engine's thread once it is queued.
struct Generation {
  // Constant.
  int64_t id = 0;
  GenerateRequest request;
  std::shared_ptr<GenerateSink> sink;
  absl::Time start_time;
  std::vector<std::shared_ptr<const Input>> prompt;  // held-back text of the session, the prompt
  int32_t prompt_tokens = 0;                         // of the request's own prompt
  std::string held_text;      // what the session's text held back when the call came
  int64_t held_tokens = 0;    // its tokens: the first of `prompt`
  InputMark mark;             // where it leaves the session's input, if it is committed
  bool begun_before = false;  // the session's `begun`, before this call
  int64_t num_inputs = 0;     // of the session, this call's included
  uint64_t seed = 0;

  // While it runs: a copy of the session's stream.
  Slot slot;
  int64_t deficit = 0;  // see Flow
  StreamCursor cursor;
  std::optional<InputQueue> queue;
  std::optional<OutputText> output;
  // Of strategy attention_rag, until it is done: it has the slot, and `queue` waits.
  std::unique_ptr<AttentionSearch> search;
  int64_t context_tokens = 0;
  absl::Time run_time;              // it left the queue
  absl::Time first_time;            // its first token
  absl::Time last_time;             // its last token so far
  std::map<int32_t, int32_t> seen;  // ids that penalties look at, and how often each was drawn
  std::vector<int32_t> seen_id, seen_count, banned_id;  // the sampler's arrays
  int64_t retrieved_tokens = 0;
  int64_t num_retrievals = 0;
  struct Read {
    int32_t token = -1;
    double share = 0;  // the highest, of all retrievals
  };
  std::map<int64_t, Read> evidence;  // by position
  bool over = false;                 // the sink has heard, or is about to hear, its end

  bool decoding() const { return output.has_value() && output->num_tokens() > 0; }
  // The policy for the next token; borrows the arrays above.
  SamplePolicy NextSample(int32_t max_seen);
  // Notes what the open segment read.
  void AddEvidence(const std::vector<RetrievedEntry>& entries);
  GenerateSummary Summary(FinishReason reason, const Tokenizer& tokenizer) const;
};

}  // namespace rasq
