// Wordings put together from parts, so that a few hundred productions make many thousands of
// sentences.
#pragma once

#include <initializer_list>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "client/tasks/random.h"
#include "client/tasks/wording.h"

namespace rasq::tasks {

class Grammar {
 public:
  // A rule and its alternatives, of which each is chosen as often as it is listed.
  using Rule = std::pair<absl::string_view, Words>;
  Grammar(std::initializer_list<Rule> rules);

  // Expands a rule. In its alternatives "@name" stands for another rule ("<@name>" before a
  // letter), "<a|b>" for a choice, "{slot}" for a slot's value; "^" makes the next letter a
  // capital, if it is no slot's, or is that of a slot's "the", and so does the begin of the text;
  // "~" takes that back. REQUIRES: the rule exists, and every rule and slot that it reaches.
  std::string Say(Random& random, absl::string_view rule, Slots slots) const;
  // A text written as an alternative is.
  std::string SayPattern(Random& random, absl::string_view pattern, Slots slots) const;

  // Every alternative of every rule that has a slot: two grammars without a common one share no
  // template.
  std::vector<absl::string_view> Templates() const;

 private:
  struct Text {
    std::string text;
    bool capital = true;  // the next letter
  };
  void Expand(Random& random, absl::string_view pattern, Slots slots, Text& out) const;

  std::map<absl::string_view, Words> rules_;
};

}  // namespace rasq::tasks
