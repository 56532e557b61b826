// How texts are worded: lists to choose from, with a part held out, and patterns to fill in.
#pragma once

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/tasks/episode.h"
#include "client/tasks/random.h"

namespace rasq::tasks {

using Words = std::vector<absl::string_view>;

// Of any list of at least this size every so-manyth entry is held out.
inline constexpr size_t kHeldOutStride = 8;

// An index below `size` that the split may use; any if `size` is below kHeldOutStride.
size_t PickIndex(Random& random, Split split, size_t size);

template <typename Container>
const auto& PickFrom(Random& random, Split split, const Container& list) {
  return list[PickIndex(random, split, std::size(list))];
}

// Whether the split may use a made-up text: a sixteenth of all is held out, by a hash.
bool Fits(Split split, absl::string_view made_up);

// Calls `make` until its text fits the split.
template <typename Make>
std::string MakeFitting(Split split, Make make) {
  for (;;) {
    std::string text = make();
    if (Fits(split, text)) return text;
  }
}

using Slots = std::initializer_list<std::pair<absl::string_view, absl::string_view>>;
// "<a|b>" becomes one of the alternatives, which may be empty and hold slots; "{name}" becomes the
// slot's value. The first letter becomes a capital, unless the pattern begins with "~", which is
// left out, or with a slot; but "the" becomes "The" there too. REQUIRES: every slot of the pattern
// is given.
std::string Fill(Random& random, absl::string_view pattern, Slots slots);

// absl::StrCat, but with arguments evaluated from left to right: random texts must not depend on
// the compiler.
std::string Concat(std::initializer_list<absl::AlphaNum> parts);

// "a" or "an", and the word.
std::string WithArticle(absl::string_view noun);
// "gauges", "entries", "switches".
std::string Plural(absl::string_view noun);
// "x", "x and y", "x, y and z".
std::string JoinList(const std::vector<std::string>& items);

}  // namespace rasq::tasks
