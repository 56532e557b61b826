#include "engine/token_history.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <utility>

#include "kernels/base/status.h"

namespace rasq {
namespace {

constexpr double kTermSaturation = 1.2;     // k1
constexpr double kLengthCorrection = 0.75;  // b

}  // namespace

RagOptions HistoryOptions(const SessionOptions& options) {
  if (options.strategy == Strategy::kRag) return options.rag;
  return {.chunk_tokens = options.attention_rag.chunk_tokens,
          .chunks = 1,
          .retriever = RagRetriever::kNone,
          .history_tokens = options.attention_rag.history_tokens};
}

TokenHistory::TokenHistory(const RagOptions& options, const std::vector<bool>* ends_sentence,
                           int64_t position)
    : options_(options), ends_sentence_(ends_sentence), end_(position) {
  RASQ_CHECK(options.chunk_tokens > 0 && options.chunks > 0);
  RASQ_CHECK(options.history_tokens == 0 || options.history_tokens >= options.chunk_tokens);
}

void TokenHistory::Append(absl::Span<const int32_t> ids) {
  const bool by_sentence = options_.split == RagSplit::kSentences;
  for (const int32_t id : ids) {
    open_.push_back(id);
    ++end_;
    ++size_;
    const auto tokens = static_cast<int32_t>(open_.size());
    const bool ends = by_sentence && tokens >= kLeastSentenceTokens && id >= 0 &&
                      id < static_cast<int64_t>(ends_sentence_->size()) && (*ends_sentence_)[id];
    if (ends || tokens == options_.chunk_tokens) Close();
    if (options_.history_tokens > 0 && size_ > options_.history_tokens) DropOldest();
  }
}

void TokenHistory::Close() {
  auto chunk = std::make_shared<Chunk>();
  auto input = std::make_shared<Input>();
  chunk->position = end_ - static_cast<int64_t>(open_.size());
  input->ids.assign(open_.begin(), open_.end());
  open_.clear();
  chunk->input = std::move(input);
  chunks_.push_back(std::move(chunk));
}

// REQUIRES: there is a closed chunk. The open one alone is never more than may be held.
void TokenHistory::DropOldest() {
  const Chunk& oldest = *chunks_.front();
  size_ -= oldest.input->size();
  if (num_indexed_ > 0) {
    --num_indexed_;
    index_bytes_ -= BytesOf(oldest);
    for (const Term& term : oldest.terms) {
      const auto found = frequency_.find(term.id);
      if (--found->second == 0) frequency_.erase(found);
    }
  }
  chunks_.pop_front();
}

std::vector<TokenHistory::Term> TokenHistory::TermsOf(absl::Span<const int32_t> ids) {
  std::vector<int32_t> sorted(ids.begin(), ids.end());
  std::sort(sorted.begin(), sorted.end());
  std::vector<Term> terms;
  for (const int32_t id : sorted) {
    if (terms.empty() || terms.back().id != id) terms.push_back({.id = id, .count = 0});
    ++terms.back().count;
  }
  terms.shrink_to_fit();
  return terms;
}

absl::Status TokenHistory::Describe(Chunk& chunk, TextEmbedder embed) const {
  if (options_.retriever == RagRetriever::kBm25) {
    chunk.terms = TermsOf(chunk.input->ids);
  } else if (options_.retriever == RagRetriever::kEmbeddings) {
    RASQ_ASSIGN_OR_RETURN(chunk.embedding, embed(chunk.input->ids));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> TokenHistory::Index(int64_t tokens, TextEmbedder embed) {
  for (; num_indexed_ < chunks_.size() && tokens > 0; ++num_indexed_) {
    Chunk& chunk = *chunks_[num_indexed_];
    // One that a copy shares may have been described already.
    if (chunk.terms.empty() && chunk.embedding.empty()) {
      RASQ_RETURN_IF_ERROR(Describe(chunk, embed));
    }
    for (const Term& term : chunk.terms) ++frequency_[term.id];
    index_bytes_ += BytesOf(chunk);
    tokens -= chunk.input->size();
  }
  return num_indexed_ == chunks_.size();
}

std::vector<double> TokenHistory::Bm25Scores(absl::Span<const int32_t> question,
                                             absl::Span<const Chunk* const> chunks) const {
  const auto count_in = [](const Chunk& chunk, int32_t id) {
    const auto at =
        std::lower_bound(chunk.terms.begin(), chunk.terms.end(), id,
                         [](const Term& term, int32_t wanted) { return term.id < wanted; });
    return at != chunk.terms.end() && at->id == id ? at->count : 0;
  };
  int64_t tokens = 0;
  for (const Chunk* chunk : chunks) tokens += chunk->input->size();
  const auto num_chunks = static_cast<double>(chunks.size());
  const double mean_tokens = static_cast<double>(tokens) / num_chunks;
  // What is not in the index is the open chunk, the last.
  const bool has_open = chunks.size() > num_indexed_;
  std::vector<double> scores(chunks.size());
  for (const Term& asked : TermsOf(question)) {
    const auto indexed = frequency_.find(asked.id);
    double frequency = indexed != frequency_.end() ? indexed->second : 0;
    if (has_open && count_in(*chunks.back(), asked.id) > 0) ++frequency;
    const double idf = std::log(1 + (num_chunks - frequency + 0.5) / (frequency + 0.5));
    for (size_t i = 0; i < chunks.size(); ++i) {
      const double count = count_in(*chunks[i], asked.id);
      const double length = static_cast<double>(chunks[i]->input->size()) / mean_tokens;
      const double saturation =
          kTermSaturation * (1 - kLengthCorrection + kLengthCorrection * length);
      scores[i] += asked.count * idf * count * (kTermSaturation + 1) / (count + saturation);
    }
  }
  return scores;
}

std::vector<double> TokenHistory::Cosines(const std::vector<float>& question,
                                          absl::Span<const Chunk* const> chunks) {
  std::vector<double> scores;
  scores.reserve(chunks.size());
  for (const Chunk* chunk : chunks) {
    scores.push_back(std::inner_product(question.begin(), question.end(), chunk->embedding.begin(),
                                        0.0, std::plus<>(),
                                        [](double x, double y) { return x * y; }));
  }
  return scores;
}

std::vector<Passage> TokenHistory::Chunks(absl::Span<const int32_t> tail) const {
  std::vector<Passage> passages;
  passages.reserve(chunks_.size() + 1);
  for (const std::shared_ptr<Chunk>& chunk : chunks_) {
    passages.push_back({.position = chunk->position, .input = chunk->input});
  }
  std::vector<int32_t> rest = open_;
  rest.insert(rest.end(), tail.begin(), tail.end());
  const auto tokens = static_cast<int64_t>(rest.size());
  for (int64_t begin = 0; begin < tokens; begin += options_.chunk_tokens) {
    const int64_t end = std::min<int64_t>(tokens, begin + options_.chunk_tokens);
    passages.push_back({.position = end_ - static_cast<int64_t>(open_.size()) + begin,
                        .input = std::make_shared<Input>(
                            Input{.ids = {rest.begin() + begin, rest.begin() + end}})});
  }
  return passages;
}

absl::StatusOr<std::vector<Passage>> TokenHistory::Search(absl::Span<const int32_t> question,
                                                          absl::Span<const int32_t> tail,
                                                          TextEmbedder embed) const {
  RASQ_CHECK(num_indexed_ == chunks_.size() && options_.retriever != RagRetriever::kNone);
  std::vector<const Chunk*> chunks;
  chunks.reserve(chunks_.size() + 1);
  for (const std::shared_ptr<Chunk>& chunk : chunks_) chunks.push_back(chunk.get());
  Chunk open{.position = end_ - static_cast<int64_t>(open_.size())};
  if (!open_.empty() || !tail.empty()) {
    auto input = std::make_shared<Input>();
    input->ids = open_;
    input->ids.insert(input->ids.end(), tail.begin(), tail.end());
    open.input = std::move(input);
    RASQ_RETURN_IF_ERROR(Describe(open, embed));
    chunks.push_back(&open);
  }
  if (chunks.empty()) return std::vector<Passage>();

  std::vector<double> scores;
  if (options_.retriever == RagRetriever::kBm25) {
    scores = Bm25Scores(question, chunks);
  } else {
    RASQ_ASSIGN_OR_RETURN(const std::vector<float> asked, embed(question));
    scores = Cosines(asked, chunks);
  }
  std::vector<size_t> best(chunks.size());
  std::iota(best.begin(), best.end(), size_t{0});
  const size_t count = std::min<size_t>(best.size(), options_.chunks);
  const auto last = best.begin() + static_cast<ptrdiff_t>(count);
  std::partial_sort(best.begin(), last, best.end(), [&](size_t a, size_t b) {
    return scores[a] != scores[b] ? scores[a] > scores[b] : a > b;
  });
  best.resize(count);
  if (options_.order == RagOrder::kChronological) std::sort(best.begin(), best.end());
  std::vector<Passage> passages;
  passages.reserve(count);
  for (const size_t i : best) {
    passages.push_back(
        {.position = chunks[i]->position, .input = chunks[i]->input, .score = scores[i]});
  }
  return passages;
}

std::vector<int32_t> TokenHistory::Tokens() const {
  std::vector<int32_t> tokens;
  tokens.reserve(size_);
  for (const std::shared_ptr<Chunk>& chunk : chunks_) {
    tokens.insert(tokens.end(), chunk->input->ids.begin(), chunk->input->ids.end());
  }
  tokens.insert(tokens.end(), open_.begin(), open_.end());
  return tokens;
}

int64_t TokenHistory::BytesOf(const Chunk& chunk) const {
  return static_cast<int64_t>(sizeof(Chunk) + sizeof(Input) + chunk.terms.size() * sizeof(Term) +
                              chunk.embedding.size() * sizeof(float));
}

int64_t TokenHistory::bytes() const {
  return static_cast<int64_t>(size_ * sizeof(int32_t)) + index_bytes_ +
         static_cast<int64_t>(frequency_.size() * sizeof(Term));
}

}  // namespace rasq
