// Histories of strategy rag: chunks, what falls out, and which chunks a question finds, against
// scores that are computed here.
#include "engine/token_history.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/sentences.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace rasq {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Token i's embedding is the unit vector i.
constexpr int kDimensions = 32;
absl::StatusOr<std::vector<float>> MeanOfUnits(absl::Span<const int32_t> ids) {
  std::vector<double> sum(kDimensions);
  double square = 0;
  for (const int32_t id : ids) ++sum[id];
  for (const double x : sum) square += x * x;
  std::vector<float> unit;
  for (const double x : sum) {
    unit.push_back(square > 0 ? static_cast<float>(x / std::sqrt(square)) : 0);
  }
  return unit;
}

absl::StatusOr<std::vector<float>> NoEmbedding(absl::Span<const int32_t>) {
  return absl::InternalError("not asked for");
}

TextEmbedder EmbedderOf(RagRetriever retriever) {
  if (retriever == RagRetriever::kEmbeddings) return MeanOfUnits;
  return NoEmbedding;
}

// Sentences end with token 9.
const std::vector<bool>& Ends() {
  static const std::vector<bool> ends = {false, false, false, false, false,
                                         false, false, false, false, true};
  return ends;
}

TokenHistory Made(const RagOptions& options, const std::vector<int32_t>& ids) {
  TokenHistory history(options, &Ends(), /*position=*/0);
  history.Append(ids);
  const auto indexed = history.Index(INT64_MAX, EmbedderOf(options.retriever));
  EXPECT_TRUE(indexed.ok() && *indexed);
  return history;
}

// What it is cut into: all chunks are read.
std::vector<std::vector<int32_t>> Chunks(const TokenHistory& history, RagRetriever retriever) {
  const auto passages = history.Search({}, {}, EmbedderOf(retriever));
  EXPECT_TRUE(passages.ok()) << passages.status();
  std::vector<std::vector<int32_t>> ids;
  for (const Passage& passage : *passages) ids.push_back(passage.input->ids);
  return ids;
}

std::vector<int64_t> Found(const TokenHistory& history, const RagOptions& options,
                           const std::vector<int32_t>& question,
                           const std::vector<int32_t>& tail = {}) {
  const auto passages = history.Search(question, tail, EmbedderOf(options.retriever));
  EXPECT_TRUE(passages.ok()) << passages.status();
  std::vector<int64_t> positions;
  for (const Passage& passage : *passages) positions.push_back(passage.position);
  return positions;
}

TEST(TokenHistoryTest, ChunksOfEqualLength) {
  const TokenHistory history = Made({.chunk_tokens = 3, .chunks = 9}, {1, 2, 3, 4, 5, 6, 7});
  EXPECT_THAT(Chunks(history, RagRetriever::kBm25),
              ElementsAre(ElementsAre(1, 2, 3), ElementsAre(4, 5, 6), ElementsAre(7)));
  EXPECT_EQ(history.size(), 7);
  EXPECT_THAT(history.Tokens(), ElementsAre(1, 2, 3, 4, 5, 6, 7));
}

TEST(TokenHistoryTest, Sentences) {
  const TokenHistory history =
      Made({.chunk_tokens = 6, .chunks = 9, .split = RagSplit::kSentences},
           {1, 2, 3, 4, 9, 5, 9, 2, 9, 1, 2, 3, 4, 5, 6, 7, 8, 1, 9, 3, 9});
  EXPECT_THAT(Chunks(history, RagRetriever::kBm25),
              ElementsAre(ElementsAre(1, 2, 3, 4, 9),
                          ElementsAre(5, 9, 2, 9),        // two of less than four tokens
                          ElementsAre(1, 2, 3, 4, 5, 6),  // as long as one may be
                          ElementsAre(7, 8, 1, 9), ElementsAre(3, 9)));
}

TEST(TokenHistoryTest, TheOldestChunksFallOut) {
  const RagOptions options{.chunk_tokens = 3, .chunks = 9, .history_tokens = 7};
  TokenHistory history(options, &Ends(), /*position=*/0);
  std::vector<int64_t> held;
  for (int32_t id = 0; id < 12; ++id) {
    history.Append({&id, 1});
    ASSERT_TRUE(history.Index(INT64_MAX, NoEmbedding).ok());
    held.push_back(history.size());
  }
  // Whole chunks go when an eighth token comes.
  EXPECT_THAT(held, ElementsAre(1, 2, 3, 4, 5, 6, 7, 5, 6, 7, 5, 6));
  EXPECT_THAT(history.Tokens(), ElementsAre(6, 7, 8, 9, 10, 11));
  EXPECT_THAT(Found(history, options, {1}), ElementsAre(6, 9));
  // The index is that of a history that never had them.
  TokenHistory fresh(options, &Ends(), /*position=*/6);
  fresh.Append({6, 7, 8, 9, 10, 11});
  ASSERT_TRUE(fresh.Index(INT64_MAX, NoEmbedding).ok());
  EXPECT_EQ(history.bytes(), fresh.bytes());
  const auto a = history.Search({7, 11, 11}, {}, NoEmbedding);
  const auto b = fresh.Search({7, 11, 11}, {}, NoEmbedding);
  ASSERT_EQ(a->size(), 2u);
  for (int i = 0; i < 2; ++i) EXPECT_EQ((*a)[i].score, (*b)[i].score);
}

