// Where sentences end, told by tokens alone: for methods that keep or look up whole sentences.
#pragma once

#include <vector>

#include "engine/tokenizer/tokenizer.h"

namespace rasq {

// Of each id of the vocabulary whether a sentence ends with it: its text holds a newline, or ends
// in . ! or ? but for spaces, quotes and brackets behind it. A token that stands for several
// characters counts as a whole, and an abbreviation's dot as any other.
std::vector<bool> SentenceEnds(const Tokenizer& tokenizer);

}  // namespace rasq
