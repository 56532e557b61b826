#include "client/tasks/variable_chains.h"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/tasks/names.h"
#include "client/tasks/values.h"
#include "client/tasks/wording.h"

namespace rasq::tasks {
namespace {

enum class Naming { kLetters, kWords, kPeople, kThings };

struct Style {
  Naming naming;
  Words first;      // {x} gets the value {v}
  Words next;       // {x} gets what {y} has
  Words questions;  // the value of {x}
  Words all;        // which names have the value {v}
};
const std::vector<Style> kStyles = {
    {Naming::kLetters,
     {"VAR {x} = {v}"},
     {"VAR {x} = VAR {y}"},
     {"what is the value of VAR {x}?", "VAR {x} = ?", "which value does VAR {x} have?"},
     {"find all variables that are assigned the value {v}.", "which variables hold {v}?"}},
    {Naming::kWords,
     {"~let {x} = {v};", "~int {x} = {v};"},
     {"~let {x} = {y};", "~int {x} = {y};"},
     {"what does {x} evaluate to?", "~print({x});", "what is {x} equal to?"},
     {"which variables are equal to {v}?"}},
    {Naming::kWords,
     {"{x} := {v}", "set {x} to {v}."},
     {"{x} := {y}", "set {x} to {y}."},
     {"what is {x} set to?", "the value of {x}?", "to what number is {x} set?"},
     {"what was set to {v}, directly or not?"}},
    {Naming::kThings,
     {"the number of {x} is {v}.", "{x} has the number {v}."},
     {"{x} has the same number as {y}.", "the number of {x} is that of {y}."},
     {"what is the number of {x}?", "which number does {x} have?"},
     {"what has the number {v}?"}},
    {Naming::kPeople,
     {"{x} <holds|was handed|owns> the card with number {v}.", "{x} picked the number {v}."},
     {"{x} chose the same number as {y}.", "{x} copies the number of {y}."},
     {"which number did {x} end up with?", "what is {x}'s number?"},
     {"who has the number {v}?"}},
    {Naming::kLetters,
     {"ASSIGN {v} TO {x}", "{x} : {v}"},
     {"ASSIGN {y} TO {x}", "{x} : {y}"},
     {"what was assigned to {x}?", "which value ends up in {x}?"},
     {"which names were assigned {v}?"}},
    {Naming::kThings,
     {"to open {x} you need {v}.", "{x} opens with {v}."},
     {"{x} opens with whatever opens {y}.", "to open {x}, use the number for {y}."},
     {"with which number does {x} open?", "what opens {x}?"},
     {"what can be opened with {v}?"}},
    {Naming::kWords,
     {"register {x} contains {v}.", "load {v} into {x}."},
     {"copy {y} into {x}.", "register {x} takes the content of {y}."},
     {"what does register {x} contain?", "what is in register {x}?"},
     {"which registers contain {v}?"}},
    {Naming::kPeople,
     {"{x} sits in seat {v}.", "seat {v} belongs to {x}."},
     {"{x} gets the seat of {y}.", "the seat of {y} goes on to {x}."},
     {"which seat did {x} get?", "what is the seat of {x}?"},
     {"who had seat {v}?"}},
    {Naming::kThings,
     {"{x} weighs {v} grams.", "the scales show {v} grams for {x}."},
     {"{x} weighs as much as {y}.", "the scales show the same for {x} as for {y}."},
     {"how many grams does {x} weigh?", "what is the weight of {x} in grams?"},
     {"what weighs {v} grams?"}},
    {Naming::kLetters,
     {"~def {x}: return {v}", "{x} = {v}"},
     {"~def {x}: return {y}()", "{x} = {y}"},
     {"what does {x} return?", "{x} = ?", "what is {x}?"},
     {"what returns {v}?"}},
    {Naming::kPeople,
     {"{x} lives at number {v}.", "the house of {x} has the number {v}."},
     {"{x} moved in with {y}.", "{x} lives in the house of {y}."},
     {"at which number does {x} live?", "what is the house number of {x}?"},
     {"who lives at number {v}?"}},
    {Naming::kWords,
     {"define {x} as {v}.", "the constant {x} is {v}."},
     {"define {x} as {y}.", "the constant {x} is an alias of {y}."},
     {"as what is {x} defined?", "what is the constant {x}?"},
     {"which constants are {v}?"}},
    {Naming::kThings,
     {"{x} is stored on shelf {v}.", "look for {x} on shelf {v}."},
     {"{x} is stored beside {y}, on the same shelf.", "{x} shares its shelf with {y}."},
     {"on which shelf is {x} stored?", "which shelf holds {x}?"},
     {"what is stored on shelf {v}?"}},
    {Naming::kPeople,
     {"{x} bids {v}.", "the bid of {x} is {v}."},
     {"{x} bids exactly what {y} bids.", "{x} joins the bid of {y}."},
     {"how much does {x} bid?", "what is the bid of {x}?"},
     {"who bids {v}?"}},
    {Naming::kWords,
     {"cell {x} shows {v}.", "type {v} into cell {x}."},
     {"cell {x} points to cell {y}.", "type ={y} into cell {x}."},
     {"what does cell {x} show?", "which number is in cell {x}?"},
     {"which cells show {v}?"}},
};

std::string MakeName(Random& random, Split split, Naming naming) {
  switch (naming) {
    case Naming::kLetters:
      return MakeFitting(split, [&] {
        std::string name;
        const int64_t size = random.Between(3, 5);
        for (int64_t i = 0; i < size; ++i) name += static_cast<char>('A' + random.Below(26));
        return name;
      });
    case Naming::kWords:
      return random.Chance(0.7) ? MakeWord(random, split)
                                : absl::StrCat(PickFrom(random, split, Nouns()), "_",
                                               PickFrom(random, split, Nouns()));
    case Naming::kPeople:
      return MakePersonName(random, split);
    case Naming::kThings:
      return absl::StrCat("the ", MakeValue(random, split, ValueKind::kTwoWords));
  }
  return "";
}

struct Chain {
  std::string value;
  std::vector<std::string> names;
  std::vector<int> facts;  // that name each of them
};

}  // namespace

Episode MakeVariableChains(Random& random, Split split, int num_facts) {
  const Style& style = PickFrom(random, split, kStyles);
  const int64_t longest = random.Between(2, 5);
  std::vector<Chain> chains;
  std::vector<size_t> order;  // which chain the next fact goes on with
  std::set<std::string> values, names;
  while (static_cast<int>(order.size()) < num_facts) {
    order.insert(order.end(), random.Between(1, longest), chains.size());
    chains.push_back(
        {.value = MakeFresh(values, [&] { return MakeValue(random, split, ValueKind::kDigits); })});
  }
  order.resize(num_facts);
  if (random.Chance(0.5)) random.Shuffle(order);

  Episode episode;
  const auto make_name = [&] { return MakeName(random, split, style.naming); };
  for (int fact = 0; fact < num_facts; ++fact) {
    Chain& chain = chains[order[fact]];
    const std::string name = MakeFresh(names, make_name);
    const std::string from = chain.names.empty() ? "" : chain.names.back();
    episode.facts.push_back(Fill(random,
                                 random.Pick(chain.names.empty() ? style.first : style.next),
                                 {{"x", name}, {"y", from}, {"v", chain.value}}));
    chain.names.push_back(name);
    chain.facts.push_back(fact);
  }

  for (const Chain& chain : chains) {
    if (chain.names.empty()) continue;
    const auto ask = [&](size_t last, std::string text, std::string answer) {
      Question question{.text = std::move(text), .answer = std::move(answer)};
      for (size_t i = 0; i <= last; ++i) {
        question.evidence.push_back(WholeFact(episode, chain.facts[i]));
      }
      episode.questions.push_back(std::move(question));
    };
    const size_t last = random.Below(static_cast<int64_t>(chain.names.size()));
    ask(last, Fill(random, random.Pick(style.questions), {{"x", chain.names[last]}}), chain.value);
    if (chain.names.size() > 1 && random.Chance(0.2)) {
      ask(chain.names.size() - 1, Fill(random, random.Pick(style.all), {{"v", chain.value}}),
          JoinList(chain.names));
    }
  }
  random.Shuffle(episode.questions);
  LetAnswersHoldToTheEnd(episode);
  return episode;
}

}  // namespace rasq::tasks
