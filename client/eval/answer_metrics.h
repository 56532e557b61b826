// How close an answer is to the one that was wanted. All measures compare normalised words.
#pragma once

#include <string>
#include <utility>
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

// BLEU-4 of a corpus (Papineni et al. 2002) with its brevity penalty and without smoothing: pairs
// of got and wanted. 0 if some n-gram length up to 4 has no match at all, as is the rule for
// answers of few words.
double Bleu(const std::vector<std::pair<std::string, std::string>>& pairs);

}  // namespace rasq::client
