// RULER's aggregation tasks (Hsieh et al. 2024, arXiv:2404.06654, section 3): all of the text is a
// list of words, and asked for are those that come most often. The words are made up.
#pragma once

#include <cstdint>

#include "client/tasks/episode.h"
#include "client/tasks/random.h"

namespace rasq::tasks {

// A numbered list: some words come often, all others seldom.
struct CommonWordsOptions {
  int num_common = 10;     // at least 1
  int common_count = 30;   // times that each of them comes, more than uncommon_count
  int uncommon_count = 3;  // times that any other word comes, at least 1
};
// How many entries make a list with at least one seldom word.
int64_t MinCommonWordsEntries(const CommonWordsOptions& options);
// About `num_entries`, at least as many as above: seldom words fill up.
Episode MakeCommonWords(Random& random, Split split, const CommonWordsOptions& options,
                        int64_t num_entries);

// Running words whose counts follow Zipf's law: the word of rank k comes in proportion to
// k^-exponent. Instead of the word of rank 1 stands "...", as if it were noise; asked for are the
// words of the ranks after it.
struct FrequentWordsOptions {
  double exponent = 2;  // above 1
  int num_asked = 3;    // at least 1
};
// About `num_words` (rounded down for each rank). Without a question if these are so few that the
// counts do not tell which words are asked for.
Episode MakeFrequentWords(Random& random, Split split, const FrequentWordsOptions& options,
                          int64_t num_words);

}  // namespace rasq::tasks
