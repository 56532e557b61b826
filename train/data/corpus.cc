#include "train/data/corpus.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <numeric>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "kernels/base/status.h"
#include "train/data/dialogues.h"

namespace rasq::train {
namespace {

constexpr size_t kPieceBytes = 1 << 18;
constexpr double kSeveralPieces = 0.3;  // share of slices that are put together
constexpr int64_t kMostPieces = 6;

// What one thread tokenises at a time. A cut behind a line, before what is no space, changes no
// token.
struct Piece {
  absl::string_view text;
  bool begins_document;
  std::vector<int32_t> tokens;
};

void AddPieces(absl::string_view text, std::vector<Piece>& pieces) {
  bool begin = true;
  while (!text.empty()) {
    size_t end = kPieceBytes;
    while (end < text.size() && (text[end - 1] != '\n' || absl::ascii_isspace(text[end]))) ++end;
    pieces.push_back({.text = text.substr(0, end), .begins_document = begin});
    text.remove_prefix(std::min(end, text.size()));
    begin = false;
  }
}

}  // namespace

absl::StatusOr<Corpus> Corpus::Load(const std::vector<std::string>& paths,
                                    const Tokenizer& tokenizer, tasks::Split split,
                                    int num_threads) {
  std::vector<Document> documents;
  for (const std::string& path : paths) {
    if (absl::EndsWith(absl::StripSuffix(path, ".xz"), ".jsonl")) {
      RASQ_ASSIGN_OR_RETURN(std::vector<Document> dialogues, ReadDialogueText(path, split));
      std::move(dialogues.begin(), dialogues.end(), std::back_inserter(documents));
      continue;
    }
    RASQ_ASSIGN_OR_RETURN(const std::string text, ReadText(path));
    for (Document& document : SplitDocuments(text, path)) {
      if (InSplit(split, document.id)) documents.push_back(std::move(document));
    }
  }
  Corpus corpus = FromDocuments(documents, tokenizer, num_threads);
  if (corpus.num_tokens() == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(absl::StrJoin(paths, ", "), ": no text of the split"));
  }
  return corpus;
}

Corpus Corpus::FromDocuments(const std::vector<Document>& documents, const Tokenizer& tokenizer,
                             int num_threads) {
  std::vector<Piece> pieces;
  for (const Document& document : documents) AddPieces(document.text, pieces);

  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i = next++; i < pieces.size(); i = next++) {
      pieces[i].tokens = tokenizer.Encode(pieces[i].text);
    }
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < num_threads; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();

  Corpus corpus;
  size_t total = 0;
  for (const Piece& piece : pieces) total += piece.tokens.size();
  corpus.tokens_.reserve(total);
  for (Piece& piece : pieces) {
    if (piece.begins_document) corpus.document_starts_.push_back(corpus.num_tokens());
    corpus.tokens_.insert(corpus.tokens_.end(), piece.tokens.begin(), piece.tokens.end());
    piece.tokens = {};
  }
  return corpus;
}

void Corpus::AppendSlice(tasks::Random& random, int64_t count, std::vector<int32_t>& tokens) const {
  const bool several = random.Chance(kSeveralPieces);
  const int64_t pieces = several ? random.Between(2, kMostPieces) : 1;
  const int64_t first = random.Below(num_tokens());
  std::vector<int64_t> order(pieces);
  std::iota(order.begin(), order.end(), 0);
  random.Shuffle(order);
  for (const int64_t piece : order) {
    // Shares that add up to `count`, of which none is longer than the way to the next piece.
    const int64_t begin = piece * count / pieces, end = (piece + 1) * count / pieces;
    AppendRun((first + piece * num_tokens() / pieces) % num_tokens(), end - begin, tokens);
  }
}

void Corpus::AppendRun(int64_t from, int64_t count, std::vector<int32_t>& tokens) const {
  while (count > 0) {
    const int64_t taken = std::min(count, num_tokens() - from);
    tokens.insert(tokens.end(), tokens_.begin() + from, tokens_.begin() + from + taken);
    count -= taken;
    from = 0;
  }
}

}  // namespace rasq::train
