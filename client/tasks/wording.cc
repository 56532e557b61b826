#include "client/tasks/wording.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace rasq::tasks {
namespace {

void Append(Random& random, absl::string_view pattern, Slots slots, std::string& text) {
  while (!pattern.empty()) {
    const size_t special = pattern.find_first_of("<{");
    absl::StrAppend(&text, pattern.substr(0, special));
    if (special == absl::string_view::npos) return;
    const bool slot = pattern[special] == '{';
    const size_t end = pattern.find(slot ? '}' : '>', special);
    const absl::string_view inside = pattern.substr(special + 1, end - special - 1);
    pattern.remove_prefix(end + 1);
    if (slot) {
      const auto found = std::find_if(slots.begin(), slots.end(),
                                      [&](const auto& known) { return known.first == inside; });
      absl::StrAppend(&text, found->second);
    } else {
      const std::vector<absl::string_view> alternatives = absl::StrSplit(inside, '|');
      Append(random, random.Pick(alternatives), slots, text);
    }
  }
}

}  // namespace

size_t PickIndex(Random& random, Split split, size_t size) {
  const size_t held_out = size / kHeldOutStride;  // the last of every eight
  if (held_out == 0) return random.Below(static_cast<int64_t>(size));
  if (split == Split::kHeldOut) {
    return random.Below(static_cast<int64_t>(held_out)) * kHeldOutStride + kHeldOutStride - 1;
  }
  const size_t index = random.Below(static_cast<int64_t>(size - held_out));
  // Steps over the held-out ones before it.
  return std::min(index + index / (kHeldOutStride - 1), size - 1);
}

bool Fits(Split split, absl::string_view made_up) {
  uint64_t hash = 0xCBF29CE484222325u;  // FNV-1a
  for (const char c : made_up) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3u;
  return (hash >> 32) % 16 == 0 ? split == Split::kHeldOut : split == Split::kTraining;
}

std::string Fill(Random& random, absl::string_view pattern, Slots slots) {
  const bool as_it_is = absl::ConsumePrefix(&pattern, "~");
  const bool slot_first = absl::StartsWith(pattern, "{");
  std::string text;
  Append(random, pattern, slots, text);
  if (!text.empty() && !as_it_is && (!slot_first || absl::StartsWith(text, "the "))) {
    text[0] = absl::ascii_toupper(text[0]);
  }
  return text;
}

std::string Concat(std::initializer_list<absl::AlphaNum> parts) {
  std::string text;
  for (const absl::AlphaNum& part : parts) absl::StrAppend(&text, part.Piece());
  return text;
}

std::string WithArticle(absl::string_view noun) {
  const bool vowel =
      !noun.empty() && absl::string_view("aeiouAEIOU").find(noun[0]) != absl::string_view::npos;
  return absl::StrCat(vowel ? "an " : "a ", noun);
}

std::string Plural(absl::string_view noun) {
  const auto ends = [&](absl::string_view end) { return absl::EndsWith(noun, end); };
  const bool vowel_y = ends("ay") || ends("ey") || ends("oy") || ends("uy");
  if (ends("y") && !vowel_y) return absl::StrCat(noun.substr(0, noun.size() - 1), "ies");
  if (ends("s") || ends("x") || ends("z") || ends("ch") || ends("sh")) {
    return absl::StrCat(noun, "es");
  }
  return absl::StrCat(noun, "s");
}

std::string JoinList(const std::vector<std::string>& items) {
  std::string text;
  for (size_t i = 0; i < items.size(); ++i) {
    absl::StrAppend(&text, i == 0 ? "" : i + 1 == items.size() ? " and " : ", ", items[i]);
  }
  return text;
}

}  // namespace rasq::tasks
