// How close an answer is to the one that was wanted. Measures compare normalised words, where they
// do not say otherwise.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace rasq::client {

// As SQuAD normalises (Rajpurkar et al. 2016, arXiv:1606.05250): small letters, no ASCII
// punctuation, no words "a", "an", "the", one space between words. Letters beyond ASCII stay as
// they are.
std::string NormaliseAnswer(absl::string_view answer);
// The words of the normalised answer.
std::vector<std::string> AnswerWords(absl::string_view answer);

bool ExactMatch(absl::string_view got, absl::string_view want);
// Harmonic mean of precision and recall of words, counted as often as they occur. If one side has
// no words: 1 if the other has none either.
double TokenF1(absl::string_view got, absl::string_view want);
// The same of the longest common subsequence (Lin 2004, with beta 1).
double RougeL(absl::string_view got, absl::string_view want);

// RULER's measure (Hsieh et al. 2024, arXiv:2404.06654): the share of `references`, not empty, that
// are somewhere in the answer as they are, but for capitals.
double ContainedShare(absl::string_view got, const std::vector<std::string>& references);

// BABILong's measure (Kuratov et al. 2024, arXiv:2406.10149): of the task's labels that the
// question does not hold, the answer up to its first '.' holds `want` alone; if `want` lists
// several, with commas, all of these alone. Capitals do not count. None if the task has no such
// labels: only bAbI's tasks 1 to 10 do.
std::optional<bool> BabilongMatch(int babi_task, absl::string_view question, absl::string_view got,
                                  absl::string_view want);

// What BLEU counts in a pair of got and wanted, or in a corpus of them.
struct BleuCounts {
  static constexpr size_t kOrders = 4;
  std::array<int64_t, kOrders> matches = {}, totals = {};  // of runs of 1 to 4 words
  int64_t got_words = 0, want_words = 0;

  void Add(const BleuCounts& other);
  // BLEU-4 of a corpus (Papineni et al. 2002) with its brevity penalty and without smoothing. 0 if
  // some n-gram length up to 4 has no match at all, as is the rule for answers of few words.
  double Bleu() const;
};
BleuCounts CountForBleu(absl::string_view got, absl::string_view want);

}  // namespace rasq::client