TEST(TokenHistoryTest, Bm25ByHand) {
  // Four chunks of two tokens and an open one of one: N = 5, mean length 9/5.
  const RagOptions options{.chunk_tokens = 2, .chunks = 5, .order = RagOrder::kScore};
  const TokenHistory history = Made(options, {1, 2, 3, 3, 1, 4, 5, 6, 3});
  const auto passages = history.Search({3, 1, 7}, {}, NoEmbedding);
  ASSERT_TRUE(passages.ok());
  std::map<int64_t, double> scores;
  for (const Passage& passage : *passages) scores[passage.position] = passage.score;
  // Token 3 is in two chunks, twice in one; so is token 1; token 7 is in none.
  const double idf = std::log(1 + 3.5 / 2.5);
  const double of_two = 1.2 * (0.25 + 0.75 * 2 / 1.8), of_one = 1.2 * (0.25 + 0.75 * 1 / 1.8);
  EXPECT_NEAR(scores[0], idf * 2.2 / (1 + of_two), 1e-12);
  EXPECT_NEAR(scores[2], idf * 2 * 2.2 / (2 + of_two), 1e-12);
  EXPECT_NEAR(scores[4], idf * 2.2 / (1 + of_two), 1e-12);
  EXPECT_EQ(scores[6], 0);
  EXPECT_NEAR(scores[8], idf * 2.2 / (1 + of_one), 1e-12);
  // The shorter of two that hold it once is better; between equals the newer.
  EXPECT_THAT(Found(history, options, {3, 1, 7}), ElementsAre(2, 8, 4, 0, 6));
  // A token asked for twice counts twice.
  EXPECT_THAT(Found(history, options, {1, 1, 3}), ElementsAre(4, 0, 2, 8, 6));
}

TEST(TokenHistoryTest, CosinesByHand) {
  const RagOptions options{.chunk_tokens = 2,
                           .chunks = 2,
                           .order = RagOrder::kScore,
                           .retriever = RagRetriever::kEmbeddings};
  const TokenHistory history = Made(options, {1, 2, 3, 3, 1, 1, 4});
  const auto passages = history.Search({1, 1, 2}, {}, MeanOfUnits);
  ASSERT_TRUE(passages.ok());
  ASSERT_EQ(passages->size(), 2u);
  // (2, 1)/sqrt 5 with (1, 1)/sqrt 2, and with (1, 0).
  EXPECT_EQ((*passages)[0].position, 0);
  EXPECT_NEAR((*passages)[0].score, 3 / std::sqrt(10), 1e-6);
  EXPECT_EQ((*passages)[1].position, 4);
  EXPECT_NEAR((*passages)[1].score, 2 / std::sqrt(5), 1e-6);
}

TEST(TokenHistoryTest, OrderAndNumber) {
  for (const RagRetriever retriever : {RagRetriever::kBm25, RagRetriever::kEmbeddings}) {
    RagOptions options{.chunk_tokens = 2, .chunks = 2, .retriever = retriever};
    const std::vector<int32_t> ids = {1, 5, 2, 6, 3, 3, 4, 7, 8, 8};
    EXPECT_THAT(Found(Made(options, ids), options, {3, 3, 5}), ElementsAre(0, 4));
    options.order = RagOrder::kScore;
    EXPECT_THAT(Found(Made(options, ids), options, {3, 3, 5}), ElementsAre(4, 0));
    // Nothing in common, or no question: the newest.
    EXPECT_THAT(Found(Made(options, ids), options, {9}), ElementsAre(8, 6));
    EXPECT_THAT(Found(Made(options, ids), options, {}), ElementsAre(8, 6));
    options.chunks = 100;
    options.order = RagOrder::kChronological;
    EXPECT_THAT(Found(Made(options, ids), options, {3}), ElementsAre(0, 2, 4, 6, 8));
    EXPECT_THAT(Found(Made(options, {}), options, {3}), IsEmpty());
  }
}

