// What a session of strategy rag or attention_rag remembers: all its tokens, or the newest of them,
// on the host, cut into chunks, and an index to find chunks by. Chunks are consecutive runs of
// chunk_tokens tokens, or sentences of at most so many, where one of fewer than
// kLeastSentenceTokens goes on in the next, so that what a chunk costs beside its tokens is
// bounded; the last one is open: it is searched too, but is in no index.
//
// Scores of a chunk for a question, by RagRetriever:
//   kBm25        sum over the question's tokens t of idf(t) tf (k1 + 1) / (tf + k1 (1 - b + b
//                n / mean n)), tf: how often t is in the chunk of n tokens; idf(t) = ln(1 + (N - df
//                + 0.5) / (df + 0.5)), df: how many of the N chunks hold t; k1 = 1.2, b = 0.75.
//                Source: Robertson and Zaragoza 2009, "The probabilistic relevance framework"; the
//                idf that is never negative is Lucene's.
//   kEmbeddings  the cosine of the two mean input embeddings.
// Of kNone, for strategy attention_rag, which reads all chunks, nothing is searched.
//
// One thread at a time. A copy shares the chunks and, as far as it goes, their index.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/input_queue.h"
#include "engine/types.h"

namespace rasq {

inline constexpr int32_t kLeastSentenceTokens = 4;

// The embedding of a text: of unit length, or zero.
using TextEmbedder =
    absl::FunctionRef<absl::StatusOr<std::vector<float>>(absl::Span<const int32_t>)>;

// How the history of a session is made, if its strategy keeps one.
RagOptions HistoryOptions(const SessionOptions& options);

// A chunk, or a part of one, that was found.
struct Passage {
  int64_t position = 0;  // of its first token, counted from the session's start
  std::shared_ptr<const Input> input;
  double score = 0;
};

class TokenHistory {
 public:
  // Begins at a position. `options` are as in force: no field is 0 but history_tokens.
  // `ends_sentence` (see SentenceEnds) is borrowed.
  TokenHistory(const RagOptions& options, const std::vector<bool>* ends_sentence, int64_t position);

  // Adds tokens. With options.history_tokens the oldest chunks go, so that no more are held.
  void Append(absl::Span<const int32_t> ids);
  // Takes closed chunks of about so many tokens into the index. True if none is left.
  absl::StatusOr<bool> Index(int64_t tokens, TextEmbedder embed);

  // All chunks in order, without scores. `tail` are tokens behind the last, which belong to the
  // open chunk; what is then too long for one is several.
  std::vector<Passage> Chunks(absl::Span<const int32_t> tail) const;
  // The options.chunks chunks of highest score, between equals the newer, in options.order. `tail`
  // are tokens behind the last, which belong to the open chunk. REQUIRES: all is in the index,
  // and there is a retriever.
  absl::StatusOr<std::vector<Passage>> Search(absl::Span<const int32_t> question,
                                              absl::Span<const int32_t> tail,
                                              TextEmbedder embed) const;

  bool is_indexed() const { return num_indexed_ == chunks_.size(); }
  int64_t size() const { return size_; }  // tokens held
  std::vector<int32_t> Tokens() const;    // these
  // Of host memory: 4 a token and the index.
  int64_t bytes() const;

 private:
  struct Term {
    int32_t id;
    int32_t count;
  };
  struct Chunk {
    int64_t position;
    std::shared_ptr<const Input> input;
    std::vector<Term> terms;       // by id; of kBm25
    std::vector<float> embedding;  // of kEmbeddings
  };

  static std::vector<Term> TermsOf(absl::Span<const int32_t> ids);
  absl::Status Describe(Chunk& chunk, TextEmbedder embed) const;
  void Close();
  void DropOldest();
  int64_t BytesOf(const Chunk& chunk) const;
  std::vector<double> Bm25Scores(absl::Span<const int32_t> question,
                                 absl::Span<const Chunk* const> chunks) const;
  static std::vector<double> Cosines(const std::vector<float>& question,
                                     absl::Span<const Chunk* const> chunks);

  const RagOptions options_;
  const std::vector<bool>* const ends_sentence_;
  std::deque<std::shared_ptr<Chunk>> chunks_;  // closed, oldest first
  size_t num_indexed_ = 0;                     // the first of them
  std::vector<int32_t> open_;
  int64_t end_;       // position behind the last token
  int64_t size_ = 0;  // tokens
  int64_t index_bytes_ = 0;
  // Of kBm25: how many chunks of the index hold a token.
  absl::flat_hash_map<int32_t, int32_t> frequency_;
};

}  // namespace rasq
