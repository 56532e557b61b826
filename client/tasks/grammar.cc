#include "client/tasks/grammar.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace rasq::tasks {
namespace {

size_t EndOfName(absl::string_view text) {
  size_t end = 0;
  while (end < text.size() && (absl::ascii_isalpha(text[end]) || text[end] == '_')) ++end;
  return end;
}

}  // namespace

Grammar::Grammar(std::initializer_list<Rule> rules) : rules_(rules.begin(), rules.end()) {}

void Grammar::Expand(Random& random, absl::string_view pattern, Slots slots, Text& out) const {
  const auto append = [&](absl::string_view piece, bool is_slot) {
    if (piece.empty()) return;
    const size_t at = out.text.size();
    absl::StrAppend(&out.text, piece);
    if (out.capital && (!is_slot || absl::StartsWith(piece, "the "))) {
      out.text[at] = absl::ascii_toupper(out.text[at]);
    }
    out.capital = false;
  };
  while (!pattern.empty()) {
    const size_t special = pattern.find_first_of("@<{^~");
    append(pattern.substr(0, special), /*is_slot=*/false);
    if (special == absl::string_view::npos) return;
    const char mark = pattern[special];
    pattern.remove_prefix(special + 1);
    if (mark == '^' || mark == '~') {
      out.capital = mark == '^';
      continue;
    }
    if (mark == '@') {
      const size_t end = EndOfName(pattern);
      Expand(random, random.Pick(rules_.at(pattern.substr(0, end))), slots, out);
      pattern.remove_prefix(end);
      continue;
    }
    const size_t end = pattern.find(mark == '{' ? '}' : '>');
    const absl::string_view inside = pattern.substr(0, end);
    pattern.remove_prefix(end + 1);
    if (mark == '{') {
      const auto found = std::find_if(slots.begin(), slots.end(),
                                      [&](const auto& known) { return known.first == inside; });
      append(found->second, /*is_slot=*/true);
    } else {
      // One of them, without a list of all.
      auto choice = random.Below(std::count(inside.begin(), inside.end(), '|') + 1);
      size_t begin = 0;
      for (; choice > 0; --choice) begin = inside.find('|', begin) + 1;
      Expand(random, inside.substr(begin, inside.find('|', begin) - begin), slots, out);
    }
  }
}

std::string Grammar::Say(Random& random, absl::string_view rule, Slots slots) const {
  return SayPattern(random, random.Pick(rules_.at(rule)), slots);
}

std::string Grammar::SayPattern(Random& random, absl::string_view pattern, Slots slots) const {
  Text out;
  Expand(random, pattern, slots, out);
  return std::move(out.text);
}

std::vector<absl::string_view> Grammar::Templates() const {
  std::vector<absl::string_view> templates;
  for (const auto& [unused, alternatives] : rules_) {
    for (const absl::string_view alternative : alternatives) {
      if (absl::StrContains(alternative, '{')) templates.push_back(alternative);
    }
  }
  return templates;
}

}  // namespace rasq::tasks