TEST(TokenHistoryTest, TheOpenChunkIsSearchedWithItsTail) {
  for (const RagRetriever retriever : {RagRetriever::kBm25, RagRetriever::kEmbeddings}) {
    const RagOptions options{.chunk_tokens = 3, .chunks = 1, .retriever = retriever};
    const TokenHistory history = Made(options, {1, 2, 3, 4});
    EXPECT_THAT(Found(history, options, {4}), ElementsAre(3));
    EXPECT_THAT(Found(history, options, {6}, {5, 6}), ElementsAre(3));
    const auto passages = history.Search({6}, {5, 6}, EmbedderOf(retriever));
    EXPECT_THAT(passages->front().input->ids, ElementsAre(4, 5, 6));
    // The tail may be all that there is behind the closed ones.
    EXPECT_THAT(Found(Made(options, {1, 2, 3}), options, {6}, {6}), ElementsAre(3));
    EXPECT_EQ(history.size(), 4);
  }
}

// In any pieces, with the index behind by any number of tokens, and by way of a copy.
TEST(TokenHistoryTest, PiecesAndCopiesMakeNoDifference) {
  std::mt19937_64 random(1);
  std::vector<int32_t> ids(500);
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % kDimensions);
  for (const RagRetriever retriever : {RagRetriever::kBm25, RagRetriever::kEmbeddings}) {
    for (const RagSplit split : {RagSplit::kTokens, RagSplit::kSentences}) {
      const RagOptions options{.chunk_tokens = 16,
                               .chunks = 4,
                               .split = split,
                               .order = RagOrder::kScore,
                               .retriever = retriever,
                               .history_tokens = 200};
      const TokenHistory whole = Made(options, ids);
      auto pieces = std::make_unique<TokenHistory>(options, &Ends(), 0);
      for (size_t at = 0; at < ids.size();) {
        const size_t size = std::min<size_t>(1 + random() % 40, ids.size() - at);
        pieces->Append(absl::MakeConstSpan(ids).subspan(at, size));
        ASSERT_TRUE(pieces->Index(/*tokens=*/20, EmbedderOf(retriever)).ok());
        at += size;
        if (at % 3 == 0) pieces = std::make_unique<TokenHistory>(*pieces);
      }
      TokenHistory& history = *pieces;
      ASSERT_TRUE(*history.Index(INT64_MAX, EmbedderOf(retriever)));
      EXPECT_EQ(history.Tokens(), whole.Tokens());
      EXPECT_EQ(history.bytes(), whole.bytes());
      EXPECT_LE(history.size(), 200);
      for (int32_t id = 0; id < kDimensions; ++id) {
        EXPECT_EQ(Found(history, options, {id, 3, 5}), Found(whole, options, {id, 3, 5})) << id;
      }
    }
  }
}

TEST(TokenHistoryTest, AFaultOfTheIndexIsTold) {
  TokenHistory history({.chunk_tokens = 2, .chunks = 1, .retriever = RagRetriever::kEmbeddings},
                       &Ends(), 0);
  history.Append({1, 2, 3});
  EXPECT_FALSE(history.is_indexed());
  EXPECT_EQ(history.Index(10, NoEmbedding).status().message(), "not asked for");
}

TEST(SentencesTest, EndsOfBytes) {
  const auto tokenizer = Tokenizer::OfBytes();
  const std::vector<bool> ends = SentenceEnds(*tokenizer);
  std::string found;
  for (size_t i = 0; i < ends.size(); ++i) {
    if (ends[i]) found += static_cast<char>(i);
  }
  EXPECT_EQ(found, "\n!.?");
}

// Of strategy attention_rag: nothing is searched, all is read.
TEST(TokenHistoryTest, ChunksWithoutARetriever) {
  const RagOptions options =
      HistoryOptions({.strategy = Strategy::kAttentionRag,
                      .attention_rag = {.chunk_tokens = 3, .top_tokens = 1, .history_tokens = 7}});
  TokenHistory history(options, &Ends(), /*position=*/0);
  history.Append({1, 2, 3, 4, 5, 6, 7, 8});
  const auto indexed = history.Index(INT64_MAX, NoEmbedding);
  ASSERT_TRUE(indexed.ok() && *indexed);
  EXPECT_EQ(history.size(), 5);
  const auto chunks = [&](const std::vector<int32_t>& tail) {
    std::vector<std::pair<int64_t, std::vector<int32_t>>> found;
    for (const Passage& passage : history.Chunks(tail)) {
      found.emplace_back(passage.position, passage.input->ids);
    }
    return found;
  };
  using Ids = std::vector<int32_t>;
  EXPECT_THAT(chunks({}),
              ElementsAre(std::pair(int64_t{3}, Ids{4, 5, 6}), std::pair(int64_t{6}, Ids{7, 8})));
  EXPECT_THAT(chunks({9, 10, 11}),
              ElementsAre(std::pair(int64_t{3}, Ids{4, 5, 6}), std::pair(int64_t{6}, Ids{7, 8, 9}),
                          std::pair(int64_t{9}, Ids{10, 11})));
}

}  // namespace
}  // namespace rasq
